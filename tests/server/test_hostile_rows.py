"""What agents send is a stranger's data: a value that cannot be is refused with a sentence or kept aside with a note.
Afterwards, and over rows that an older version stored in such a state, every page answers and every study goes on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from contracts.states import TrialState
from nas.store import StudyStore
from nas.study import Study
from server.app import create_app
from server.settings import Settings
from server.store import SqlStudyStore
from server.tables import (
    DeviceRow,
    EventRow,
    JobRow,
    MeasurementEventsRow,
    MeasurementRow,
    StudyRow,
    TrainingCurveRow,
    TrainingResultRow,
    TrainingRunRow,
    TrialRow,
)
from tests.databases import DATABASES, empty_database
from tests.doubles.workspace import FakeWorkspace, no_blocks  # noqa: F401
from tests.server import samples
from tests.server.helpers import AgentClient, EnrolAgent, local_client, require_all_pages

SURROGATE = "\ud800"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(params=DATABASES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    return Settings(var=tmp_path, database_url=empty_database(request.param, tmp_path))


def replaced(body: dict[str, Any], where: str, value: Any) -> dict[str, Any]:
    """``body`` with another value at ``where`` (names joined by slashes)."""
    *folders, last = where.split("/")
    place = body
    for folder in folders:
        place = place[folder]
    place[last] = value
    return body


def send(agent: AgentClient, lease: dict[str, Any], measurement: dict[str, Any]) -> Any:
    """As a hostile agent writes it: Python's JSON has NaN, Infinity and lone surrogates."""
    body = json.dumps({"fencing_token": lease["fencing_token"], "measurement": measurement})
    return agent.http.post(f"jobs/{lease['job_id']}/result", content=body, headers=JSON)


BELOW_ZERO = {"median": -5, "low": -5, "high": -5, "unit": "ms", "num_samples": 5}
# place in a measurement, value, what the refusal says
REFUSED = [
    ("metrics/prefill_ms@256", samples.estimate(5) | {"median": -5}, "does not contain its median -5"),
    ("metrics/prefill_ms@256", BELOW_ZERO, "no device measures prefill_ms@256 between -5 and -5 ms"),
    ("metrics/prefill_ms@256/median", float("-inf"), ""),
    ("metrics/prefill_ms@256/median", float("nan"), ""),
    ("metrics/prefill_ms@256", samples.estimate(1e300), "no device measures prefill_ms@256"),
    ("metrics/prefill_ms@256/high", 0.0, "does not contain its median"),
    ("beside", {"decode_ms@256": BELOW_ZERO}, "no device measures decode_ms@256"),
    ("environment/governor", SURROGATE, ""),
    ("environment", {SURROGATE: 1}, ""),
    ("reason", SURROGATE, ""),
    ("canary/median_ms", float("nan"), ""),
    ("canary/median_ms", "fast", "canary.median_ms"),
    ("wall_s", -1.0, "no device measures -1"),
    ("verdict", "splendid", "verdict"),
]  # fmt: skip

# place, value, verdict of the row
KEPT = [
    ("canary", {"measured_at": 1.0}, "valid"),
    ("canary", {"median_ms": 0.0, "reference_ms": 0.0, "drift": -1.0}, "valid"),
    ("canary", {"median_ms": -3.0, "reference_ms": 1e-320}, "valid"),
    ("metrics/joules@256", samples.estimate(4.0, "J"), "valid"),
    ("metrics/decode_ms@256:s24", samples.estimate(4.0), "valid"),
    ("metrics/params", {"median": "lots"}, "valid"),
    ("environment", {"before": {"battery_c": "warm", "thermal_status": [[[1]]]}}, "valid"),
    ("environment", {"measured_at": None, "x" * 900: "y" * 60_000}, "valid"),
    ("events", [[{"event": "start", "deep": [[[[[[[[[["!"]]]]]]]]]]}]], "valid"),
]  # fmt: skip


def measuring_trial(app: FastAPI, study_id: str) -> tuple[SqlStudyStore, str]:
    """A trial whose jobs are queued for every device."""
    store = SqlStudyStore(app.state.context, study_id)
    trial = store.add_trial({}, samples.candidate())
    store.update_trial(trial.id, state=TrialState.PREPARING)
    store.update_trial(trial.id, state=TrialState.MEASURING)
    from nas.targets import groups_of

    for group in groups_of(store.study().spec, store.devices()):
        store.submit(trial.id, group, samples.job())
    return store, trial.id


@pytest.mark.parametrize(("where", "value", "sentence"), REFUSED)
def test_a_value_that_cannot_be_is_refused(
    app: FastAPI, client: TestClient, enrol: EnrolAgent, study_id: str, where: str, value: Any, sentence: str
) -> None:
    agent = enrol()
    _, trial_id = measuring_trial(app, study_id)
    lease = agent.lease() or {}
    answer = send(agent, lease, replaced(samples.measurement(), where, value))
    assert answer.status_code == 422, answer.text
    assert set(answer.json()) == {"code", "message"}
    assert sentence in answer.json()["message"]
    assert "\n" not in answer.json()["message"]
    require_all_pages(app)
    assert client.get(f"studies/{study_id}").json()["state"] == "running"
    assert agent.result(lease).json()["accepted"], "the lease is still the agent's: a sound row counts"
    assert client.get(f"trials/{trial_id}").json()["measurements"]


@pytest.mark.parametrize(("where", "value", "verdict"), KEPT)
def test_what_is_no_metric_is_kept_aside(
    app: FastAPI, client: TestClient, enrol: EnrolAgent, study_id: str, where: str, value: Any, verdict: str
) -> None:
    agent, twin = enrol("a"), enrol("b")
    store, trial_id = measuring_trial(app, study_id)
    answer = send(agent, agent.lease() or {}, replaced(samples.measurement(), where, value))
    assert (answer.status_code, answer.json().get("accepted")) == (200, True), answer.text
    (row,) = client.get(f"trials/{trial_id}").json()["measurements"].values()
    assert row["verdict"] == verdict
    assert set(row["metrics"]) == {"prefill_ms@256", "decode_ms@256"}
    if where.startswith("metrics/"):
        assert list(row["unknown_metrics"]) == [where.removeprefix("metrics/")]
    store.update_trial(trial_id, state=TrialState.MEASURED)
    measuring_trial(app, study_id)
    assert twin.result(twin.lease() or {}).status_code == 200, "its peer is compared with it"
    require_all_pages(app)
    assert client.get(f"studies/{study_id}").json()["state"] == "running"


@pytest.fixture
def supervised(settings: Settings) -> Iterator[TestClient]:
    """A coordinator whose studies really run, but for torch."""

    block = settings.var / "block"
    block.write_bytes(b"a program")

    def run_study(store: StudyStore) -> None:
        workspace = FakeWorkspace()
        workspace.library.path = lambda digest: block
        Study(store, workspace).run()  # type: ignore[arg-type]

    with local_client(create_app(settings, run_study=run_study)) as client:
        yield client


HOSTILE = [
    samples.measurement() | {"canary": {"measured_at": 1.0}},
    samples.measurement() | {"environment": {"note": SURROGATE}},
    replaced(samples.measurement(), "metrics/decode_ms@256/median", float("-inf")),
    replaced(samples.measurement(), "metrics/decode_ms@256", BELOW_ZERO),
    replaced(samples.measurement(), "metrics/decode_ms@256/median", float("nan")),
    replaced(samples.measurement(), "metrics/joules", samples.estimate(1.0, "J")),
]


def test_a_study_outlives_an_agent_that_sends_all_of_it(supervised: TestClient, no_blocks: None) -> None:  # noqa: F811
    """Each trial gets every hostile row first; refused ones are answered with an error in the end, as agents do."""
    app = supervised.app
    token = supervised.post("devices/tokens", json={}).json()["token"]
    credential = supervised.post("agents/enrol", json={"token": token, "facts": samples.facts()}).json()
    agent = AgentClient(app, credential)  # type: ignore[arg-type]
    spec = samples.spec(
        objectives=[{"metric": "decode_ms@256"}], sampler="random", confirm=0, max_trials=4,
        space_options={"depth": 2, "d_model": 64, "vocab_size": 256},
    )  # fmt: skip
    study_id = supervised.post("studies", json=spec).json()["id"]
    for number in range(4):
        lease = agent.lease(wait_s=30)
        assert lease is not None, supervised.get(f"studies/{study_id}").json()
        for body in HOSTILE[1:5]:
            assert send(agent, lease, body).status_code == 422
        if number == 0:
            refused = {"error": "the coordinator refused the row", "error_code": "refused"}
            assert agent.result(lease, **refused).json()["accepted"]
        else:
            assert send(agent, lease, HOSTILE[0] if number == 1 else HOSTILE[5]).json()["accepted"]
        require_all_pages(app)  # type: ignore[arg-type]
    seen = wait_for_end(supervised, study_id)
    assert (seen["state"], seen["trials"]) == ("finished", {"complete": 3, "failed": 1}), seen["reason"]
    require_all_pages(app)  # type: ignore[arg-type]


def wait_for_end(client: TestClient, study_id: str) -> dict[str, Any]:
    ended = threading.Event()
    for _ in range(600):
        seen: dict[str, Any] = client.get(f"studies/{study_id}").json()
        if seen["state"] != "running" or ended.wait(0.1):
            break
    return seen


# --- rows that are in the database already ---------------------------------------------------------------------------

# JSONB of PostgreSQL holds neither, so no row of it can
UNSTORABLE = {"sqlite": [float("nan"), float("-inf"), SURROGATE], "postgresql": []}


def test_rows_stored_in_such_a_state_are_shown(app: FastAPI, client: TestClient, enrol: EnrolAgent, study_id: str,
                                               settings: Settings) -> None:  # fmt: skip
    agent = enrol()
    store, trial_id = measuring_trial(app, study_id)
    agent.result(agent.lease() or {})
    train(client, enrol("trainer", serves=("train",)), trial_id)
    kind = "sqlite" if "sqlite" in settings.url else "postgresql"
    values: list[Any] = [-5, None, "fast", [1], {"a": 1}, *UNSTORABLE[kind]]
    for value in values:
        spoil(app, value)
        require_all_pages(app)
        trial = client.get(f"trials/{trial_id}").json()
        assert "stored values that cannot be read were left out" in trial["reason"] or value == -5
        (row,) = trial["measurements"].values()
        assert row["verdict"] == "runner_failed", "half a row decides nothing"
        assert "stored values that cannot be read were left out" in row["reason"]
        assert row["metrics"].keys() == {"decode_ms@256"}
    assert store.trials()[0].measurements
    assert store.devices()
    assert client.get(f"studies/{study_id}").json()["state"] == "running"


def train(client: TestClient, trainer: AgentClient, trial_id: str) -> None:
    assert client.post(f"trials/{trial_id}/train", json={"recipe": "smoke"}).status_code == 201
    lease = trainer.lease() or {}
    curve = [{"stage": "smoke", "step": 1, "values": {"loss": 2.0}}]
    told = {"fencing_token": lease["fencing_token"], "stages": [{"name": "smoke"}], "curve": curve}
    assert trainer.http.post(f"trainings/{lease['job_id']}/progress", json=told).status_code == 200
    assert trainer.result(lease, training=samples.training()).json()["accepted"]


def spoil(app: FastAPI, value: Any) -> None:
    """``value`` in every place of JSON that an agent, an older version or a user's own hand may have filled."""
    note = {"note": value, "measured_at": 1.0}
    with app.state.context.database.write() as session:
        for row in session.scalars(select(MeasurementRow)):
            estimate = samples.estimate(5.0) | {"median": value}
            metrics = {"prefill_ms@256": estimate, "decode_ms@256": samples.estimate(5.0), "joules": value}
            row.body = row.body | {"metrics": metrics, "environment": note, "canary": note, "reason": ""}
        for device in session.scalars(select(DeviceRow)):
            device.canary = note
            device.facts = device.facts | {"details": note}
        for job in session.scalars(select(JobRow)):
            job.details = note
        for trial in session.scalars(select(TrialRow)):
            trial.costs, trial.values, trial.artifacts = {"params": value}, {"quality": value}, {"checkpoint": value}
            trial.quality, trial.blocks, trial.assignment = {"estimator": value, "score": value}, [value], note
            trial.state = TrialState.COMPLETE
        for study in session.scalars(select(StudyRow)):
            study.reference_point = {"quality": value}
            study.spec = study.spec | {"space_options": note, "max_trials": value}
        for events in session.scalars(select(MeasurementEventsRow)):
            events.events = [[{"event": "start", "t_ns": value}], value]
        for event in session.scalars(select(EventRow)):
            event.fields = note
        for run in session.scalars(select(TrainingRunRow)):
            run.stages, run.strides = [{"name": "smoke", "metrics": note, "share": value}, value], note
        for line in session.scalars(select(TrainingCurveRow)):
            line.values = {"loss": value, "kd": 1.0}
        for result in session.scalars(select(TrainingResultRow)):
            result.body = result.body | {"losses": [value], "held_out_bits_per_byte": {"before": value}, "note": value}
