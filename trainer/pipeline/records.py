"""JSON lines that survive a kill: a torn last line is dropped, and lines of steps that will be done again too."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from foundation.files import write_atomically


class Records:
    """One JSON object a line. Only one process writes; any number read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, **fields: Any) -> None:
        with open(self.path, "a+b") as file:
            if file.tell() and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
                file.write(b"\n")  # what a kill tore stays a line of its own, which nobody reads
            file.write((json.dumps(fields) + "\n").encode())

    def read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return [row for line in self.path.read_text().splitlines() if (row := _parsed(line)) is not None]

    def keep_until(self, step: int) -> None:
        """Drops what a resumed run writes again: lines whose ``step`` is ``step`` or more."""
        kept = [row for row in self.read() if row.get("step", -1) < step]
        write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in kept))


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
