"""The canary's reference time on this device, which sessions are compared with."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from contracts.plan import Plan
from foundation.files import write_atomically

FASTER = 0.85


class CanaryBook:
    """Reference times by canary chain and thread settings, kept in one JSON file (None: memory only)."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known: dict[str, float] = json.loads(path.read_text()) if path and path.exists() else {}

    def reference(self, plan: Plan, samples_ms: Sequence[float]) -> float:
        """The stored time of this plan's canary; 0 without a canary.

        The first session stores it; a later one that is clearly faster replaces it, since the machine was busy before.
        """
        if plan.canary is None or not samples_ms:
            return 0.0
        key, median = plan.canary_key, statistics.median(samples_ms)
        if median < FASTER * self._known.get(key, float("inf")):
            self._known[key] = median
            self._save()
        return self._known[key]

    def _save(self) -> None:
        if self._path is None:
            return
        write_atomically(self._path, json.dumps(self._known, indent=1))
