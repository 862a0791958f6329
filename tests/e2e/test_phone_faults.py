"""What goes wrong on phones, on a virtual one that takes part in real searches: every fault ends with a typed verdict,
and no measurement is lost or counts twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.measurement import Verdict
from contracts.states import FINISHED_TRIALS
from device_agents.bundle.manifest import Bundle
from tests.e2e.processes import Service, wait_for
from tests.phones.virtual import start
from virtual_phone.phone import VirtualPhone

SPEC: dict[str, Any] = {
    "name": "fault",
    "space": "debug_space",
    "space_options": {"depth": 4, "d_model": 64, "vocab_size": 256},
    "objectives": [{"metric": "decode_ms@256"}, {"metric": "memory_bytes@256"}],
    "sampler": "random",
    "protocol": "quick",
    "precision": 10.0,  # times under an emulator on a shared machine; what is tested is what becomes of them
    "max_trials": 2,
    "confirm": 0,
}
DEADLINE_S = 180.0
pytestmark = [pytest.mark.e2e, pytest.mark.slow]


class Laboratory:
    """A coordinator, one agent process, one virtual phone; every test is a study of its own on them."""

    def __init__(self, service: Service, phone: VirtualPhone) -> None:
        self.service, self.phone, self.studies = service, phone, 0

    def search(self, **changes: Any) -> str:
        self.studies += 1
        return str(self.service.post("/studies", {**SPEC, "seed": 100 + self.studies, **changes})["id"])

    def when_running(self) -> None:
        """Until a cold run has begun on the phone."""
        wait_for("a run on the phone", lambda: any(not (p.parent / "done").exists() for p in self.runs()), DEADLINE_S)

    def runs(self) -> list[Path]:
        return list((self.phone.root / "runs").glob("*/pid"))

    def end(self, study_id: str) -> list[dict[str, Any]]:
        """Waits for the study, checks its books, and gives every stored row."""
        study = wait_for("the end of the study", lambda: self.service.ended(study_id), DEADLINE_S)
        assert study["state"] == "finished", study["reason"]
        trials = self.service.get(f"/studies/{study_id}/trials")
        assert len(trials) == SPEC["max_trials"] and {t["state"] for t in trials} <= set(FINISHED_TRIALS), trials
        rows = [row for t in trials for row in self.service.get(f"/trials/{t['id']}/measurements")]
        jobs = {job["id"]: job for job in self.service.get("/jobs", study_id=study_id, limit=1000)}
        counted = [row["job_id"] for row in rows if row["job_id"]]
        assert max(Counter(counted).values(), default=0) <= 1, "a job counted twice"
        assert sorted(counted) == sorted(job_id for job_id, job in jobs.items() if job["state"] == "done")
        valid = sum(row["measurement"]["verdict"] == Verdict.VALID for row in rows)
        assert valid == sum(t["state"] == "complete" for t in trials)
        given_up = [t["reason"] for t in trials if t["state"] != "complete"]
        assert all("drifted" in reason for reason in given_up), given_up
        return rows

    def refused(self, sign: str) -> bool:
        log = self.service.var / "phones.log"
        return log.exists() and sign in log.read_text()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, phone_bundle: Bundle) -> Iterator[Laboratory]:
    folder = tmp_path_factory.mktemp("faults")
    phone = start(folder / "phone")
    with Service(folder / "var", lease_s=10.0) as service:
        service.start_coordinator()
        service.start_phone_agent(phone.address, wait="4")
        lab = Laboratory(service, phone)
        wait_for("the agent's first look at the phone", lambda: lab.refused("agent_enrolled"), DEADLINE_S)
        yield lab
    phone.close()


def verdicts(rows: list[dict[str, Any]]) -> set[str]:
    return {row["measurement"]["verdict"] for row in rows}


def measured(rows: list[dict[str, Any]]) -> bool:
    """A whole session took place: on a busy machine its times may have drifted, which is its verdict then."""
    return bool({Verdict.VALID, Verdict.DRIFTED} & verdicts(rows))


def test_cut_in_mid_push(lab: Laboratory) -> None:
    lab.phone.cut(after_bytes=50_000)
    rows = lab.end(lab.search())
    assert lab.refused("connection_cut") and measured(rows)


@pytest.mark.parametrize("fault", ["cut_now", "reboot", "kill_runner"])
def test_in_mid_run(lab: Laboratory, fault: str) -> None:
    study_id = lab.search()
    lab.when_running()
    getattr(lab.phone, fault)()
    assert measured(lab.end(study_id))


@pytest.mark.slow_ci
def test_a_key_that_is_revoked_and_given_again(lab: Laboratory) -> None:
    study_id = lab.search()
    lab.when_running()
    lab.phone.unauthorized()
    wait_for("the agent to say so", lambda: lab.refused("has not accepted this host's key"), DEADLINE_S)
    lab.phone.unauthorized(False)
    assert measured(lab.end(study_id))


@pytest.mark.slow_ci
def test_full_storage(lab: Laboratory) -> None:
    lab.phone.full_storage()
    study_id = lab.search(space_options={"depth": 2, "d_model": 96, "vocab_size": 256})
    wait_for(
        "the agent to say so", lambda: lab.refused("no space left") or lab.refused("free on the phone"), DEADLINE_S
    )
    lab.phone.full_storage(False)
    assert measured(lab.end(study_id))


def test_a_hot_phone_is_waited_for(lab: Laboratory) -> None:
    lab.phone.hot(temp_c=42.0, cools_after_s=2.0)
    rows = lab.end(lab.search())
    assert measured(rows)
    assert lab.refused("phone_cooling")


def test_a_phone_that_stays_hot_says_so_and_measures_later(lab: Laboratory) -> None:
    lab.phone.hot(temp_c=45.0, cools_after_s=12.0)
    assert Verdict.HOT_START in verdicts(lab.end(lab.search()))


def test_throttling_in_mid_run(lab: Laboratory) -> None:
    lab.phone.throttle()
    study_id = lab.search()
    wait_for("a throttled row", lambda: seen(lab, study_id, Verdict.THROTTLED), DEADLINE_S)
    lab.phone.throttle(False)
    rows = lab.end(study_id)
    assert Verdict.THROTTLED in verdicts(rows) and measured(rows)


def test_a_wrong_clock(lab: Laboratory) -> None:
    lab.phone.wrong_clock(3600)
    study_id = lab.search()
    wait_for("the agent to say so", lambda: lab.refused("Automatic"), DEADLINE_S)
    lab.phone.wrong_clock(0)
    assert measured(lab.end(study_id))


def seen(lab: Laboratory, study_id: str, verdict: Verdict) -> bool:
    jobs = lab.service.get("/jobs", study_id=study_id, limit=1000)
    return any(job["verdict"] == verdict for job in jobs)
