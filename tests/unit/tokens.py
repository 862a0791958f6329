"""A byte-level tokenizer with ChatML's special tokens, for models of a few thousand weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from trainer.stages.data import save_tokenizer

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def byte_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    plain = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    plain.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    plain.add_special_tokens(list(SPECIAL))
    save_tokenizer(plain, folder)
    return AutoTokenizer.from_pretrained(folder)
