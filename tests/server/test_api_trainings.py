"""Training runs over HTTP: made with their job, told about, bounded, stopped, resumed, followed live."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from server.context import Context
from server.settings import Settings
from server.store import SqlStudyStore
from server.trainings.repository import MAX_POINTS
from tests.server import samples
from tests.server.helpers import AgentClient, EnrolAgent, FakeClock

STAGES = [
    {"name": "data", "kind": "data", "state": "done", "seconds": 4.0, "metrics": {"tokens": 900}},
    {"name": "pretrain", "kind": "pretrain", "state": "running", "share": 0.5, "eta_s": 30.0},
]


@pytest.fixture
def trial_id(ctx: Context, study_id: str) -> str:
    return SqlStudyStore(ctx, study_id).add_trial({}, samples.candidate()).id


@pytest.fixture
def trainer(enrol: EnrolAgent) -> AgentClient:
    return enrol("trainer", serves=("train",))


def start(client: TestClient, trial_id: str) -> str:
    job = client.post(f"trials/{trial_id}/train", json={"recipe": "tiny"}).json()
    found: str = job["id"]
    return found


def tell(trainer: AgentClient, lease: dict[str, Any], **fields: Any) -> Any:
    body = {"fencing_token": lease["fencing_token"], **fields}
    return trainer.http.post(f"trainings/{lease['job_id']}/progress", json=body)


def lines(*steps: int, stage: str = "pretrain") -> list[dict[str, Any]]:
    return [{"stage": stage, "step": step, "values": {"loss": 7.0 - step / 1000}} for step in steps]


def test_a_run_is_there_with_its_job_and_shows_what_its_trainer_tells(
    client: TestClient, trial_id: str, trainer: AgentClient
) -> None:
    job_id = start(client, trial_id)
    (run,) = client.get("trainings").json()
    assert (run["id"], run["state"], run["name"], run["trial_number"]) == (job_id, "queued", "#0 tiny", 0)
    lease = trainer.lease() or {}
    told = tell(trainer, lease, share=0.25, message="step 10", stages=STAGES, curve=lines(0, 1, 2))
    assert told.json() == {"stop": False}
    run = client.get(f"trainings/{job_id}").json()
    assert (run["state"], run["share"], run["num_done"], run["num_stages"]) == ("running", 0.25, 1, 2)
    assert run["where"] == "trainer"
    assert run["stages"][0]["metrics"] == {"tokens": 900}
    (curve,) = client.get(f"trainings/{job_id}/curve").json()
    assert (curve["stage"], curve["steps"], curve["columns"]["loss"][0]) == ("pretrain", [0, 1, 2], 7.0)
    trainer.result(lease, training=samples.training())
    run = client.get(f"trainings/{job_id}").json()
    assert (run["state"], run["result"]["program_bytes"]) == ("finished", 4096)
    assert [one["id"] for one in client.get("trainings", params={"study_id": lease["job_id"]}).json()] == []
    assert [one["id"] for one in client.get("trainings", params={"trial_id": trial_id}).json()] == [job_id]


def test_steps_done_again_replace_those_of_the_run_before(
    client: TestClient, trial_id: str, trainer: AgentClient
) -> None:
    job_id, lease = start(client, trial_id), trainer.lease() or {}
    for steps in ((0, 1, 2, 3), (0, 1, 2, 3), (2,)):
        tell(trainer, lease, curve=lines(*steps))
    (curve,) = client.get(f"trainings/{job_id}/curve", params={"after": 0}).json()
    assert curve["steps"] == [1, 2]


def test_long_curves_are_thinned(client: TestClient, trial_id: str, trainer: AgentClient) -> None:
    job_id, lease = start(client, trial_id), trainer.lease() or {}
    for first in range(0, 3000, 500):
        tell(trainer, lease, curve=lines(*range(first, first + 500)))
    (curve,) = client.get(f"trainings/{job_id}/curve").json()
    assert curve["steps"] == list(range(0, 3000, 4))
    assert len(curve["steps"]) <= MAX_POINTS


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ({"curve": lines(*range(501))}, 422),
        ({"curve": [{"stage": "x", "step": 0, "values": {"loss": "much"}}]}, 422),
        ({"share": 1.5}, 422),
        ({"stages": [{"name": "x", "metrics": {"text": "y" * 70_000}}]}, 422),
    ],
    ids=["too many lines", "no number", "share", "too much"],
)
def test_what_does_not_fit_is_refused(
    client: TestClient, trial_id: str, trainer: AgentClient, told: dict[str, Any], status: int
) -> None:
    start(client, trial_id)
    answer = tell(trainer, trainer.lease() or {}, **told)
    assert answer.status_code == status
    assert answer.json()["message"]


def test_only_the_holder_of_the_lease_tells(
    client: TestClient, trial_id: str, trainer: AgentClient, enrol: EnrolAgent, clock: FakeClock, settings: Settings
) -> None:
    start(client, trial_id)
    lease = trainer.lease() or {}
    assert tell(enrol("other"), lease).json()["code"] == "lease_lost"
    assert client.post(f"trainings/{lease['job_id']}/progress", json={"fencing_token": 1}).status_code == 403
    clock.advance(settings.lease_s + 1)
    again = trainer.lease() or {}
    assert again["job_id"] == lease["job_id"]
    assert tell(trainer, lease).status_code == 409
    assert tell(trainer, again).status_code == 200


def test_a_queued_run_is_stopped_at_once_and_the_same_request_resumes_it(
    client: TestClient, trial_id: str, trainer: AgentClient
) -> None:
    job_id = start(client, trial_id)
    assert client.post(f"trainings/{job_id}/stop").json()["state"] == "stopped"
    assert client.post(f"trainings/{job_id}/stop").json()["state"] == "stopped"
    assert trainer.lease() is None
    assert start(client, trial_id) == job_id
    assert (trainer.lease() or {})["job_id"] == job_id


def test_a_running_one_hears_it_with_its_next_word(client: TestClient, trial_id: str, trainer: AgentClient) -> None:
    job_id, lease = start(client, trial_id), trainer.lease() or {}
    tell(trainer, lease, curve=lines(0, 1))
    assert client.post(f"trainings/{job_id}/stop").json()["state"] == "stopping"
    assert trainer.heartbeat(lease).json()["cancel"]
    assert tell(trainer, lease).json() == {"stop": True}
    trainer.result(lease, error="stopped by its user", error_code="cancelled")
    assert client.get(f"trainings/{job_id}").json()["state"] == "stopped"
    assert client.post(f"trainings/{job_id}/resume").json()["state"] == "queued"
    again = trainer.lease() or {}
    assert again["job_id"] == job_id
    assert not trainer.heartbeat(again).json()["cancel"]
    assert client.get(f"trainings/{job_id}/curve").json()[0]["steps"] == [0, 1]
    trainer.result(again, training=samples.training())
    assert client.post(f"trainings/{job_id}/stop").status_code == 409
    assert client.post(f"trainings/{job_id}/resume").status_code == 409


def test_a_stopped_run_whose_trainer_is_gone_ends_with_its_lease(
    client: TestClient, trial_id: str, trainer: AgentClient, clock: FakeClock, settings: Settings
) -> None:
    job_id = start(client, trial_id)
    trainer.lease()
    client.post(f"trainings/{job_id}/stop")
    clock.advance(settings.lease_s + 1)
    assert trainer.lease() is None
    assert client.get(f"trainings/{job_id}").json()["state"] == "stopped"


def test_a_failed_run_says_why_and_can_be_resumed(client: TestClient, trial_id: str, trainer: AgentClient) -> None:
    job_id = start(client, trial_id)
    trainer.result(trainer.lease() or {}, error="stage data stopped: no text", error_code="stage_failed")
    run = client.get(f"trainings/{job_id}").json()
    assert (run["state"], run["error"]) == ("failed", "stage data stopped: no text")
    assert start(client, trial_id) == job_id
    assert client.get(f"trainings/{job_id}").json()["state"] == "failed"
    client.post(f"trainings/{job_id}/resume")
    assert (trainer.lease() or {})["job_id"] == job_id


def test_a_run_on_a_users_machine(client: TestClient, clock: FakeClock, trainer: AgentClient) -> None:
    run_id = client.post("trainings", json={"name": "at home", "recipe": "tiny"}).json()["id"]
    path = f"trainings/{run_id}/progress"
    assert client.post(path, json={"share": 0.5, "stages": STAGES}).json() == {"stop": False}
    assert trainer.http.post(path, json={"share": 0.6}).status_code == 403
    assert client.get(f"trainings/{run_id}").json()["state"] == "running"
    clock.advance(3600)
    assert client.get(f"trainings/{run_id}").json()["state"] == "silent"
    client.post(path, json={"share": 0.7})
    assert client.post(f"trainings/{run_id}/stop").json()["state"] == "stopping"
    assert client.post(path, json={"share": 0.8}).json() == {"stop": True}
    assert client.post(path, json={"state": "stopped"}).status_code == 200
    run = client.get(f"trainings/{run_id}").json()
    assert (run["state"], run["num_stages"], run["finished_at"] is None) == ("stopped", 2, False)
    assert client.post(f"trainings/{run_id}/resume").json()["code"] == "not_a_job"


def test_the_present_state_is_streamed(client: TestClient, trial_id: str, trainer: AgentClient) -> None:
    job_id, lease = start(client, trial_id), trainer.lease() or {}
    tell(trainer, lease, share=0.5)
    text = client.get(f"trainings/{job_id}/events", params={"wait": False}).text
    data = json.loads(next(line for line in text.splitlines() if line.startswith("data:")).removeprefix("data:"))
    assert (data["id"], data["state"], data["share"]) == (job_id, "running", 0.5)
    seen = {"Last-Event-ID": str(data["revision"])}
    assert "data:" not in client.get(f"trainings/{job_id}/events", params={"wait": False}, headers=seen).text


@pytest.mark.parametrize("path", ["", "/curve", "/events"])
def test_an_unknown_run_is_a_404(client: TestClient, path: str) -> None:
    assert client.get(f"trainings/none{path}").status_code == 404
