"""What a user sees who mistypes, starts things twice or lacks something: exit codes, sentences, no traceback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hilnas.cli.main import HELP
from tests.e2e.processes import ROOT, Service, environment, free_port, run_hilnas, wait_for

ATTENTION = {"kind": "gqa", "num_heads": 4, "num_kv_heads": 2, "head_dim": 16}
SUBCOMMANDS = [
    *([name] for name in HELP),
    ["agent", "host"], ["agent", "replay"], ["search", "start"], ["search", "status"], ["search", "front"],
    ["search", "stop"], ["search", "resume"], ["search", "export-optuna"], ["train", "start"], ["train", "worker"],
]  # fmt: skip
pytestmark = pytest.mark.e2e


def architecture(path: Path, **mixer: Any) -> str:
    layer = {"mixer": {**ATTENTION, **mixer}, "ffn": {"width": 128}}
    path.write_text(json.dumps({"d_model": 64, "vocab_size": 256, "layers": [layer]}))
    return str(path)


def sentence(done: subprocess.CompletedProcess[str], exit_code: int) -> str:
    """The one line on standard error of a command that failed as it should."""
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A coordinator without agents."""
    with Service(tmp_path_factory.mktemp("commands") / "var") as service:
        service.start_coordinator()
        yield service


# --- help ------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_loads_no_torch() -> None:
    code = "import sys, hilnas.cli.main\nsys.argv = ['hilnas', '--help']\ntry: hilnas.cli.main.main()\n"
    code += "except SystemExit as end: print('code', end.code)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-2:] == ["code 0", "False"]
    assert all(f"  {name} " in done.stdout for name in HELP)


@pytest.mark.parametrize("words", SUBCOMMANDS, ids=" ".join)
def test_every_subcommand_has_help(words: list[str]) -> None:
    done = run_hilnas(*words, "--help")
    assert done.returncode == 0, done.stderr
    assert "--help" in done.stdout


def test_no_command_shows_help_and_is_wrong_usage() -> None:
    done = run_hilnas()
    assert done.returncode == 2
    assert "demo" in done.stdout + done.stderr


def test_an_unknown_command_is_wrong_usage() -> None:
    done = run_hilnas("serach")
    assert done.returncode == 2
    assert "serach" in done.stderr


# --- architectures ---------------------------------------------------------------------------------------


def test_an_unknown_preset_names_the_known_ones() -> None:
    said = sentence(run_hilnas("measure", "lfm9_tiny"), 2)
    assert "lfm9_tiny" in said
    assert "lfm2_350m" in said
    said = sentence(run_hilnas("export", "lfm9_tiny"), 2)
    assert "lfm9_tiny" in said
    assert "lfm2_350m" in said


def test_an_unknown_operator_names_the_known_ones(tmp_path: Path) -> None:
    said = sentence(run_hilnas("measure", architecture(tmp_path / "a.json", kind="mamba")), 2)
    assert "mamba" in said
    assert "gated_short_conv" in said


def test_heads_that_do_not_divide_are_told_what_would(tmp_path: Path) -> None:
    said = sentence(run_hilnas("export", architecture(tmp_path / "a.json", num_kv_heads=3)), 2)
    assert "got 3 for 4 heads" in said
    assert "1, 2, 4" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "not an architecture in JSON"), ("[]", "expected an object"), ("{}", "'d_model' is missing"),
     ('{"d_model": 64, "vocab_size": 256, "layers": [{"ffn": null}]}', "'mixer' must be an object"),
     ('{"d_model": 63, "vocab_size": 256, "layers": []}', "multiple of 32")],
)  # fmt: skip
def test_a_file_that_is_no_architecture(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    assert words in sentence(run_hilnas("measure", str(path)), 2)
    assert "JSON" in sentence(run_hilnas("export", str(tmp_path)), 2)


def test_an_unknown_protocol_names_the_known_ones() -> None:
    said = sentence(run_hilnas("measure", "lfm2_350m", "--protocol", "slow"), 2)
    assert "slow" in said
    assert "screening" in said


def test_export_wants_a_known_suffix() -> None:
    assert ".pte or .onnx" in sentence(run_hilnas("export", "lfm2_350m", "--out", "model.gguf"), 2)


def test_an_unknown_benchmark_names_the_known_ones() -> None:
    assert "search_throughput" in sentence(run_hilnas("bench", "speed"), 2)


# --- coordinator -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--budget", "decode_ms@512=0"], ["decode_ms@512", "above 0 ms"]),
        (["--budget", "decode_ms@512=fast"], ["metric=number", "fast"]),
        (["--objective", "speed@512"], ["'speed'", "decode_ms"]),
        (["--objective", "decode_ms"], ["needs a context", "decode_ms@512"]),
        (["--space", "moon"], ["'moon'", "debug_space"]),
        (["--protocol", "slow"], ["'slow'", "screening"]),
        (["--sampler", "guess"], ["guess", "nsga2"]),
    ],
)
def test_a_study_that_cannot_be_is_refused(service: Service, options: list[str], words: list[str]) -> None:
    said = sentence(run_hilnas("search", "start", *options, "--url", service.url), 2)
    assert all(word in said for word in words), said
    assert service.get("/studies") == []


def test_a_second_coordinator_on_the_same_port(service: Service, tmp_path: Path) -> None:
    done = run_hilnas("serve", "--port", str(service.port), "--var", str(tmp_path / "var"))
    said = sentence(done, 2)
    assert str(service.port) in said
    assert service.get("/health")["status"] == "ok"


def test_a_demo_while_a_coordinator_runs(service: Service, tmp_path: Path) -> None:
    done = run_hilnas("demo", "--port", str(service.port), "--var", str(tmp_path / "demo"))
    assert f"already runs at {service.url}" in sentence(done, 1)
    assert not (tmp_path / "demo").exists()


def test_tokens_are_asked_for_when_the_address_is_open(tmp_path: Path) -> None:
    done = run_hilnas(
        "serve", "--port", str(free_port()), "--var", str(tmp_path), HILNAS_HOST="0.0.0.0", HILNAS_AUTH="local"
    )
    assert "loopback only" in sentence(done, 2)


@pytest.mark.parametrize(
    "words",
    [["search", "status"], ["search", "start"], ["search", "front", "study-1"], ["search", "stop", "study-1"],
     ["train", "start", "trial-1"]],
    ids=" ".join,
)  # fmt: skip
def test_no_coordinator_is_exit_code_4(words: list[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    said = sentence(run_hilnas(*words, "--url", url), 4)
    assert url in said
    assert "hilnas serve" in said


def test_an_agent_without_a_runner(tmp_path: Path) -> None:
    missing = tmp_path / "hilnas-runner"
    words = ["agent", "host", "--home", str(tmp_path / "agent"), "--url", f"http://127.0.0.1:{free_port()}"]
    said = sentence(run_hilnas(*words, "--runner", str(missing)), 2)
    assert str(missing) in said
    assert "make setup" in said


def test_an_agent_without_a_token(tmp_path: Path, runner: Path) -> None:
    words = ["agent", "host", "--home", str(tmp_path / "agent"), "--url", f"http://127.0.0.1:{free_port()}"]
    assert "token" in sentence(run_hilnas(*words), 2)


# --- setup -----------------------------------------------------------------------------------------------


def run_setup(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """``setup.sh`` of a copy of the checkout's top level, so that the real one cannot be touched."""
    for name in ("setup.sh", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, folder / name)
    return subprocess.run(
        ["/bin/bash", str(folder / "setup.sh")], capture_output=True, text=True, env=environ, check=False, timeout=60
    )


def tools(folder: Path, *names: str) -> str:
    """A PATH that holds these tools only."""
    folder.mkdir()
    for name in names:
        found = shutil.which(name, path=os.defpath + os.pathsep + os.environ["PATH"])
        assert found is not None, name
        (folder / name).symlink_to(found)
    return str(folder)


def base_python() -> str:
    """The interpreter below the virtual environment: the one a new checkout would start from."""
    return str(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")


def test_setup_without_a_compiler_says_so(tmp_path: Path) -> None:
    path = tools(tmp_path / "bin", "dirname", "cat", "sha256sum", "cut")
    said = sentence(run_setup(tmp_path, PATH=path, PYTHON=base_python()), 1)
    assert said.startswith("setup: g++ is missing")
    assert not (tmp_path / ".venv").exists()


def test_setup_without_python_says_so(tmp_path: Path) -> None:
    said = sentence(run_setup(tmp_path, PATH=tools(tmp_path / "bin", "dirname")), 1)
    assert "Python 3.11 to 3.13" in said
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("python", ["/bin/false", "/bin/no-such-python"])
def test_setup_with_a_python_that_is_none_says_so(tmp_path: Path, python: str) -> None:
    said = sentence(run_setup(tmp_path, PATH=os.environ["PATH"], PYTHON=python), 1)
    assert python in said
    assert "Python 3.11 to 3.13" in said
    assert not (tmp_path / ".venv").exists()


def test_a_closed_terminal_takes_the_whole_demo_along(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "hilnas", "demo", "--port", str(port), "--var", str(tmp_path / "demo")]
    demo = subprocess.Popen(command, cwd=ROOT, env=environment(), start_new_session=True, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/api/v1/health"

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(url, timeout=2.0).status_code == 200
        return False

    wait_for("the demo's coordinator", answers, 60)
    demo.send_signal(signal.SIGHUP)
    demo.wait(timeout=60)
    assert not answers()
