"""The agent's outbox: what ``put`` returned from is there after any crash, once, until it is removed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from contracts.job import JobResult
from contracts.measurement import Estimate, Measurement, Verdict
from device_agents.outbox import Outbox

JOBS = ("job-1", "job-2", "job-3")


def result(token: int) -> JobResult:
    estimate = Estimate(median=1.5, low=1.0, high=2.0, unit="ms", num_samples=3)
    events = [[{"event": "end", "ok": True, "text": 'ä\n"{'}]]
    row = Measurement(
        plan_digest="ab" * 32,
        protocol="quick",
        verdict=Verdict.VALID,
        metrics={"decode_ms@256": estimate},
        events=events,
    )
    return JobResult(fencing_token=token, measurement=row)


class OutboxMachine(RuleBasedStateMachine):
    """Puts, removals, restarts and torn writes in any order, against a plain dictionary."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        for path in self.folder.glob("*"):
            path.unlink()
        self.expected: dict[str, JobResult] = {}
        self.outbox = Outbox(self.folder)

    kept = Bundle("kept")

    @rule(target=kept, job_id=st.sampled_from(JOBS), token=st.integers(1, 5))
    def put(self, job_id: str, token: int) -> str:
        self.outbox.put(job_id, result(token))
        self.expected[job_id] = result(token)
        return job_id

    @rule(job_id=consumes(kept))
    def remove(self, job_id: str) -> None:
        self.outbox.remove(job_id)
        self.expected.pop(job_id, None)

    @rule(job_id=st.sampled_from(JOBS), length=st.integers(0, 40))
    def tear(self, job_id: str, length: int) -> None:
        """Killed while writing: half a file under its temporary name."""
        (self.folder / f"{job_id}.partial").write_text(json.dumps({"job_id": job_id})[:length])

    @rule()
    def restart(self) -> None:
        self.outbox = Outbox(self.folder)

    @invariant()
    def holds_what_was_put(self) -> None:
        assert dict(self.outbox.pending()) == self.expected


def test_the_outbox_holds_what_was_put(tmp_path: Path) -> None:
    machine = type("Machine", (OutboxMachine,), {"folder": tmp_path / "outbox"})
    (tmp_path / "outbox").mkdir()
    run_state_machine_as_test(machine, settings=settings(max_examples=30, stateful_step_count=15, deadline=None))


def test_a_result_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), replace(a, b)))
    Outbox(tmp_path).put("job-1", result(1))
    assert calls == ["fsync", "replace"]


def test_a_failed_write_leaves_the_older_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outbox = Outbox(tmp_path)
    outbox.put("job-1", result(1))

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        outbox.put("job-1", result(2))
    assert dict(outbox.pending()) == {"job-1": result(1)}


def test_removing_twice_is_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put("job-1", result(1))
    outbox.remove("job-1")
    outbox.remove("job-1")
    assert list(outbox.pending()) == []
