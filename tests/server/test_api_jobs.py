"""From submit to a counted result, over HTTP."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from fastapi.testclient import TestClient

from contracts.device import DeviceFacts
from contracts.states import StudyState
from server.context import Context
from server.hub import queue_topic
from server.store import SqlStudyStore
from tests.server import samples
from tests.server.helpers import EnrolAgent, FakeClock, only


@pytest.fixture
def store(ctx: Context, study_id: str) -> SqlStudyStore:
    return SqlStudyStore(ctx, study_id)


def fingerprint(**changes: Any) -> str:
    return DeviceFacts.model_validate(samples.facts(**changes)).fingerprint


def submit(store: SqlStudyStore, device_id: str, name: str = "trial-0", **options: Any) -> tuple[str, str]:
    trial = store.add_trial({"layer_00.mixer": name}, samples.candidate())
    return trial.id, store.submit(trial.id, only(device_id), samples.job(name, **options))


def test_a_measurement_travels_from_submit_to_the_trial(store: SqlStudyStore, enrol: EnrolAgent) -> None:
    agent = enrol()
    _trial_id, job_id = submit(store, agent.device_id)
    lease = agent.lease()
    assert lease is not None
    assert (lease["job_id"], lease["fencing_token"]) == (job_id, 1)
    assert lease["job"]["plan"]["id"] == "trial-0"
    assert agent.result(lease).json() == {"accepted": True, "reason": ""}
    (trial,) = store.trials()
    assert trial.measurements[agent.device_id].metrics["prefill_ms@256"].median == 100.0
    assert trial.measurements[agent.device_id].events == []
    assert store.open_jobs() == []


def test_raw_events_are_kept_apart(store: SqlStudyStore, enrol: EnrolAgent, client: TestClient) -> None:
    agent = enrol()
    trial_id, _ = submit(store, agent.device_id)
    agent.result(agent.lease() or {})
    (row,) = client.get(f"trials/{trial_id}/measurements").json()
    assert row["measurement"]["events"][0][0]["event"] == "start"
    assert not row["reused"]


def test_a_result_sent_twice_counts_once(store: SqlStudyStore, enrol: EnrolAgent, client: TestClient) -> None:
    agent = enrol()
    trial_id, _ = submit(store, agent.device_id)
    lease = agent.lease() or {}
    agent.result(lease)
    assert agent.result(lease).json() == {"accepted": True, "reason": "already_done"}
    assert len(client.get(f"trials/{trial_id}/measurements").json()) == 1


def test_a_result_under_an_old_token_is_kept_and_changes_nothing(
    store: SqlStudyStore, enrol: EnrolAgent, clock: FakeClock, client: TestClient, ctx: Context
) -> None:
    agent = enrol()
    trial_id, job_id = submit(store, agent.device_id)
    old = agent.lease() or {}
    clock.advance(61)
    new = agent.lease() or {}
    assert (new["job_id"], new["fencing_token"]) == (job_id, 2)
    assert agent.result(old).json() == {"accepted": False, "reason": "stale_token"}
    assert client.get(f"jobs/{job_id}").json()["state"] == "leased"
    assert agent.result(new).json()["accepted"]
    assert len(client.get(f"trials/{trial_id}/measurements").json()) == 1
    with ctx.database.engine.connect() as connection:
        assert connection.exec_driver_sql("select reason, fencing_token from late_results").all() == [
            ("stale_token", 1)
        ]


def test_a_result_after_the_lease_ran_out_still_counts_while_nobody_else_has_the_job(
    store: SqlStudyStore, enrol: EnrolAgent, clock: FakeClock
) -> None:
    agent = enrol()
    submit(store, agent.device_id)
    lease = agent.lease() or {}
    clock.advance(600)
    assert agent.result(lease).json()["accepted"]


def test_a_job_fails_with_a_sentence_after_the_last_attempt(
    store: SqlStudyStore, enrol: EnrolAgent, clock: FakeClock, client: TestClient
) -> None:
    agent = enrol()
    trial_id, job_id = submit(store, agent.device_id)
    for _ in range(3):
        assert agent.lease() is not None
        clock.advance(61)
    assert agent.lease() is None
    (failed,) = store.failed_jobs(trial_id)
    assert failed.error == "given up after 3 attempts: its agent went silent"
    assert failed.error_code == "device_lost"
    assert client.get(f"jobs/{job_id}").json()["attempts"] == 3


def test_a_heartbeat_keeps_the_lease_and_shows_progress(
    store: SqlStudyStore, enrol: EnrolAgent, clock: FakeClock, client: TestClient
) -> None:
    agent = enrol()
    _, job_id = submit(store, agent.device_id)
    lease = agent.lease() or {}
    for _ in range(4):
        clock.advance(50)
        reply = agent.heartbeat(lease, progress=0.5, message="repetition 2").json()
        assert (reply["cancel"], reply["drain"]) == (False, False)
    assert client.get(f"jobs/{job_id}").json()["progress"] == 0.5
    assert client.get("devices").json()[0]["current_job"]["message"] == "repetition 2"
    assert agent.lease() is None


def test_a_heartbeat_on_a_lost_lease_says_so(store: SqlStudyStore, enrol: EnrolAgent, clock: FakeClock) -> None:
    agent = enrol()
    submit(store, agent.device_id)
    lease = agent.lease() or {}
    clock.advance(61)
    agent.lease()
    answer = agent.heartbeat(lease)
    assert answer.status_code == 409
    assert answer.json()["code"] == "lease_lost"


def test_another_device_cannot_hand_in_the_result(store: SqlStudyStore, enrol: EnrolAgent) -> None:
    agent, other = enrol(), enrol("other-cpu")
    submit(store, agent.device_id)
    lease = agent.lease() or {}
    assert other.lease() is None
    assert other.result(lease).json() == {"accepted": False, "reason": "stale_token"}
    assert agent.result(lease).json()["accepted"]


def test_submitting_again_is_the_same_job(store: SqlStudyStore, enrol: EnrolAgent) -> None:
    agent = enrol()
    trial_id, job_id = submit(store, agent.device_id)
    assert store.submit(trial_id, only(agent.device_id), samples.job()) == job_id
    assert store.submit(trial_id, only(agent.device_id), samples.job(form="one_piece")) != job_id
    assert [job.form for job in store.open_jobs()] == ["composed", "one_piece"]


def test_the_device_may_ask_for_another_try(store: SqlStudyStore, enrol: EnrolAgent) -> None:
    agent = enrol()
    trial_id, _ = submit(store, agent.device_id)
    for attempt in range(3):
        lease = agent.lease() or {}
        assert lease["fencing_token"] == attempt + 1
        assert agent.result(lease, error="too hot", error_code="thermal_limit", retry=True).json()["accepted"]
    (failed,) = store.failed_jobs(trial_id)
    assert (failed.error, failed.error_code) == ("too hot", "thermal_limit")


def test_a_not_valid_verdict_is_a_done_job(store: SqlStudyStore, enrol: EnrolAgent) -> None:
    agent = enrol()
    trial_id, _ = submit(store, agent.device_id)
    agent.result(agent.lease() or {}, measurement=samples.measurement(verdict="throttled"))
    assert store.trials()[0].measurements[agent.device_id].verdict == "throttled"
    assert store.failed_jobs(trial_id) == []
    assert store.find_measurement(samples.plan().digest, fingerprint()) is None


def test_a_result_names_one_outcome(store: SqlStudyStore, enrol: EnrolAgent) -> None:
    agent = enrol()
    submit(store, agent.device_id)
    lease = agent.lease() or {}
    answer = agent.result(lease, error="x", training=samples.training())
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("a result holds one of measurement, training and error, got")
    assert agent.result(lease, training=samples.training()).status_code == 400


def test_stop_cancels_what_waits_and_tells_what_runs(
    store: SqlStudyStore, enrol: EnrolAgent, client: TestClient, study_id: str
) -> None:
    agent = enrol()
    submit(store, agent.device_id, "trial-0")
    trial_id, waiting = submit(store, agent.device_id, "trial-1")
    lease = agent.lease() or {}
    client.post(f"studies/{study_id}/stop")
    assert agent.heartbeat(lease).json()["cancel"]
    assert client.get(f"jobs/{waiting}").json()["state"] == "cancelled"
    assert agent.result(lease).json()["accepted"], "a measurement that is done is never lost"
    client.post(f"studies/{study_id}/resume")
    assert store.submit(trial_id, only(agent.device_id), samples.job("trial-1")) != waiting


def test_a_job_dropped_on_request_is_submitted_anew_after_resume(
    store: SqlStudyStore, enrol: EnrolAgent, client: TestClient, study_id: str
) -> None:
    agent = enrol()
    trial_id, _job_id = submit(store, agent.device_id)
    lease = agent.lease() or {}
    client.post(f"studies/{study_id}/stop")
    agent.result(lease, error="cancelled by the coordinator", error_code="cancelled")
    assert store.failed_jobs(trial_id) == []
    assert client.get(f"studies/{study_id}").json()["jobs"] == {"cancelled": 1}


def test_a_waiting_agent_is_woken_by_a_new_job(store: SqlStudyStore, enrol: EnrolAgent, ctx: Context) -> None:
    agent = enrol()
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(agent.lease(wait_s=30)))
    waiting.start()
    while not ctx.hub._waiters.get(queue_topic(agent.device_id)):
        assert waiting.is_alive()
    _, job_id = submit(store, agent.device_id)
    waiting.join(10)
    assert found[0]["job_id"] == job_id


def test_training_jobs_go_to_whoever_serves_them(store: SqlStudyStore, enrol: EnrolAgent, client: TestClient) -> None:
    phone, trainer = enrol("phone"), enrol("trainer", serves=("train",))
    trial_id, _ = submit(store, phone.device_id)
    body = {"recipe": "smoke", "seed": 3}
    job = client.post(f"trials/{trial_id}/train", json=body).json()
    assert client.post(f"trials/{trial_id}/train", json=body).json()["id"] == job["id"]
    assert (phone.lease() or {})["job"]["kind"] == "measure"
    lease = trainer.lease() or {}
    assert (lease["job_id"], lease["job"]["recipe"], lease["job"]["seed"]) == (job["id"], "smoke", 3)
    assert lease["job"]["arch"] == samples.candidate().to_dict()
    trainer.result(lease, training=samples.training())
    assert client.get(f"trials/{trial_id}/trainings").json()[0]["training"]["losses"] == [6.2, 4.1]
    assert client.get(f"trials/{trial_id}").json()["artifacts"] == {"checkpoint": "ab" * 32, "trained": "cd" * 32}


def test_a_trained_program_goes_back_to_the_devices_even_of_a_stopped_study(
    store: SqlStudyStore, enrol: EnrolAgent, client: TestClient, study_id: str
) -> None:
    phone, trainer = enrol("phone"), enrol("trainer", serves=("train",))
    trial = store.add_trial({}, samples.candidate())
    client.post(f"trials/{trial.id}/train", json={})
    lease = trainer.lease() or {}
    client.post(f"studies/{study_id}/stop")
    assert not trainer.heartbeat(lease).json()["cancel"]
    measure = samples.job("trained", form="trained").model_dump(mode="json")
    answer = trainer.result(lease, training={**samples.training(), "measure": measure})
    assert answer.json().get("accepted"), answer.text
    assert store.open_jobs() == []
    back = phone.lease() or {}
    assert back["job"]["form"] == "trained"
    assert not phone.heartbeat(back).json()["cancel"]
    phone.result(back)
    (row,) = client.get(f"trials/{trial.id}/measurements").json()
    assert row["form"] == "trained"


def test_a_valid_row_serves_every_device_of_its_fingerprint(store: SqlStudyStore, enrol: EnrolAgent) -> None:
    first, peer, other = enrol("a"), enrol("b"), enrol("c", model="i5-1240P")
    _trial_id, _ = submit(store, first.device_id)
    first.result(first.lease() or {})
    digest = samples.plan().digest
    found = store.find_measurement(digest, fingerprint())
    assert found is not None
    assert found.device_id == first.device_id
    assert store.find_measurement(digest, fingerprint(model="i5-1240P")) is None
    assert other.lease() is None
    again = store.add_trial({}, samples.candidate())
    for _ in range(2):
        store.attach_measurement(again.id, only(peer.device_id), found)
    assert list(store.trials()[1].measurements) == [peer.device_id]


def test_a_measurement_comes_from_its_job_not_from_a_stopped_store(store: SqlStudyStore) -> None:
    store.finish(StudyState.FINISHED, "all trials done")
    assert store.stop_requested()
    assert store.study().state == StudyState.FINISHED
