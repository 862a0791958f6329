"""Rows that an earlier start of a benchmark finished are kept and not made again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainer.pipeline.records import Records


class KeptRows:
    """One file for each benchmark and set of settings: other settings find nothing."""

    def __init__(self, folder: Path, benchmark: str, settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
        self._records = Records(folder / f"{benchmark}-{digest}.jsonl")

    def once(self, arm: str, seed: int, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row of ``arm`` and ``seed``; made and kept when there is none."""
        for row in self._records.read():
            if (row["arm"], row["seed"]) == (arm, seed):
                return row
        row = {"arm": arm, "seed": seed, **make()}
        self._records.add(**row)
        return row
