"""Text that every Python brings along (the language reference inside ``pydoc_data``, PSF licence), and a tokenizer
for it."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END_OF_TEXT = "<|endoftext|>"
HELD_OUT_SHARE = 0.1


def documents() -> list[str]:
    from pydoc_data.topics import topics

    return [topics[name] for name in sorted(topics)]


def split() -> tuple[list[str], list[str]]:
    """(training, held-out) documents: every tenth is held out, so that both have the same kinds of text."""
    texts = documents()
    period = round(1 / HELD_OUT_SHARE)
    return [t for i, t in enumerate(texts) if i % period], [t for i, t in enumerate(texts) if i % period == 0]


def train_tokenizer(vocab_size: int) -> Tokenizer:
    """Byte-level BPE of at most ``vocab_size`` entries on the training documents; every text has an encoding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END_OF_TEXT], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(split()[0], trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """All documents as one int64 stream, each ended by the end-of-text token."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    ids = [token for encoding in tokenizer.encode_batch(texts) for token in (*encoding.ids, end)]
    return torch.tensor(ids, dtype=torch.int64)


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """As transformers' AutoTokenizer loads it."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT)
    wrapped.save_pretrained(folder)
