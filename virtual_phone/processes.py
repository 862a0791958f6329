"""All processes of one virtual phone, found by a mark in their environment: shells leave adbd's process group."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "VIRTUAL_PHONE"
RUNNER = b"hilnas-runner"
SCAN_S = 0.2


class PhoneProcesses:
    """Marked with the phone's state folder, so a later start also finds what a killed one left behind."""

    def __init__(self, mark: str) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self._strangers: dict[int, int] = {}
        self._scanned_at = 0.0
        self._busy = False

    def all(self) -> list[int]:
        return [pid for pid in _pids() if self._is_mine(pid)]

    def runners(self) -> list[int]:
        return [pid for pid in self.all() if _runs_runner(pid)]

    def is_busy(self) -> bool:
        """Whether a runner is running; checked at most a few times per second."""
        if time.monotonic() - self._scanned_at > SCAN_S:
            self._scanned_at, self._busy = time.monotonic(), self._scan()
        return self._busy

    def kill(self, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """Repeats until none is left: a shell may start a child while its siblings are being killed."""
        while pids := [pid for pid in self.all() if _state(pid) != b"Z"]:
            self.kill(pids)
            time.sleep(0.01)

    def _scan(self) -> bool:
        """Other processes are checked only twice, because a new process may not have executed its program yet."""
        pids = _pids()
        self._strangers = {pid: self._strangers[pid] for pid in pids if pid in self._strangers}
        mine = []
        for pid in pids:
            if self._strangers.get(pid, 0) < 2:
                if self._is_mine(pid):
                    mine.append(pid)
                else:
                    self._strangers[pid] = self._strangers.get(pid, 0) + 1
        return any(_runs_runner(pid) for pid in mine)

    def _is_mine(self, pid: int) -> bool:
        return self._mark in _read(pid, "environ").split(b"\0")


def _runs_runner(pid: int) -> bool:
    program, _, rest = _read(pid, "cmdline").partition(b"\0")
    return program.rpartition(b"/")[2].startswith((b"qemu-", b"ld-linux")) and RUNNER in rest


def _pids() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _state(pid: int) -> bytes:
    return _read(pid, "stat").rpartition(b") ")[2][:1]
