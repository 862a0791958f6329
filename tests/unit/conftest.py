"""A text and a teacher so small that a whole chain runs in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tests.doubles.tiny_parent import imported  # noqa: F401
from trainer.data.chat import START, STOP
from trainer.data.token_dir import save_tokenizer


@pytest.fixture(scope="session")
def small_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    sentence = "the student reads what a teacher says of every token and learns to say it too"
    words = sentence.split()
    for i in range(40):
        picked = [words[(i * 7 + j * (3 + i % 5)) % len(words)] for j in range(80)]
        (folder / f"{i:02d}.txt").write_text(" ".join(picked) + f" {i}.\n")
    return folder


@pytest.fixture(scope="session")
def small_teacher(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("teacher")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special, letters = ["<|endoftext|>", START, STOP], pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=letters)
    tokenizer.train_from_iterator((path.read_text() for path in sorted(small_text.iterdir())), trainer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return str(folder)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads of steps this small wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def byte_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Bytes and ChatML's special tokens, for models of a few thousand weights."""
    from transformers import AutoTokenizer

    words = ["<|endoftext|>", START, STOP, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    plain = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[]))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    plain.add_special_tokens(words[:3])
    folder = tmp_path_factory.mktemp("bytes")
    save_tokenizer(plain, folder)
    return AutoTokenizer.from_pretrained(folder)
