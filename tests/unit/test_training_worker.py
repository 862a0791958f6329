"""What a trainer answers when a job goes wrong, and what it says of itself."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from contracts.job import Lease, TrainJob
from foundation.errors import InvalidConfig
from trainer.recipes import RECIPES
from trainer.runs.local import Stopped
from trainer.runs.worker import Worker, facts

JOB = TrainJob(arch={"d_model": 32}, recipe="smoke")


def outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Any:
    def train(*_: object) -> None:
        raise error

    monkeypatch.setattr(Worker, "train", train)
    lease = Lease(job_id="job-1", fencing_token=3, expires_at=datetime.now(UTC), heartbeat_s=1.0, job=JOB)
    beat: Any = SimpleNamespace(cancelled=SimpleNamespace(is_set=lambda: False))
    return Worker("http://127.0.0.1:1", tmp_path)._outcome(lease, JOB, beat)


@pytest.mark.parametrize(
    ("error", "code", "retry", "sentence"),
    [
        (InvalidConfig("no such recipe"), "invalid_config", False, "no such recipe"),
        (OSError(28, "No space left on device"), "trainer_io", True, "No space left"),
        (Stopped(), "stopped", True, "its trainer was stopped"),
        (MemoryError("8 TiB"), "trainer_error", False, "the trainer failed: MemoryError: 8 TiB"),
        (KeyError("arch"), "trainer_error", False, "the trainer failed: KeyError: 'arch'"),
    ],
)
def test_every_end_of_a_job_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: str, retry: bool, sentence: str
) -> None:
    result = outcome(tmp_path, monkeypatch, error)
    assert (result.fencing_token, result.error_code, result.retry) == (3, code, retry)
    assert sentence in result.error


def test_its_recipes_are_part_of_its_facts() -> None:
    assert facts().details["recipes"] == {name: entry.about for name, entry in RECIPES.items()}
