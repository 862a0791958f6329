"""Text in the tokens of a model that exists: nothing is cut from its vocabulary."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foundation.errors import InvalidConfig
from trainer.data.vocabulary import DOCUMENT_END, Vocabulary

HELD_OUT_SHARE = 0.2  # of a parent's text: what candidates are judged on must not be what they are healed on
BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


def own_vocabulary_of(folder: Path, vocab_size: int) -> tuple[Any, Vocabulary]:
    """The tokenizer of a Hugging Face directory, and a vocabulary in which every token stands for itself."""
    tokenizer = tokenizer_of(folder)
    end, ids = end_of_document(folder, tokenizer), np.arange(vocab_size, dtype=np.int32)
    offsets = np.arange(vocab_size + 1, dtype=np.int64)
    return tokenizer, Vocabulary(ids, ids, offsets, bytes_of_tokens(tokenizer, vocab_size), end, end)


def tokenizer_of(folder: Path) -> Any:
    from tokenizers import Tokenizer

    if not (folder / "tokenizer.json").exists():
        raise InvalidConfig(f"{folder} has no tokenizer.json; give a directory with one, or import without text")
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def end_of_document(folder: Path, tokenizer: Any) -> int:
    """The id that ends a document: the tokenizer's end of sequence, else a usual one."""
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder).eos_token_id
    usual = (tokenizer.token_to_id(token) for token in DOCUMENT_END)
    return int(found if found is not None else next((index for index in usual if index is not None), 0))


def bytes_of_tokens(tokenizer: Any, vocab_size: int) -> NDArray[np.int32]:
    """Bytes of text that each id stands for: 0 for special tokens and ids without a token."""
    special = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    sizes = np.zeros(vocab_size, np.int32)
    byte_level = "ByteLevel" in tokenizer.to_str()
    for token, index in tokenizer.get_vocab().items():
        if index < vocab_size and index not in special:
            sizes[index] = len(token) if byte_level else _spelled_bytes(token)
    return sizes


def _spelled_bytes(token: str) -> int:
    """SentencePiece writes a space as U+2581 and a byte as <0xAB>."""
    return 1 if BYTE_TOKEN.fullmatch(token) else len(token.replace("\u2581", " ").encode())
