"""Verifiers that parse what a model wrote, each answer in a sandboxed process of its own.

One helper process per process of ours imports reasoning-gym once and forks for every answer (trainer/tasks/forks.py).
An answer that runs code, never ends or eats memory ends its fork and scores 0.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from foundation.errors import HilnasError
from trainer.tools.python import unavailable

log = structlog.get_logger()


class VerifierFailed(HilnasError):
    code = "verifier_failed"


@dataclass(frozen=True)
class Limits:
    """For one answer: ``seconds`` of CPU time, ``patience`` of wall time, ``memory_bytes`` on top of what is loaded."""

    seconds: int = 2
    patience: float = 10.0
    memory_bytes: int = 256 * 2**20


class SandboxedVerifier:
    """Thread-safe; starts its helper at the first answer."""

    def __init__(self, limits: Limits = Limits()) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._helper: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def score(self, dataset: str, level: int, seed: int, entry: dict[str, Any], answer: str) -> float:
        """What the data set's verifier gives ``answer``, 0 when it raises or meets a limit. ``entry`` has the index and
        the question. Raises InvalidConfig where there is no sandbox."""
        request = {"dataset": dataset, "level": level, "seed": seed, "index": entry["index"],
                   "question": entry["question"], "answer": answer, **asdict(self.limits)}  # fmt: skip
        with self._lock:
            reply = self._ask(request)
        if "unavailable" in reply:
            raise unavailable(f"the verifier of reasoning:{dataset}", reply["unavailable"].encode())
        if reply.get("stopped"):
            log.warning("answer_stopped", dataset=dataset, reason=reply["stopped"])
        return float(reply["score"])

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        helper = self._started()
        assert helper.stdin is not None and helper.stdout is not None
        try:
            helper.stdin.write(json.dumps(request).encode() + b"\n")
            helper.stdin.flush()
            line = helper.stdout.readline()
            return dict(json.loads(line))
        except (OSError, ValueError) as error:
            self.close()
            raise VerifierFailed(f"the verifier of reasoning:{request['dataset']} ended without a score") from error

    def _started(self) -> subprocess.Popen[bytes]:
        if self._helper is None or self._helper.poll() is not None or self._owner != os.getpid():
            self._owner = os.getpid()
            self._helper = subprocess.Popen(
                [sys.executable, "-m", "trainer.tasks.forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
                     "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )  # fmt: skip
            atexit.register(self.close)
        return self._helper

    def close(self) -> None:
        helper, self._helper = self._helper, None
        if helper is not None and self._owner == os.getpid():
            helper.kill()
            helper.communicate()


VERIFIER = SandboxedVerifier()  # one helper for the whole process
