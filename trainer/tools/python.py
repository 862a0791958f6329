"""Python for a model: each call a process of its own without files, network or children, with little time and memory.

The process locks itself before the code starts (trainer/tools/sandbox.py). Code that tries to leave the sandbox gets a
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
from trainer.tools import sandbox

SANDBOX = Path(sandbox.__file__)
MAX_OUTPUT = 2000


@dataclass
class PythonTool:
    """``outcomes`` counts calls by how they ended: ok, error, refused, timeout, memory. Equal code is run once."""

    seconds: float = 2.0
    memory_bytes: int = 256 * 2**20
    outcomes: Counter[str] = field(default_factory=Counter)
    _known: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)

    def __call__(self, code: str) -> str:
        """What the code printed, or the last line of its error. Raises InvalidConfig where there is no sandbox."""
        if code not in self._known:
            self._known[code] = self._run(code)
        outcome, output = self._known[code]
        self.outcomes[outcome] += 1
        return output

    def _run(self, code: str) -> tuple[str, str]:
        # a file, because its size can be limited and a pipe's cannot
        with tempfile.TemporaryDirectory() as nowhere, tempfile.TemporaryFile() as printed:
            status, theirs = os.pipe()
            try:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(SANDBOX), str(self.memory_bytes),
                     str(max(1, round(self.seconds))), str(theirs)],
                    stdin=subprocess.PIPE, stdout=printed, stderr=subprocess.DEVNULL, cwd=nowhere,
                    env={"PYTHONHASHSEED": "0"}, start_new_session=True, pass_fds=(theirs,),
                )  # fmt: skip
            finally:
                os.close(theirs)
            try:
                process.communicate(code.encode(errors="replace"), timeout=self.seconds)
            except subprocess.TimeoutExpired:
                return "timeout", f"TimeoutError: the code ran longer than {self.seconds:g} s"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                report = os.read(status, 4096)
                os.close(status)
            if report != sandbox.READY:
                raise unavailable("the Python tool", report)
            printed.seek(0)
            return self._outcome(process.returncode, printed.read().decode(errors="replace"))

    def _outcome(self, code: int, output: str) -> tuple[str, str]:
        text = output.strip()[:MAX_OUTPUT]
        last = "".join(text.splitlines()[-1:])
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return "timeout", f"TimeoutError: the code used more than {self.seconds:g} s"
        if code == 0:
            return "ok", text
        if last == "MemoryError":
            return "memory", last
        return ("refused" if last.startswith("PermissionError") else "error"), text or "Error"


def unavailable(what: str, report: bytes) -> InvalidConfig:
    reason = report.decode(errors="replace").strip() or "no answer"
    return InvalidConfig(
        f"{what} needs seccomp of Linux on x86-64 or aarch64, and this is {platform.system()} on {platform.machine()}"
        f" ({reason}); choose tasks that do not need it"
    )
