"""The contract of a transport: shell, push, pull. ``tests/contract/test_transports.py`` runs over every one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Progress = Callable[[int, int], None]  # bytes sent, bytes in all
OnLine = Callable[[str], None]  # called with each line of stdout as it arrives; an exception ends the command


@dataclass(frozen=True)
class ShellResult:
    """A command that finished on the phone, with any exit code."""

    exit_code: int
    stdout: str
    stderr: str


@dataclass
class Traffic:
    """Counts of a transport. A round trip is one service opened on the phone: a command, a push or a pull."""

    round_trips: int = 0
    bytes_pushed: int = 0
    bytes_pulled: int = 0


class Transport(Protocol):
    """Not thread-safe: one user at a time. Every method but ``close`` may raise a PhoneError (transports.errors)."""

    @property
    def serial(self) -> str:
        """The phone's name on this transport: its serial number or host:port."""
        ...

    @property
    def traffic(self) -> Traffic: ...

    def connect(self) -> None:
        """Connects, or reconnects after an error."""
        ...

    def shell(self, command: str, timeout_s: float = 30.0, on_line: OnLine | None = None) -> ShellResult:
        """Runs ``command`` in the phone's sh. ``timeout_s`` is the longest silence, not the longest run."""
        ...

    def push(self, source: Path, target: str, mode: int = 0o644, progress: Progress | None = None) -> None:
        """Copies one file to the phone. A lost connection leaves a partial file: ``Phone.put_blocks`` resumes and
        verifies."""
        ...

    def pull(self, source: str, target: Path) -> None: ...

    def close(self) -> None: ...
