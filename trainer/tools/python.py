"""Python for a model: each call a process of its own without files, network or children, with little time and memory.

The room locks itself before it reads the code (trainer/tools/locked_room.py). What tries to leave it gets a
PermissionError as its answer, and is counted.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from foundation.errors import InvalidConfig

ROOM = Path(__file__).with_name("locked_room.py")
MOST_OUTPUT = 2000
LOCKED, UNLOCKABLE = 3, 4  # exit codes of the room: the code was refused something, the room cannot be locked


@dataclass
class PythonTool:
    """``outcomes`` counts calls by how they ended: ok, error, refused, timeout, memory. Equal code is run once."""

    seconds: float = 2.0
    memory_bytes: int = 256 * 2**20
    outcomes: Counter[str] = field(default_factory=Counter)
    _known: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)

    def __call__(self, code: str) -> str:
        """What the code printed, or the last line of its error. Raises InvalidConfig where no room can be locked."""
        if code not in self._known:
            self._known[code] = self._run(code)
        outcome, said = self._known[code]
        self.outcomes[outcome] += 1
        return said

    def _run(self, code: str) -> tuple[str, str]:
        # a file, because its size can be limited and a pipe's cannot
        with tempfile.TemporaryDirectory() as nowhere, tempfile.TemporaryFile() as printed:
            room = subprocess.Popen(
                [sys.executable, "-I", "-S", str(ROOM), str(self.memory_bytes), str(max(1, round(self.seconds)))],
                stdin=subprocess.PIPE, stdout=printed, stderr=subprocess.DEVNULL, cwd=nowhere,
                env={"PYTHONHASHSEED": "0"}, start_new_session=True,
            )  # fmt: skip
            try:
                room.communicate(code.encode(errors="replace"), timeout=self.seconds)
            except subprocess.TimeoutExpired:
                return "timeout", f"TimeoutError: the code ran longer than {self.seconds:g} s"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(room.pid, signal.SIGKILL)
                room.wait()
            printed.seek(0)
            return self._told(room.returncode, printed.read().decode(errors="replace"))

    def _told(self, code: int, said: str) -> tuple[str, str]:
        if code == UNLOCKABLE:
            raise InvalidConfig(
                f"the Python tool needs seccomp of Linux on x86-64 or aarch64, and this is {platform.system()} on"
                f" {platform.machine()} with {said.strip() or 'none'}; take agent tasks without Python"
            )
        text = said.strip()[:MOST_OUTPUT]
        if code == LOCKED:
            return "refused", text
        if code == -signal.SIGXCPU or code == -signal.SIGKILL:
            return "timeout", f"TimeoutError: the code used more than {self.seconds:g} s"
        if "MemoryError" in text.splitlines()[-1:]:
            return "memory", "MemoryError"
        return ("ok" if code == 0 else "error"), text or ("" if code == 0 else "Error")
