"""Two tiny models and another engine, really measured in turn on this host, with what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from contracts.comparison import Comparison
from device_agents.journal import Journal
from hilnas.cli.compare import NotValid, app
from nas.export.library import BlockLibrary
from search_space.presets import debug_size, preset
from tests.doubles.llama_bench import fake_llama_bench

pytestmark = pytest.mark.slow
QUICK = ("--prompt", "32", "--context", "64", "--rounds", "2", "--threads", "1")


def test_models_are_measured_in_turn_and_everything_is_kept(
    tmp_path: Path, runner: Path, library: BlockLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HILNAS_RUNNER", str(runner))
    monkeypatch.setenv("HILNAS_VAR", str(tmp_path))
    for name, source in (("conv", "lfm2_350m"), ("attention", "qwen3_0_6b")):
        arch = debug_size(preset(source), d_model=64, vocab_size=256, depth=2)
        (tmp_path / f"{name}.json").write_text(json.dumps(arch.to_dict()))
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    words = [str(tmp_path / "conv.json"), str(tmp_path / "attention.json"), *QUICK, "--sustained", "0.01"]
    words += ["--llama-bench", str(fake_llama_bench(tmp_path)), "--gguf", str(tmp_path / "other.gguf")]
    words += ["--library", str(library.root), "--json", "--markdown", str(tmp_path / "report.md")]
    done = CliRunner().invoke(app, words)
    assert done.exception is None or isinstance(done.exception, NotValid), done.exception  # this machine may be busy
    result = Comparison.model_validate_json(done.stdout.splitlines()[0])
    assert [one.name for one in result.rows] == ["conv", "attention", "other"]
    assert result.rows[0].weights == "random, of its shapes" and result.rows[0].params
    assert result.rows[2].engine == "llama.cpp build 6400 (b1afcab8), cache f16"
    assert all(one.cold_runs >= 2 and set(one.metrics) >= {"prefill_ms@32", "decode_ms@64"} for one in result.rows)
    (kept,) = (tmp_path / "comparisons").glob("*.json")
    assert Comparison.model_validate_json(kept.read_text()) == result
    with Journal(kept.with_suffix(".jsonl")) as journal:
        assert len(journal.records) == sum(one.cold_runs for one in result.rows)
    assert not list((tmp_path / "comparisons").glob("open-*"))
    assert (tmp_path / "report.md").read_text().startswith("# conv, attention, other on ")
    assert {one.name for one in result.sustained} <= {"conv", "attention"}


def test_a_directory_is_measured_with_its_own_weights(
    tmp_path: Path, runner: Path, library: BlockLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "mine")
    monkeypatch.setenv("HILNAS_RUNNER", str(runner))
    monkeypatch.setenv("HILNAS_VAR", str(tmp_path))
    (tmp_path / "conv.json").write_text(
        json.dumps(debug_size(preset("lfm2_350m"), d_model=64, vocab_size=256, depth=2).to_dict())
    )
    words = [str(tmp_path / "mine"), str(tmp_path / "conv.json"), *QUICK, "--library", str(library.root), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exception is None or isinstance(done.exception, NotValid), done.exception
    result = Comparison.model_validate_json(done.stdout.splitlines()[0])
    assert [one.weights for one in result.rows] == ["its own", "random, of its shapes"]
    assert result.rows[0].metrics["decode_ms@64"].median > 0, "its parity with eager torch was checked first"
