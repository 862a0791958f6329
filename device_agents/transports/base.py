"""The contract of a way to a phone: shell, push, pull. ``tests/contract/test_transports.py`` runs over every one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Progress = Callable[[int, int], None]  # bytes sent, bytes in all
OnLine = Callable[[str], None]  # called with each line of stdout as it comes; what it raises ends the command


@dataclass(frozen=True)
class ShellResult:
    """A command that ran to its end on the phone, however it ended."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass
class Traffic:
    """What a transport has moved. A round trip is one service opened on the phone: a command, a push or a pull."""

    round_trips: int = 0
    bytes_pushed: int = 0
    bytes_pulled: int = 0


class Transport(Protocol):
    """Not thread-safe: one user at a time. Every method but ``close`` may raise a PhoneError (transports.errors)."""

    @property
    def serial(self) -> str:
        """Names the phone on this way: its serial number or host:port."""
        ...

    @property
    def traffic(self) -> Traffic: ...

    def connect(self) -> None:
        """Opens the way, or opens it anew after an error."""
        ...

    def shell(self, command: str, timeout_s: float = 30.0, on_line: OnLine | None = None) -> ShellResult:
        """Runs ``command`` in the phone's sh. ``timeout_s`` is the longest silence, not the longest run."""
        ...

    def push(self, source: Path, target: str, mode: int = 0o644, progress: Progress | None = None) -> None:
        """Copies one file to the phone. A cut leaves a torn target: see ``transfer`` for what resumes and verifies."""
        ...

    def pull(self, source: str, target: Path) -> None: ...

    def close(self) -> None: ...
