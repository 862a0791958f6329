"""Studies with targets over HTTP: what waits for what, each target's front, what a device shows of itself."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from contracts.client import CoordinatorClient
from contracts.states import TrialState
from contracts.study import QualityResult
from nas.targets import DeviceGroup, groups_of
from server.context import Context
from server.store import SqlStudyStore
from tests.server import samples
from tests.server.helpers import EnrolAgent, FakeClock
from tests.server.test_api_studies import TO_COMPLETE

PHONE: dict[str, Any] = {"kind": "android", "model": "SM-S921B", "arch": "aarch64", "cores": 8}
TARGETS = [
    {"name": "desk", "kind": "host", "objectives": [{"metric": "decode_ms@256"}]},
    {"name": "s24", "model": "SM-S921B", "objectives": [{"metric": "decode_ms@256"}], "budgets": {"load_ms": 900}},
]


@pytest.fixture
def study_id(client: TestClient) -> str:
    spec = samples.spec(objectives=[{"metric": "quality"}], targets=TARGETS)
    answer = client.post("studies", json=spec)
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["id"]
    return found


@pytest.fixture
def store(ctx: Context, study_id: str) -> SqlStudyStore:
    return SqlStudyStore(ctx, study_id)


def groups(store: SqlStudyStore) -> dict[str, DeviceGroup]:
    return {group.target: group for group in groups_of(store.study().spec, store.devices())}


def test_a_study_says_which_target_waits_for_what(client: TestClient, enrol: EnrolAgent, study_id: str) -> None:
    notes = client.get(f"studies/{study_id}").json()["notes"]
    assert notes == [
        "target desk waits for a host: run `hilnas agent host` on that machine",
        "target s24 waits for a phone of model SM-S921B: run `hilnas agent android` where it is plugged in",
    ]
    enrol("desk")
    enrol("galaxy-s24-a", **PHONE)
    view = client.get(f"studies/{study_id}").json()
    assert view["notes"] == []
    assert [one["metric"] for one in view["objectives"]] == ["quality", "decode_ms@256:desk", "decode_ms@256:s24"]
    assert view["budgets"] == {"load_ms:s24": 900}
    assert [(one["name"], one["devices"]) for one in view["targets"]] == [("desk", ["desk"]), ("s24", ["galaxy-s24-a"])]


def test_an_offline_peer_holds_nothing_up(
    client: TestClient, enrol: EnrolAgent, study_id: str, clock: FakeClock
) -> None:
    enrol("desk")
    enrol("galaxy-s24-a", **PHONE)
    clock.advance(300)
    enrol("galaxy-s24-b", **PHONE)
    notes = client.get(f"studies/{study_id}").json()["notes"]
    assert notes[0].startswith("device desk was last seen at ")
    assert notes[0].endswith("start its agent again, or drain it to continue without it")
    assert notes[1].endswith("its peers continue with the shared jobs")


def test_progress_is_counted_per_target(
    client: TestClient, enrol: EnrolAgent, study_id: str, store: SqlStudyStore
) -> None:
    desk, phone = enrol("desk"), enrol("galaxy-s24-a", **PHONE)
    trial = store.add_trial({}, samples.candidate())
    for group in groups(store).values():
        store.submit(trial.id, group, samples.job())
    desk.result(desk.lease() or {})
    assert phone.lease() is not None
    counts = [
        (one["name"], one["num_measured"], one["num_queued"], one["num_running"])
        for one in client.get(f"studies/{study_id}").json()["targets"]
    ]
    assert counts == [("desk", 1, 0, 0), ("s24", 0, 0, 1)]
    (found,) = store.trials()
    assert list(found.measurements) == [f"desk:{desk.device_id}"]


def test_one_job_for_two_peers_waits_under_both_names(
    client: TestClient, enrol: EnrolAgent, store: SqlStudyStore
) -> None:
    enrol("desk")
    first, second = enrol("galaxy-s24-b", **PHONE), enrol("galaxy-s24-a", **PHONE)
    trial = store.add_trial({}, samples.candidate())
    store.submit(trial.id, groups(store)["s24"], samples.job())
    (job,) = client.get("jobs").json()
    assert (job["device_name"], job["target"]) == ("galaxy-s24-a or galaxy-s24-b", "s24")
    assert [client.get(f"devices/{one.device_id}").json()["num_queued"] for one in (first, second)] == [1, 1]
    assert client.get(f"devices/{first.device_id}").json()["twins"] == ["galaxy-s24-a"]
    assert second.lease() is not None
    assert client.get("jobs").json()[0]["device_name"] == "galaxy-s24-a"
    assert first.lease() is None


def test_the_front_of_each_target_and_of_all(client: TestClient, study_id: str, store: SqlStudyStore) -> None:
    for quality, desk, s24 in ((0.9, 9.0, 30.0), (0.7, 5.0, 40.0), (0.7, 8.0, 20.0)):
        trial = store.add_trial({"at": desk}, samples.candidate())
        for state in TO_COMPLETE:
            store.update_trial(trial.id, state=state)
        values = {"quality": quality, "decode_ms@256:desk": desk, "decode_ms@256:s24": s24}
        judged = QualityResult(estimator="mechanistic", score=quality, low=quality, high=quality)
        store.update_trial(trial.id, quality=judged, values=values)
    store.set_reference_point({"quality": 0.0, "decode_ms@256:desk": 10.0, "decode_ms@256:s24": 50.0})
    joint = client.get(f"studies/{study_id}/front").json()
    assert (joint["target"], [member["number"] for member in joint["members"]]) == (None, [0, 1, 2])
    desk_front = client.get(f"studies/{study_id}/front", params={"target": "desk"}).json()
    assert desk_front["objectives"] == ["quality", "decode_ms@256:desk"]
    assert [member["number"] for member in desk_front["members"]] == [0, 1]
    assert desk_front["reference_point"] == {"quality": 0.0, "decode_ms@256:desk": 10.0}
    assert desk_front["hypervolume"] == pytest.approx(0.9 * 1.0 + 0.7 * 4.0)
    assert sum(member["knee"] for member in desk_front["members"]) == 1
    answer = client.get(f"studies/{study_id}/front", params={"target": "s25"})
    assert (answer.status_code, answer.json()["message"]) == (400, "unknown target 's25'; known targets: desk, s24")


def test_the_rows_of_a_target_stand_behind_its_values(enrol: EnrolAgent, client: TestClient, study_id: str,
                                                      store: SqlStudyStore) -> None:  # fmt: skip
    desk, phone = enrol("desk"), enrol("galaxy-s24-a", **PHONE)
    trial = store.add_trial({}, samples.candidate())
    for form in ("composed", "one_piece"):
        for group in groups(store).values():
            store.submit(trial.id, group, samples.job(form=form))
        for agent, prefill_ms in ((desk, 100.0), (phone, 400.0)):
            agent.result(agent.lease() or {}, measurement=samples.measurement(prefill_ms=prefill_ms))
    for state in TO_COMPLETE[:-1]:
        store.update_trial(trial.id, state=state)
    judged = QualityResult(estimator="mechanistic", score=0.5, low=0.4, high=0.6)
    values = {"quality": 0.5, "decode_ms@256:desk": 5.0, "decode_ms@256:s24": 20.0}
    store.update_trial(trial.id, state=TrialState.COMPLETE, quality=judged, values=values)
    (member,) = client.get(f"studies/{study_id}/front").json()["members"]
    assert member["estimates"]["decode_ms@256:s24"]["median"] == 20.0
    assert member["confirmed"]["decode_ms@256:desk"]["median"] == 5.0
    assert member["confirmed"]["decode_ms@256:s24"]["median"] == 20.0
    assert set(member["confirmed_verdicts"].values()) == {"valid"}


def test_an_agent_hears_what_it_will_need(app: FastAPI, enrol: EnrolAgent, store: SqlStudyStore) -> None:
    phone, _ = enrol("galaxy-s24-a", **PHONE), enrol("desk")
    agent = CoordinatorClient("http://127.0.0.1")
    agent._http = phone.http
    assert agent.upcoming() == []
    trial = store.add_trial({}, samples.candidate())
    store.submit(trial.id, groups(store)["s24"], samples.job(beside=samples.plan("beside")))
    assert agent.upcoming() == ["ab" * 32, "cd" * 32]


def test_only_agents_ask_what_comes(client: TestClient) -> None:
    answer: httpx.Response = client.get("agents/upcoming")
    assert answer.status_code == 403


def test_a_device_shows_its_last_environment_and_verdicts(
    client: TestClient, enrol: EnrolAgent, store: SqlStudyStore
) -> None:
    details = {"soc": "Exynos 2400", "android": "15", "cores": [{"cpu": 0, "max_khz": 1_959_000}]}
    phone, _ = enrol("galaxy-s24-a", **PHONE, details=details), enrol("desk")
    environment = {"after": {"battery_c": 31.5, "thermal_status": 0, "gate": {"waited_s": 12.0, "timed_out": False}}}
    for number, verdict in enumerate(["valid", "hot_start", "valid"]):
        trial = store.add_trial({}, samples.candidate())
        store.submit(trial.id, groups(store)["s24"], samples.job(f"trial-{number}"))
        row = {**samples.measurement(f"trial-{number}", verdict), "environment": environment}
        phone.result(phone.lease() or {}, measurement=row)
    view = client.get(f"devices/{phone.device_id}").json()
    assert view["facts"]["details"] == details
    assert view["environment"] == environment
    assert view["verdicts"] == {"valid": 2, "hot_start": 1}


def test_a_trained_program_goes_to_every_target(enrol: EnrolAgent, client: TestClient, store: SqlStudyStore) -> None:
    phone = enrol("galaxy-s24-a", **PHONE, details={"affinity": {"2": [6, 7]}})
    desk, trainer = enrol("desk"), enrol("trainer", serves=("train",))
    trial = store.add_trial({}, samples.candidate())
    client.post(f"trials/{trial.id}/train", json={})
    measure = samples.job("trained", form="trained").model_dump(mode="json")
    trainer.result(trainer.lease() or {}, training={**samples.training(), "measure": measure})
    for agent, cores in ((desk, None), (phone, [6, 7])):
        lease = agent.lease() or {}
        assert lease["job"]["plan"]["protocol"]["affinity"] == cores
        agent.result(lease)
    assert set(store.trials()[0].trained) == {f"desk:{desk.device_id}", f"s24:{phone.device_id}"}
