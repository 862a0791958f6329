"""llama.cpp as another engine: its arguments, its JSON, its failures, on the host and on a phone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contracts.measurement import Verdict
from contracts.plan import Protocol
from contracts.runner_events import RepetitionEvent, SpoiledEvent
from device_agents.llama_bench import HostLlamaBench, Output, PhoneLlamaBench, bench_arguments, events_of, mask_of
from device_agents.session import collect
from device_agents.transports.base import ShellResult
from foundation.errors import InvalidConfig, RunnerCrashed
from hilnas.comparison.rows import quantization_of
from tests.doubles.llama_bench import fake_llama_bench
from tests.doubles.replayed import Player

PROTOCOL = Protocol(prefill_lengths=[64], decode_contexts=[128, 256], decode_tokens=8, repetitions=3)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    path = tmp_path / "qwen3.gguf"
    path.write_bytes(b"GGUF")
    return path


def test_one_process_times_prompts_at_no_depth_and_generation_at_contexts() -> None:
    words = bench_arguments(PROTOCOL, "m.gguf")
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert given == {"-m": "m.gguf", "-p": "64", "-n": "8", "-d": "0,128,256", "-r": "3", "-t": "2", "-ngl": "0",
                     "-o": "json"}  # fmt: skip
    assert mask_of([4, 5, 6, 7]) == "f0" and mask_of([0]) == "1"


def test_its_json_becomes_the_samples_of_a_cold_run(tmp_path: Path, gguf: Path) -> None:
    bench = HostLlamaBench(Player({}), fake_llama_bench(tmp_path), gguf, PROTOCOL)
    bench.prepare()
    events = bench.run(bench.plan, lambda: False)
    samples = collect(events, bench.plan)
    assert set(samples.by_metric) == {"prefill_ms@64", "decode_ms@128", "decode_ms@256"}
    expected = [2 * 1.0128 * (1 + 0.01 * i) for i in range(3)]
    assert samples.by_metric["decode_ms@128"] == pytest.approx(expected, rel=1e-3)
    assert samples.by_metric["prefill_ms@64"][0] == pytest.approx(0.2 * 64)
    raw = [event.record for event in events if event.event == "llama_bench"]
    assert [(one["n_prompt"], one["n_gen"], one["n_depth"]) for one in raw] == [(64, 0, 0), (0, 8, 128), (0, 8, 256)]
    assert raw[0]["samples_ns"] and raw[0]["type_k"] == "f16" and "model_filename" not in raw[0]


def test_its_failures_are_sentences(tmp_path: Path, gguf: Path) -> None:
    bench = HostLlamaBench(Player({}), fake_llama_bench(tmp_path, fails=True), gguf, PROTOCOL)
    with pytest.raises(RunnerCrashed, match="llama-bench ended with 1: main: error: failed to load model"):
        bench.run(bench.plan, lambda: False)
    with pytest.raises(RunnerCrashed, match="no JSON"):
        events_of(Output("| model | size |", "", 0), PROTOCOL)
    with pytest.raises(RunnerCrashed, match=r"no test with \(64, 0, 0\)"):
        events_of(Output("[]", "", 0), PROTOCOL)


def test_a_program_without_depth_is_refused_before_any_work(tmp_path: Path, gguf: Path) -> None:
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\necho 'error: invalid parameter' >&2\n")
    with pytest.raises(InvalidConfig, match="chmod"):
        HostLlamaBench(Player({}), old, gguf, PROTOCOL).prepare()
    old.chmod(0o755)
    with pytest.raises(InvalidConfig, match="--n-depth.*invalid parameter"):
        HostLlamaBench(Player({}), old, gguf, PROTOCOL).prepare()
    with pytest.raises(InvalidConfig, match="--gguf .*none.gguf is not a file"):
        HostLlamaBench(Player({}), old, tmp_path / "none.gguf", PROTOCOL)


def test_another_file_is_another_plan(tmp_path: Path, gguf: Path) -> None:
    first = HostLlamaBench(Player({}), fake_llama_bench(tmp_path), gguf, PROTOCOL).plan.digest
    gguf.write_bytes(b"GGUF of another model")
    assert HostLlamaBench(Player({}), fake_llama_bench(tmp_path), gguf, PROTOCOL).plan.digest != first


@pytest.mark.parametrize(
    ("kind", "form"),
    [("qwen3 0.6B Q4_K - Medium", "Q4_K - Medium"), ("lfm2 350M Q4_0", "Q4_0"), ("gemma3 1B BF16", "BF16"),
     ("unknown", "unknown")],
)  # fmt: skip
def test_the_quantization_is_read_from_the_model_type(kind: str, form: str) -> None:
    assert quantization_of(kind) == form


class FakePhone:
    """What PhoneLlamaBench uses of an AndroidDevice."""

    root, serial = "/data/local/tmp/hilnas", "EXAMPLE"

    def __init__(self, stdout: str, spoiled: SpoiledEvent | None = None) -> None:
        self.phone = self.transport = self
        self.pushed: list[str] = []
        self.commands: list[str] = []
        self.blocks: dict[str, Path] = {}
        self.stdout, self.spoiled = stdout, spoiled

    def add_blocks(self, files: dict[str, Path], keep: Any = ()) -> None:
        self.blocks |= files

    def shell(self, command: str, timeout_s: float = 30.0) -> ShellResult:
        return ShellResult(0, "", "")

    def push(self, source: Path, target: str, mode: int = 0o644) -> None:
        assert mode == 0o755
        self.pushed.append(target)

    def run_program(self, command: str, cores: list[int], silence_s: float) -> tuple[ShellResult, SpoiledEvent | None]:
        self.commands.append(command)
        return ShellResult(0, "--n-depth" if "--help" in command else self.stdout, ""), self.spoiled


def test_on_a_phone_it_is_pushed_and_pinned(tmp_path: Path, gguf: Path) -> None:
    tests = [
        {"n_prompt": p, "n_gen": n, "n_depth": d, "samples_ns": [8_000_000, 8_100_000]}
        for p, n, d in [(64, 0, 0), (0, 8, 128), (0, 8, 256)]
    ]
    (tmp_path / "libggml.so").write_bytes(b"library")
    phone: Any = FakePhone(json.dumps(tests))
    protocol = PROTOCOL.model_copy(update={"affinity": [6, 7]})
    bench = PhoneLlamaBench(phone, fake_llama_bench(tmp_path), gguf, protocol)
    bench.prepare()
    assert [target.rpartition("/")[2] for target in phone.pushed] == ["llama-bench", "libggml.so"]
    assert list(phone.blocks.values()) == [gguf] and bench.blocks == list(phone.blocks)
    events = bench.run(bench.plan, lambda: False)
    assert sum(isinstance(event, RepetitionEvent) for event in events) == 6
    assert "taskset c0 /data/local/tmp/hilnas/llama-" in phone.commands[-1]
    assert f"blocks/{bench.blocks[0]}.pte" in phone.commands[-1]
    phone.spoiled, phone.stdout = SpoiledEvent(verdict=Verdict.HOT_START, reason="battery at 41 C"), ""
    assert bench.run(bench.plan, lambda: False) == [phone.spoiled]
