"""Python's own documentation as tokens: its language reference and the docstrings of its standard library."""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from nas.quality.text.data import TextData
from nas.quality.text.python_documents import python_documents

VOCABULARY, END = 512, "<|endoftext|>"
HELD_OUT_SHARE, SHORTEST = 0.1, 200


@cache
def python_text() -> TextData:
    """Made once in a process, in a few seconds; a document's hash decides whether it is held out."""
    texts = {hashlib.sha256(t.encode(errors="ignore")).digest(): t for t in python_documents() if len(t) >= SHORTEST}
    ordered = [texts[key] for key in sorted(texts)]
    held = [int.from_bytes(key[-4:], "big") < HELD_OUT_SHARE * 2**32 for key in sorted(texts)]
    training = [text for text, out in zip(ordered, held, strict=True) if not out]
    tokenizer = _learned(training)
    sizes = np.array([0 if token == END else len(token) for token in _tokens(tokenizer)], np.int32)
    return TextData(
        _stream(tokenizer, training),
        _stream(tokenizer, [text for text, out in zip(ordered, held, strict=True) if out]), sizes,
    )  # fmt: skip


def _learned(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.encode_special_tokens = True  # text that spells a marker stays text
    return tokenizer


def _tokens(tokenizer: Tokenizer) -> list[str]:
    """In byte-level BPE a character of a token stands for one byte."""
    return [str(tokenizer.id_to_token(index)) for index in range(tokenizer.get_vocab_size())]


def _stream(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    end = tokenizer.token_to_id(END)
    rows = [np.array([*encoded.ids, end], np.uint16) for encoded in tokenizer.encode_batch_fast(texts)]
    return np.concatenate(rows)
