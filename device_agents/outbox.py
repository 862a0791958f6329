"""Keeps results on disk until the coordinator has them: a killed agent sends finished results at its next start."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from contracts.job import JobResult
from foundation.files import write_atomically


class Outbox:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def put(self, job_id: str, result: JobResult) -> None:
        """Durable before it returns."""
        entry = {"job_id": job_id, "result": result.model_dump(mode="json")}
        write_atomically(self._folder / f"{job_id}.json", json.dumps(entry))

    def pending(self) -> Iterator[tuple[str, JobResult]]:
        for path in sorted(self._folder.glob("*.json")):
            entry = json.loads(path.read_text())
            yield entry["job_id"], JobResult(**entry["result"])

    def remove(self, job_id: str) -> None:
        (self._folder / f"{job_id}.json").unlink(missing_ok=True)
