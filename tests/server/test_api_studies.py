"""Starting, stopping and resuming studies; what a user's mistakes are answered with; the front."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from contracts.states import StudyState, TrialState
from contracts.study import QualityResult
from foundation.errors import InvalidConfig
from server.context import Context
from server.events.service import follow
from server.store import SqlStudyStore
from server.tables import TrialRow
from tests.server import samples
from tests.server.helpers import EnrolAgent, FakeClock, require_all_pages

TO_COMPLETE = (TrialState.PREPARING, TrialState.MEASURING, TrialState.MEASURED, TrialState.JUDGING, TrialState.COMPLETE)


def complete(store: SqlStudyStore, name: str, quality: float, prefill_ms: float) -> str:
    trial = store.add_trial({"name": name}, samples.candidate())
    for state in TO_COMPLETE:
        store.update_trial(trial.id, state=state)
    judged = QualityResult(estimator="mechanistic", score=quality, low=quality - 0.02, high=quality + 0.02)
    store.update_trial(trial.id, quality=judged, values={"quality": quality, "prefill_ms@256": prefill_ms})
    return trial.id


@pytest.mark.parametrize(
    ("changes", "status", "sentence"),
    [
        ({"budgets": {"params": 0}}, 422, "the budget of params must be above 0 count, got 0"),
        ({"objectives": [{"metric": "speed"}]}, 422, "unknown metric 'speed'; known metrics: params"),
        ({"objectives": [{"metric": "prefill_ms"}]}, 422, "prefill_ms needs a context, e.g. prefill_ms@512"),
        ({"max_trials": 0}, 422, "max_trials: input should be greater than or equal to 1, got 0"),
        ({"colour": "red"}, 422, "colour: extra inputs are not permitted, got 'red'"),
        ({"quality": {"estimator": "oracle"}}, 422, "unknown quality estimator 'oracle'; known: mechanistic, params"),
        ({"quality": {"options": {"steps": 0}}}, 422,
         "quality estimator 'mechanistic', option steps: input should be greater than or equal to 1, got '0'"),
        ({"quality": {"options": {"tokens": 1}}}, 422,
         "quality estimator 'mechanistic' has no option 'tokens'; known options: width, seeds, learning_rates, tasks"),
        ({"quality": {"executor": "slurm"}}, 422, "quality.executor: input should be 'local' or 'ray', got 'slurm'"),
        ({"quality": {"at_once": 0}}, 422, "quality.at_once: input should be greater than or equal to 1, got 0"),
        ({"quality": {"estimator": "text"}}, 422,
         "estimator 'text' estimates bits_per_byte, not quality: give the objective bits_per_byte, or an estimator"),
        ({"space": "moon"}, 400, "unknown search space 'moon'; known: debug_space"),
        ({"space": {"candidates": [{}]}}, 400, "own_space: candidate 0 must be an architecture with its layers"),
        ({"warm_start": ["study-x"]}, 422, "warm_start: there is no study 'study-x'; GET /api/v1/studies lists them"),
        ({"warm_start": ["../x"]}, 422, "warm_start.0: "),
        ({"devices": ["device-x"]}, 400, "device 'device-x' is not enrolled; enrolled devices: none"),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_a_sentence(
    client: TestClient, changes: dict[str, Any], status: int, sentence: str
) -> None:
    answer = client.post("studies", json=samples.spec(**changes))
    assert answer.status_code == status
    assert set(answer.json()) == {"code", "message"}
    assert answer.json()["message"].startswith(sentence)
    assert client.get("studies").json() == []


def test_a_study_over_a_list_of_architectures(client: TestClient) -> None:
    listed = {"name": "three", "candidates": [samples.candidate(number).to_dict() for number in range(3)]}
    answer = client.post("studies", json=samples.spec(space=listed))
    assert answer.status_code == 201 and answer.json()["spec"]["space"] == listed
    large = {"name": "many", "candidates": [samples.candidate(number).to_dict() for number in range(600)]}
    answer = client.post("studies", json=samples.spec(space=large))
    assert answer.status_code == 422 and "at most 256000 bytes of JSON, this one has" in answer.json()["message"]


def test_a_study_learns_from_studies_of_the_same_space(client: TestClient, study_id: str) -> None:
    answer = client.post("studies", json=samples.spec(warm_start=[study_id]))
    assert answer.status_code == 201 and answer.json()["spec"]["warm_start"] == [study_id]
    other = samples.spec(warm_start=[study_id], space_options={"depth": 3})
    answer = client.post("studies", json=other)
    assert answer.status_code == 422
    assert "searched another space (debug_space) than debug_space" in answer.json()["message"]


@pytest.mark.parametrize(
    "path", ["studies/x", "studies/x/trials", "studies/x/events", "trials/x", "jobs/x", "devices/x"]
)
def test_what_is_not_there_is_404(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_an_idempotency_key_starts_one_study(client: TestClient) -> None:
    key = {"Idempotency-Key": "k1"}
    first = client.post("studies", json=samples.spec(), headers=key)
    again = client.post("studies", json=samples.spec(), headers=key)
    other = client.post("studies", json=samples.spec(name="another"), headers=key)
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert first.json()["id"] == again.json()["id"]
    assert other.json()["code"] == "idempotency_conflict"


def test_stop_and_resume(client: TestClient, ctx: Context, study_id: str) -> None:
    before = SqlStudyStore(ctx, study_id)
    for _ in range(2):
        assert client.post(f"studies/{study_id}/stop").json()["state"] == "stopped"
    assert before.stop_requested()
    assert client.post(f"studies/{study_id}/resume").json()["state"] == "running"
    assert before.stop_requested(), "a run that was stopped does not come back to life beside the new one"
    before.finish(StudyState.STOPPED, "late")
    after = SqlStudyStore(ctx, study_id)
    assert not after.stop_requested()
    after.finish(StudyState.FINISHED, "8 candidates complete")
    answer = client.post(f"studies/{study_id}/resume")
    assert (answer.status_code, answer.json()["code"]) == (409, "study_finished")
    assert client.post(f"studies/{study_id}/stop").status_code == 409


def test_the_front_with_intervals_knee_and_hypervolume(client: TestClient, ctx: Context, study_id: str) -> None:
    store = SqlStudyStore(ctx, study_id)
    complete(store, "fast", 0.2, 50.0)
    knee = complete(store, "knee", 0.8, 60.0)
    complete(store, "good", 0.9, 200.0)
    complete(store, "beaten", 0.5, 150.0)
    store.set_reference_point({"quality": 0.0, "prefill_ms@256": 220.0})
    front = client.get(f"studies/{study_id}/front").json()
    assert [member["values"]["quality"] for member in front["members"]] == [0.9, 0.8, 0.2]
    assert [member["trial_id"] for member in front["members"] if member["knee"]] == [knee]
    assert front["members"][1]["estimates"]["quality"]["low"] == pytest.approx(0.78)
    assert front["hypervolume"] == pytest.approx(0.2 * 10 + 0.8 * 140 + 0.9 * 20)
    view = client.get(f"studies/{study_id}").json()
    assert (view["front_size"], view["trials"]) == (3, {"complete": 4})


def test_the_nearest_misses_where_nothing_meets_the_budgets(client: TestClient, ctx: Context) -> None:
    budgets = {"params": 1000.0, "weight_bytes": 100.0}
    study_id = client.post("studies", json=samples.spec(budgets=budgets)).json()["id"]
    assert client.get(f"studies/{study_id}/front").json()["nearest_misses"] == []
    store = SqlStudyStore(ctx, study_id)
    for number, params in enumerate((3000.0, 1100.0, 1200.0, 1500.0)):
        trial = store.add_trial({}, samples.candidate(number), {"name": "known"} if number == 1 else None)
        store.update_trial(trial.id, state=TrialState.GATED, costs={"params": params, "weight_bytes": 105.0})
    misses = client.get(f"studies/{study_id}/front").json()["nearest_misses"]
    assert [miss["number"] for miss in misses] == [1, 2, 3]
    assert (misses[0]["name"], misses[0]["layout"]) == ("known", samples.candidate().layout)
    assert misses[0]["broken"] == [
        {"key": "params", "value": 1100.0, "bound": 1000.0, "percent": pytest.approx(10.0)},
        {"key": "weight_bytes", "value": 105.0, "bound": 100.0, "percent": pytest.approx(5.0)},
    ]
    trial = store.add_trial({}, samples.candidate(9))
    store.update_trial(trial.id, state=TrialState.PREPARING, costs={"params": 900.0, "weight_bytes": 90.0})
    for state in (TrialState.MEASURING, TrialState.MEASURED):
        store.update_trial(trial.id, state=state)
    assert client.get(f"studies/{study_id}/front").json()["nearest_misses"] == []


def test_time_left_follows_the_pace_so_far(client: TestClient, ctx: Context, study_id: str, clock: FakeClock) -> None:
    store = SqlStudyStore(ctx, study_id)
    assert client.get(f"studies/{study_id}").json()["eta_s"] is None
    clock.advance(100)
    complete(store, "a", 0.2, 50.0)
    complete(store, "b", 0.3, 60.0)
    assert client.get(f"studies/{study_id}").json()["eta_s"] == pytest.approx(6 * 50, rel=1e-3)


def test_an_illegal_move_is_refused_and_changes_nothing(ctx: Context, study_id: str) -> None:
    store = SqlStudyStore(ctx, study_id)
    trial = store.add_trial({}, samples.candidate())
    with pytest.raises(Exception, match="trial 0 is proposed and cannot become complete"):
        store.update_trial(trial.id, state=TrialState.COMPLETE, reason="no")
    assert store.trials()[0].reason == ""


def test_a_judgement_is_found_again(ctx: Context, study_id: str) -> None:
    store = SqlStudyStore(ctx, study_id)
    judged = QualityResult(estimator="mechanistic", score=0.5, low=0.4, high=0.6, tasks={"recall": 0.5})
    assert store.find_quality("digest", "key") is None
    for _ in range(2):
        store.record_quality("digest", "key", judged)
    assert store.find_quality("digest", "key") == judged


def test_trials_changed_since_a_moment(client: TestClient, ctx: Context, study_id: str, clock: FakeClock) -> None:
    store = SqlStudyStore(ctx, study_id)
    store.add_trial({}, samples.candidate())
    clock.advance(10)
    moment = clock.now.isoformat()
    store.add_trial({}, samples.candidate())
    found = client.get(f"studies/{study_id}/trials", params={"since": moment}).json()
    assert [trial["number"] for trial in found] == [1]


def test_a_gone_device_is_named_in_the_study(
    client: TestClient, enrol: EnrolAgent, study_id: str, clock: FakeClock
) -> None:
    assert "no enrolled device measures" in client.get(f"studies/{study_id}").json()["notes"][0]
    agent = enrol("phone-3")
    assert client.get(f"studies/{study_id}").json()["notes"] == []
    clock.advance(300)
    assert "device phone-3 was last seen" in client.get(f"studies/{study_id}").json()["notes"][0]
    client.post(f"devices/{agent.device_id}/drain")
    assert client.get(f"studies/{study_id}").json()["notes"] == []


def test_events_continue_after_an_id(client: TestClient, ctx: Context, study_id: str) -> None:
    store = SqlStudyStore(ctx, study_id)
    store.emit("block_exported", block="abc", seconds=2)
    every = client.get(f"studies/{study_id}/events", params={"wait": False}).text
    assert "event: study_started" in every
    rest = client.get(f"studies/{study_id}/events", params={"wait": False}, headers={"Last-Event-ID": "1"}).text
    assert "study_started" not in rest
    assert rest.startswith("id: 2\r\nevent: block_exported\r\ndata: {")


def test_a_follower_is_woken_by_a_new_event(ctx: Context, study_id: str) -> None:
    store = SqlStudyStore(ctx, study_id)

    async def read() -> list[str]:
        events = follow(ctx, study_id, 0)
        first = await anext(events)
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.to_thread(store.emit, "block_exported")
        second = await asyncio.wait_for(waiting, 4)
        return [first.event, second.event]

    assert asyncio.run(read()) == ["study_started", "block_exported"]


def test_every_endpoint_of_the_api_is_described(client: TestClient) -> None:
    schema = client.get("http://127.0.0.1/openapi.json").json()
    assert "/api/v1/studies/{study_id}/front" in schema["paths"]
    assert all("summary" in operation for path in schema["paths"].values() for operation in path.values())


def test_a_trial_of_a_mixer_whose_plugin_is_not_loaded_is_shown(
    ctx: Context, client: TestClient, study_id: str, app: FastAPI
) -> None:
    """Pages show it as it was stored; the study that needs it says what is missing."""
    store = SqlStudyStore(ctx, study_id)
    trial = store.add_trial({}, samples.candidate())
    arch = samples.candidate().to_dict()
    arch["layers"][0]["mixer"] = {"kind": "gated_ema", "num_heads": 4}
    with ctx.database.write() as session:
        row = session.get_one(TrialRow, trial.id)
        row.arch, row.state, row.values = arch, "complete", {"quality": 0.5, "prefill_ms@256": 9.0}
    require_all_pages(app)
    assert client.get(f"trials/{trial.id}").json()["arch"] == arch
    assert [one["arch"] for one in client.get(f"studies/{study_id}/front").json()["members"]] == [arch]
    with pytest.raises(InvalidConfig, match="unknown mixer 'gated_ema'; known: "):
        store.trials()


def test_ray_is_refused_where_it_is_not_installed(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    body = samples.spec(quality={"executor": "ray", "at_once": 8})
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: None)
        refused = client.post("studies", json=body)
    assert refused.status_code == 422 and "`pip install 'hilnas[ray]'` brings it" in refused.text
    with monkeypatch.context() as patch:
        patch.setattr(importlib.util, "find_spec", lambda name: name)
        study = client.post("studies", json=body).json()
    assert study["spec"]["quality"] == {"estimator": "mechanistic", "options": {}, "executor": "ray", "at_once": 8}
    client.post(f"studies/{study['id']}/stop")


def test_an_estimator_with_a_metric_of_its_own(client: TestClient) -> None:
    """Bits per byte are minimized; the front and its estimates say so."""
    spec = samples.spec(quality={"estimator": "text", "options": {"tokens": 5000}},
                        objectives=[{"metric": "bits_per_byte"}, {"metric": "prefill_ms@256"}])  # fmt: skip
    study = client.post("studies", json=spec).json()
    assert [one["direction"] for one in study["objectives"]] == ["min", "min"]
    assert study["spec"]["quality"] == {"estimator": "text", "options": {"tokens": 5000}}
    client.post(f"studies/{study['id']}/stop")
