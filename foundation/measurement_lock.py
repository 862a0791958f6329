"""One lock between measurements and heavy work on the same machine.

When coordinator and agent share a host, compiling and training would spoil the timings. Heavy work takes the lock
shared, in slices; a measurement takes it exclusively. A turnstile keeps a stream of shared slices from starving the
measurement. The kernel releases the locks of a killed process, so nothing needs cleaning up.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def default_path() -> Path:
    configured = os.environ.get("HILNAS_MEASUREMENT_LOCK")
    return Path(configured or Path(tempfile.gettempdir()) / f"hilnas-measurement-{os.getuid()}")


class MeasurementLock:
    """``shared()`` may be held by many at once (heavy work), ``exclusive()`` by only one (a measurement)."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path or default_path()
        self._path.parent.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._locked("turnstile", fcntl.LOCK_SH):
            room = self._open("room", fcntl.LOCK_SH)
        try:
            yield
        finally:
            os.close(room)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._locked("turnstile", fcntl.LOCK_EX), self._locked("room", fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, part: str, mode: int) -> Iterator[None]:
        handle = self._open(part, mode)
        try:
            yield
        finally:
            os.close(handle)

    def _open(self, part: str, mode: int) -> int:
        handle = os.open(f"{self._path}.{part}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(handle, mode)
        return handle
