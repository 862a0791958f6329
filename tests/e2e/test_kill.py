"""kill -9 of coordinator, agent and runner at seeded random moments of a study: nothing acknowledged is lost, nothing
counts twice, every trial ends. (tests/server/test_kill.py has the coordinator alone, with one job held out.)"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from contracts.states import FINISHED_TRIALS
from tests.e2e.processes import Service, wait_for

SPEC: dict[str, Any] = {
    "name": "kill",
    "space": "debug_space",
    "space_options": {"depth": 2, "d_model": 64, "vocab_size": 256},
    "objectives": [{"metric": "decode_ms@256"}, {"metric": "memory_bytes@256"}],
    "sampler": "random",
    "protocol": "quick",
    "max_trials": 6,
    "confirm": 0,
}
LEASE_S = 4.0  # a killed agent's job is queued again after this
DEADLINE_S = 300.0
pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def job_states(service: Service, study_id: str) -> Counter[str]:
    return Counter(job["state"] for job in service.get("/jobs", study_id=study_id, limit=1000))


def wait_for_job(service: Service, study_id: str, state: str, count: int) -> None:
    """Until ``count`` jobs are in ``state``, or the study is over."""
    wait_for(
        f"job {count} {state}",
        lambda: job_states(service, study_id)[state] >= count or service.ended(study_id),
        DEADLINE_S,
    )


def check_the_books(service: Service, study: dict[str, Any], acknowledged: dict[str, str | None]) -> None:
    assert study["state"] == "finished", study["reason"]
    trials = service.get(f"/studies/{study['id']}/trials")
    assert len(trials) == SPEC["max_trials"]
    assert len({trial["arch_digest"] for trial in trials}) == SPEC["max_trials"]
    assert {trial["state"] for trial in trials} <= set(FINISHED_TRIALS)
    for trial in trials:
        assert bool(trial["reason"]) == (trial["state"] != "complete"), trial
    kept = service.measurements(study["id"])
    assert acknowledged.items() <= kept.items()
    measured = [job_id for job_id in kept.values() if job_id is not None]
    assert max(Counter(measured).values(), default=0) <= 1
    jobs = service.get("/jobs", study_id=study["id"], limit=1000)
    assert {job["state"] for job in jobs} <= {"done", "failed"}
    assert sorted(measured) == sorted(job["id"] for job in jobs if job["state"] == "done")


@pytest.mark.parametrize("victim", ["coordinator", "agent", "runner"])
def test_kill_9(tmp_path: Path, runner: Path, rng: random.Random, victim: str) -> None:
    moments = [("leased", 1), ("done", rng.randint(1, 2)), ("done", rng.randint(3, 4))]
    print(f"kill the {victim} at {moments}")
    acknowledged: dict[str, str | None] = {}
    with Service(tmp_path / "var", LEASE_S) as service:
        service.start_coordinator()
        service.start_agent()
        study_id = service.post("/studies", SPEC)["id"]
        for state, count in moments:
            wait_for_job(service, study_id, state, count)
            acknowledged |= service.measurements(study_id)
            if service.ended(study_id):
                break
            strike(service, victim, study_id)
        check_the_books(service, service.wait_until_ended(study_id, DEADLINE_S), acknowledged)


def strike(service: Service, victim: str, study_id: str) -> None:
    """Kills the victim and starts it again; the agent's next runner is the agent's own to start."""
    if victim == "runner":
        wait_for("a runner or the end", lambda: service.kill_runner() or service.ended(study_id), DEADLINE_S)
    elif victim == "agent":
        service.kill("agent")
        service.start_agent()
    else:
        service.kill("coordinator")
        service.start_coordinator()
