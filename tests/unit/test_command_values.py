"""Values on the command line are checked before any work: one short sentence and exit code 2, never a traceback."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from hilnas.cli import main as entry
from hilnas.cli import progress
from hilnas.cli.progress import compiling, duration, working

ARCH = {"d_model": 64, "vocab_size": 97, "layers": [{"mixer": {"kind": "skip"}, "ffn": {"width": 64}}]}
NARROW = {**ARCH, "layers": [{"mixer": {"kind": "skip"}, "ffn": {"width": 33}}]}


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No work is done: the first compilation or request would fail the test."""
    (tmp_path / "arch.json").write_text(json.dumps(ARCH))
    (tmp_path / "narrow.json").write_text(json.dumps(NARROW))
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "nan.json").write_text('{"name": "s", "budgets": {"params": NaN}}')
    (tmp_path / "twice.json").write_text('{"name": "s", "name": "t"}')
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HILNAS_URL", "http://127.0.0.1:9")
    for module in ("hilnas.cli.measure", "hilnas.cli.export"):
        __import__(module)
        monkeypatch.setattr(f"{module}.working", lambda *_: pytest.fail("work began"))
    yield
    structlog.reset_defaults()  # the command configured it for this test's standard error


def run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["hilnas", *words])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    return int(ended.value.code or 0)


MANY = ["[1, 2, 3]" + " " * 300, "x" * 5000, '{"d_model": 64}']


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["measure", "arch.json", "--cache-dtype", "int8"], "'int8' is not one of 'fp32', 'fp16'"),
        (["measure", "arch.json", "--threads", "1000"], "'--threads': Input should be less than or equal to 256"),
        (["measure", "arch.json", "--threads", "200"], "--threads 200: this machine may use"),
        (["measure", "arch.json", "--threads", "0"], "'--threads': Input should be greater than or equal to 1"),
        (["measure", "arch.json", "--threads", "two"], "'--threads': Input should be a valid integer"),
        (["measure", "arch.json", "--protocol", "slow"], "unknown protocol 'slow'; known: screening"),
        (["measure", "arch.json", "--quantization", "int4"], "does not run 'int4' programs; it runs 8da4w"),
        (["measure", "arch.json", "--backend", "gpu"], "unknown backend 'gpu'; known: "),
        (["measure", "arch.json", "--library", "file/library"], "--library: the folder file/library cannot be made"),
        (["measure", "arch.json", "--library", "/proc/none"], "--library: the folder /proc/none cannot be made"),
        (["measure", "narrow.json"], "layer 0: swiglu(33) has a matrix with 33 inputs, and 8da4w packs"),
        (["measure", "list.json"], "expected an object with d_model"),
        (["measure", "nan.json"], "NaN is not a number in JSON"),
        (["measure", "bytes.json"], "bytes.json is not a text file (UTF-8)"),
        (["measure", "."], "'.' is neither a preset"),
        (["measure", "arch.json", "--phone", "::1"], "an IPv6 address needs brackets"),
        (["measure"], "Missing argument"),
        (["export", "narrow.json"], "layer 0: swiglu(33)"),
        (["export", "arch.json", "--out", "missing/x.pte"], "--out: there is no folder missing; make it first"),
        (["export", "arch.json", "--out", "x.gguf"], "--out must end in .pte or .onnx"),
        (["export", "arch.json", "--context", "-5"], "'--context': Input should be greater than or equal to 1"),
        (["export", "arch.json", "--quantization", "int4"], "does not run 'int4' programs"),
        (["export", "arch.json", "--library", "file"], "--library: the folder file cannot be made"),
        *((["export", text], "error: ") for text in MANY),
        *((["measure", text], "error: ") for text in MANY),
        *((["space", "check", text], "error: ") for text in MANY),
        *((["search", "start", "--space", text], "error: ") for text in (MANY[0], MANY[2])),
        *((["search", "start", "--budget", f"decode_ms@512={n}"], "is no finite number")
          for n in ("nan", "inf", "-inf", "1e400", "", "fast")),
        (["search", "start", "--budget", "decode_ms@512"], "write a budget as metric=number"),
        (["search", "start", "--budget", "=5"], "write a budget as metric=number"),
        (["search", "start", "--budget", "speed=5"], "unknown metric 'speed'"),
        (["search", "start", "--quality", "text audition=NaN"], "an option of an estimator takes finite numbers"),
        (["search", "start", "--seed", "-1"], "'--seed': Input should be greater than or equal to 0"),
        (["search", "start", "--judged", "0"], "'--judged': Input should be greater than or equal to 1"),
        (["search", "start", "--trials", "0"], "'--trials': Input should be greater than or equal to 1"),
        (["search", "start", "--file", "list.json"], "is not a study specification: expected an object, got [1]"),
        (["search", "start", "--file", "nan.json"], "NaN is not a number in JSON"),
        (["search", "start", "--file", "twice.json"], "has the key 'name' twice"),
        (["search", "start", "--file", "bytes.json"], "is not a text file"),
        (["search", "start", "--file", "none.json"], "none.json cannot be read: No such file"),
        (["agent", "android", "--max-temp", "nan"], "'--max-temp': a finite number is needed, got nan"),
        (["train", "start", "trial-1", "--scale", "inf"], "a finite number is needed, got inf"),
        (["serve", "--port", "99999"], "error: port: input should be less than or equal to 65535, got '99999'"),
        (["agent", "replay", "none.json"], "none.json cannot be read: No such file"),
        (["agent", "replay", "list.json"], "list.json is no trace of recorded runs"),
        (["agent", "doctor", "--connect", ":5555"], "the host is missing in ':5555'"),
        (["agent", "doctor", "--connect", "127.0.0.1:0"], "a port is a number from 1 to 65535"),
        (["frobnicate"], "No such command"),
    ],
    ids=lambda one: " ".join(one)[:60] if isinstance(one, list) else "",
)  # fmt: skip
def test_wrong_usage(
    words: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(words, monkeypatch) == 2
    shown = capfd.readouterr()
    text = " ".join(shown.err.replace("│", " ").split())
    assert said in text and "Traceback" not in text
    assert shown.out == "" and len(text) < 700


def test_library_noise_goes_to_a_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "library" / progress.LOG
    with working(log) as say:
        say("compiling")
        print("Failed to load x.so", file=sys.stderr)
        os.write(2, b"W1128 from C++\n")
        os.system("echo from a worker >&2")
        say("measuring")
    print("after", file=sys.stderr)
    assert capfd.readouterr().err == "compiling\nmeasuring\nafter\n"
    assert log.read_text() == "Failed to load x.so\nW1128 from C++\nfrom a worker\n"


def test_an_error_inside_is_shown_after_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError), working(tmp_path / "log"):
        raise ValueError
    print("shown", file=sys.stderr)
    assert capfd.readouterr().err == "shown\n"


def test_blocks_are_counted_with_the_time_left() -> None:
    said: list[str] = []
    told = compiling(said.append)
    told(1, 12, None)
    told(5, 12, 40.4)
    assert said == ["compiling block 1 of 12", "compiling block 5 of 12, about 40 s left"]
    assert [duration(seconds) for seconds in (0.2, 89, 100, 9000)] == ["0 s", "89 s", "2 min", "2.5 h"]
