"""A database that an older version wrote: it opens, comes to today's schema, and shows what it held."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select, text
from sqlalchemy.orm import undefer

from contracts.job import MeasureJob
from contracts.states import TrialState
from search_space.arch import ArchConfig
from server.jobs.repository import job_of
from server.migrations import alembic_config
from server.settings import Settings
from server.store import SqlStudyStore
from server.tables import JobRow
from tests.server.helpers import require_all_pages

DATA = Path(__file__).parent / "data"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    packed = (DATA / "0a649e8.sqlite3.gz").read_bytes()
    (tmp_path / "hilnas.sqlite3").write_bytes(gzip.decompress(packed))
    return Settings(var=tmp_path)


@pytest.fixture
def phones(client: TestClient) -> dict[str, Any]:
    """The running study with two targets."""
    return study(client, "phones")


def study(client: TestClient, name: str) -> dict[str, Any]:
    (found,) = [one for one in client.get("studies").json() if one["name"] == name]
    view: dict[str, Any] = client.get(f"studies/{found['id']}").json()
    return view


def test_it_comes_to_todays_schema_and_every_page_answers(app: FastAPI) -> None:
    with app.state.context.database.read() as session:
        version = session.scalar(text("SELECT version_num FROM alembic_version"))
    assert version == ScriptDirectory.from_config(alembic_config()).get_current_head()
    pages = require_all_pages(app)
    assert len([path for path in pages if "/trials/" in path]) == 3 * 12
    assert len([path for path in pages if "/jobs/" in path]) == 18


def test_the_studies_are_as_they_were(client: TestClient, phones: dict[str, Any]) -> None:
    assert phones["state"] == "running"
    assert phones["trials"] == {state.value: 2 if state is TrialState.COMPLETE else 1 for state in TrialState}
    assert phones["jobs"] == {"done": 15, "leased": 1, "queued": 1}
    assert [target["num_measured"] for target in phones["targets"]] == [7, 5]
    assert phones["hypervolume"] == pytest.approx(235.71)
    assert phones["spec"]["backend"] == "xnnpack"
    alone = study(client, "desk only")
    assert (alone["state"], alone["reason"]) == ("finished", "1 candidates complete, 1 on the front")
    assert (alone["trials"], alone["targets"], alone["front_size"]) == ({"complete": 1}, [], 1)


def test_the_front_has_its_values(client: TestClient, phones: dict[str, Any]) -> None:
    first, second = client.get(f"studies/{phones['id']}/front").json()["members"]
    assert (first["number"], first["values"]) == (10, {"quality": 0.6, "prefill_ms@256:desk": 110.0})
    assert (second["number"], second["values"]["prefill_ms@256:desk"]) == (7, 107.0)
    assert second["confirmed"]["prefill_ms@256:desk"]["median"] == 98.0
    assert second["beside"]["prefill_ms@256:desk"]["median"] == 101.0
    assert second["artifacts"] == {"one_piece": "ee" * 32, "checkpoint": "ab" * 32, "trained": "cd" * 32}


def test_every_trial_has_its_rows_and_reasons(client: TestClient, phones: dict[str, Any]) -> None:
    trials = client.get(f"studies/{phones['id']}/trials").json()
    names = {one["id"]: one["name"] for one in client.get("devices").json()}
    medians = {
        trial["number"]: {
            names[row["device_id"]]: (row["verdict"], row["metrics"]["prefill_ms@256"]["median"])
            for row in trial["measurements"].values()
        }
        for trial in trials
    }
    assert medians[3] == {"desk-ryzen": ("valid", 103.0), "galaxy-s24": ("noisy", 208.0)}
    assert medians[7] == {"desk-ryzen": ("valid", 107.0), "galaxy-s24": ("valid", 216.0)}
    assert [number for number, rows in medians.items() if not rows] == [0, 1, 2, 9]
    assert trials[1]["reason"] == "params is 9e+06 count, over the budget of 8e+06 count"
    row = next(row for row in trials[5]["measurements"].values() if row["target"] == "desk")
    assert row["canary"]["measured_at"] == 1.0
    (whole,) = [
        one["measurement"]
        for one in client.get(f"trials/{trials[5]['id']}/measurements").json()
        if one["measurement"]["target"] == "desk"
    ]
    assert whole["environment"] == {"before": {"note": "before there were limits", "battery_c": None}}
    assert whole["events"] == [[{"event": "start", "t_ns": 1}, {"event": "end", "t_ns": 2, "ok": True}]]


def test_devices_and_trainings_are_there(client: TestClient) -> None:
    devices = {one["name"]: one for one in client.get("devices").json()}
    assert list(devices) == ["desk-ryzen", "galaxy-s24", "old-laptop", "trainer"]
    assert devices["galaxy-s24"]["verdicts"] == {"valid": 5, "noisy": 1}
    assert devices["desk-ryzen"]["canary"]["median_ms"] == 10.2
    assert devices["old-laptop"]["draining"]
    trainings = {one["name"]: one for one in client.get("trainings").json()}
    assert {name: one["state"] for name, one in trainings.items()} == {"#10 tiny": "running", "#7 smoke": "finished"}
    done = trainings["#7 smoke"]
    assert client.get(f"trainings/{done['id']}").json()["result"]["tokens"] == 40_960
    (brought,) = client.get(f"trials/{done['trial_id']}/trainings").json()
    assert brought["training"]["losses"] == [6.2, 4.1]
    (curve,) = client.get(f"trainings/{done['id']}/curve").json()
    assert curve["columns"]["loss"][:2] == [7.0, 6.9]


def test_the_study_loop_can_go_on_with_it(app: FastAPI, phones: dict[str, Any]) -> None:
    """Digests of architectures and plans are what they were, so that what was measured is found again."""
    store = SqlStudyStore(app.state.context, phones["id"])
    trials = store.trials()
    assert all(isinstance(trial.arch, ArchConfig) and trial.arch.digest == trial.arch_digest for trial in trials)
    row = next(row for row in trials[7].measurements.values() if row.target == "desk")
    assert store.find_measurement(row.plan_digest, row.fingerprint) == row.model_copy(update={"target": "desk"})
    assert set(store.devices()) == {one.device_id for one in trials[7].measurements.values()}
    quality = store.find_quality(trials[7].arch_digest, "mechanistic/200")
    assert quality is not None
    assert quality.score == pytest.approx(0.57)
    (job,) = store.open_jobs()
    assert (job.target, job.form, job.state) == ("s24", "composed", "queued")
    store.update_trial(trials[4].id, state=TrialState.JUDGING)


def test_plans_keep_their_digests(app: FastAPI) -> None:
    with app.state.context.database.read() as session:
        rows = session.scalars(select(JobRow).where(JobRow.kind == "measure").options(undefer(JobRow.payload))).all()
    jobs = [job for job in map(job_of, rows) if isinstance(job, MeasureJob)]
    assert [job.plan.digest for job in jobs] == [row.plan_digest for row in rows]
    assert len(jobs) == 16
