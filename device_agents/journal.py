"""A file of JSON lines to which one process at a time appends what it finished."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from foundation.errors import HilnasError


class Busy(HilnasError):
    """Another process holds the file."""

    code = "busy"


class Journal:
    """``records`` are those of the file and those added since. A last line that a killed process left incomplete is
    dropped. Raises Busy while another process has it open."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise Busy(f"another process is measuring the same models into {path}; wait for it, or end it") from None
        self.records = self._read()

    def _read(self) -> list[dict[str, Any]]:
        self._file.seek(0)
        found, whole = [], 0
        for line in self._file:
            try:
                found.append(json.loads(line))
            except ValueError:
                break
            whole += len(line)
        self._file.truncate(whole)
        return found

    def add(self, record: dict[str, Any]) -> None:
        """On the disk when this returns."""
        self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.records.append(record)

    def finish(self, path: Path) -> None:
        """Ends the session: the file takes another name, so that the next one begins anew."""
        self.path.rename(path)
        self.close()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
