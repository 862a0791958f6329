"""Extending a study, adding known architectures to it, and spaces that come with the request."""

from __future__ import annotations

from fastapi.testclient import TestClient

from contracts.states import StudyState, TrialState
from search_space.presets import preset
from server.context import Context
from server.store import SqlStudyStore
from tests.server import samples

SPACE = {
    "d_model": 64, "vocab_size": 256, "depth": 2, "mixers": ["skip", {"kind": "gated_short_conv", "kernel": 3}],
    "ffn": [64, 128],
}  # fmt: skip


def test_a_finished_study_goes_on_with_more_candidates(client: TestClient, ctx: Context, study_id: str) -> None:
    before = client.get(f"studies/{study_id}").json()["max_trials"]
    SqlStudyStore(ctx, study_id).finish(StudyState.FINISHED, "8 candidates complete")
    answer = client.post(f"studies/{study_id}/extend", json={"trials": 5})
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["max_trials"]) == ("running", before + 5)
    assert SqlStudyStore(ctx, study_id).study().spec.max_trials == before + 5
    assert client.post(f"studies/{study_id}/extend", json={"trials": 0}).status_code == 422
    too_many = client.post(f"studies/{study_id}/extend", json={"trials": 100_000})
    assert too_many.status_code == 400 and "at most 100000 candidates" in too_many.text
    assert client.post("studies/study-9/extend", json={"trials": 1}).status_code == 404


def test_a_known_architecture_is_measured_next(client: TestClient, ctx: Context) -> None:
    study = client.post("studies", json=samples.spec(space="lfm2_350m_class", space_options={})).json()["id"]
    answer = client.post(f"studies/{study}/enqueue", json={"preset": "lfm2_350m"})
    assert answer.status_code == 201, answer.text
    (trial,) = SqlStudyStore(ctx, study).trials()
    assert (trial.arch, trial.state) == (preset("lfm2_350m"), TrialState.PROPOSED)
    assert trial.sampler_attrs == {"name": "lfm2_350m"}
    again = client.post(f"studies/{study}/enqueue", json={"arch": preset("lfm2_350m").to_dict()})
    assert (again.status_code, again.json()["code"]) == (409, "known_candidate")


def test_what_cannot_be_enqueued_is_said(client: TestClient, study_id: str) -> None:
    for body, sentence in (
        ({}, "give either a preset or an arch"),
        ({"preset": "gpt5"}, "unknown preset"),
        ({"preset": "lfm2_350m"}, "is not in debug_space"),
        ({"arch": {"d_model": 64}}, "'vocab_size' is missing"),
    ):
        answer = client.post(f"studies/{study_id}/enqueue", json=body)
        assert answer.status_code in (400, 422) and sentence in answer.text, answer.text
    client.post(f"studies/{study_id}/stop")
    assert client.post(f"studies/{study_id}/enqueue", json={"preset": "lfm2_350m"}).status_code == 409


def test_a_space_may_come_with_the_study(client: TestClient, ctx: Context) -> None:
    answer = client.post("studies", json=samples.spec(space=SPACE, space_options={}))
    assert answer.status_code == 201, answer.text
    assert SqlStudyStore(ctx, answer.json()["id"]).study().spec.space == SPACE
    wrong = client.post("studies", json=samples.spec(space={**SPACE, "mixers": ["mamba9"]}, space_options={}))
    assert wrong.status_code == 400 and "unknown mixer 'mamba9'" in wrong.text
