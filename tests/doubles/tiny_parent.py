"""A parent that takes a second: a tiny Llama with a tokenizer of its own, imported by the command line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A tiny Llama with a tokenizer of its own, imported by the command line with the language reference as text."""
    from itertools import islice

    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from trainer.data.sources import open_source
    from trainer.data.tokenizer import learn_tokenizer

    monkeypatch.setenv("HILNAS_VAR", str(tmp_path / "var"))
    documents = islice(open_source("python:topics", tmp_path).documents(), 20)
    fast = PreTrainedTokenizerFast(tokenizer_object=learn_tokenizer(documents, 320), eos_token="<|endoftext|>")
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=320, num_key_value_heads=2, **sizes))
    imported_as("untrained", model, fast, tmp_path)
    learn_a_little(model, fast, islice(open_source("python:topics", tmp_path).documents(), 20))
    imported_as("tiny", model, fast, tmp_path)
    return "tiny"


def learn_a_little(model: Any, tokenizer: Any, documents: Iterable[str]) -> None:
    """Enough to beat the frequencies of tokens."""
    ids = torch.tensor([index for text in documents for index in tokenizer(text)["input_ids"]])
    optimizer, generator = torch.optim.AdamW(model.parameters(), 5e-3), torch.Generator().manual_seed(0)
    for _ in range(80):
        firsts = torch.randint(len(ids) - 65, (8, 1), generator=generator)
        rows = ids[firsts + torch.arange(64)]
        optimizer.zero_grad()
        model(rows, labels=rows).loss.backward()
        optimizer.step()


def imported_as(name: str, model: Any, tokenizer: Any, tmp_path: Path) -> None:
    from hilnas.cli.parent import app

    model.save_pretrained(tmp_path / "hf")
    tokenizer.save_pretrained(tmp_path / "hf")

    done = CliRunner().invoke(
        app, ["import", name, str(tmp_path / "hf"), "--text", "python:topics", "--max-tokens", "60000", "--json"]
    )
    assert done.exit_code == 0, done.output
