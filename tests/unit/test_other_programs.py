"""Other programs: what they print is read whatever its bytes are; where they are is checked before they are sought."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agents.devices.android.discovery import choose_transport, named_phones
from device_agents.devices.host import run_process, runner_version
from device_agents.transports.address import split_address
from foundation.errors import InvalidConfig, RunnerCrashed

ROOT = Path(__file__).parents[2]
PACKAGES = ("device_agents", "foundation", "hilnas", "nas", "search_space", "server", "trainer", "virtual_phone")


def calls() -> Iterator[tuple[str, ast.Call]]:
    for file in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("subprocess.run", "subprocess.Popen"):
                yield f"{file.relative_to(ROOT)}:{node.lineno}", node


def test_no_program_is_read_strictly() -> None:
    given = {where: {one.arg for one in call.keywords} for where, call in calls()}
    assert given
    assert not [where for where, names in given.items() if "text" in names and "errors" not in names]


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_a_runner_that_prints_damaged_text(tmp_path: Path) -> None:
    broken = script(tmp_path / "runner", "printf 'load failed: \\252\\n' >&2; printf 'v1 \\252\\n'; exit 3")
    assert runner_version(broken) == "v1 \N{REPLACEMENT CHARACTER}"
    with pytest.raises(RunnerCrashed):
        run_process([str(broken)], {}, lambda: False)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("::1", "an IPv6 address needs brackets and a port, e.g. [::1]:5555; got '::1'"),
        ("fe80::1", "an IPv6 address needs brackets"),
        (":5555", "the host is missing in ':5555'"),
        ("127.0.0.1:99999", "a port is a number from 1 to 65535, got '127.0.0.1:99999'"),
        ("127.0.0.1:0", "a port is a number from 1 to 65535"),
        (":0", "the host is missing"),
        ("host name:5555", "'host name' is no host"),
        ("host", "the port is missing in 'host'"),
        ("host:", "a port is a number from 1 to 65535"),
        ("[::1]", "the port is missing in '[::1]'"),
        ("host:٣", "a port is a number from 1 to 65535"),
        ("-x:5555", "'-x' is no host"),
    ],
)
def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch, address: str, words: str) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("nothing is started"))
    with pytest.raises(InvalidConfig) as caught:
        named_phones([], [address])
    assert words in str(caught.value)
    if ":" in address:
        with pytest.raises(InvalidConfig):
            choose_transport(address, None, None)


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:5555", ("127.0.0.1", 5555)),
        ("[fe80::1%wlan0]:1", ("fe80::1%wlan0", 1)),
        ("a-b.c:65535", ("a-b.c", 65535)),
    ],
)
def test_an_address(address: str, parts: tuple[str, int]) -> None:
    assert split_address(address) == parts
