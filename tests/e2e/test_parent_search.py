"""From a model that exists to a measured, healed winner, by the benchmark that does it at full size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import parent_search
from contracts.measurement import SPOILED
from tests.e2e.processes import free_port


@pytest.mark.alone
@pytest.mark.slow_ci  # the parts have tests of their own; together they take minutes
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets of the REST client
def test_a_parent_becomes_a_faster_winner_that_was_measured(
    imported: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    var = tmp_path / "search"
    words = ["--source", str(tmp_path / "hf"), "--var", str(var), "--port", str(free_port())]
    monkeypatch.setattr("sys.argv", ["parent_search", "--quick", *words])
    monkeypatch.setattr("benchmarks.record.RESULTS", tmp_path / "results")
    parent_search.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["verdict"] in ("valid", *SPOILED) and found["judged"] >= 1
    assert found["decode_speedup_4096"] > 0 and found["memory_ratio"] > 0
    assert 0 < found["bits_per_byte_ratio"] < 2 and 0 < found["quantized_bits_per_byte_ratio"] < 2
    for winner in json.loads((tmp_path / "results/parent_search.json").read_text())["rows"]:
        assert winner["program_bits_per_byte"] > 0
