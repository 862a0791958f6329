"""A whole search through the public API: measured, judged, confirmed as one piece, trained, exported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.measurement import Verdict
from tests.e2e.processes import Service, run_hilnas, wait_for

SPEC: dict[str, Any] = {
    "name": "e2e",
    "space": "debug_space",
    "space_options": {"depth": 2, "d_model": 64, "vocab_size": 512},
    "objectives": [{"metric": "quality"}, {"metric": "decode_ms@256"}, {"metric": "memory_bytes@256"}],
    "sampler": "nsga2",
    "protocol": "quick",
    "max_trials": 4,
    "max_quality": 2,
    "quality": {"options": {"steps": 100, "width": 32, "tasks": ["memorization"], "learning_rates": [1e-2]}},
    "confirm": 1,
}
pytestmark = [pytest.mark.alone, pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, runner: Path) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("search") / "var") as service:
        service.start_coordinator()
        service.start_agent()
        yield service


@pytest.fixture(scope="module")
def study(service: Service) -> dict[str, Any]:
    """The study once it ended."""
    started = service.post("/studies", SPEC)
    return service.wait_until_ended(started["id"], 300)


@pytest.fixture(scope="module")
def front(service: Service, study: dict[str, Any]) -> dict[str, Any]:
    return dict(service.get(f"/studies/{study['id']}/front"))


@pytest.fixture(scope="module")
def knee(service: Service, front: dict[str, Any]) -> dict[str, Any]:
    """The knee's whole trial."""
    (member,) = [member for member in front["members"] if member["knee"]]
    return dict(service.get(f"/trials/{member['trial_id']}"))


def test_the_study_finishes_with_a_front(study: dict[str, Any], front: dict[str, Any]) -> None:
    assert study["state"] == "finished", study["reason"]
    assert sum(study["trials"].values()) == SPEC["max_trials"]
    assert 1 <= study["trials"]["complete"] <= SPEC["max_quality"]
    assert study["front_size"] == len(front["members"]) >= 1
    for member in front["members"]:
        assert set(member["values"]) == {objective["metric"] for objective in SPEC["objectives"]}
        assert 0 <= member["values"]["quality"] <= 1


def test_the_knee_was_exported_and_measured_as_one_piece(service: Service, knee: dict[str, Any]) -> None:
    assert len(knee["artifacts"]["one_piece"]) == 64
    program = service.http.get(f"/artifacts/{knee['artifacts']['one_piece']}")
    assert program.status_code == 200
    assert b"ET" in program.content[:64]
    (row,) = knee["confirmed"].values()
    assert row["verdict"] in set(Verdict)
    assert row["verdict"] not in (Verdict.PARITY_FAILED, Verdict.RUNNER_FAILED), row["reason"]
    assert "decode_ms@256" in row["metrics"]
    assert "decode_ms@256" in row["beside"]


def test_the_composed_plan_was_measured_with_a_canary(service: Service, knee: dict[str, Any]) -> None:
    rows = service.get(f"/trials/{knee['id']}/measurements")
    rows = [row["measurement"] for row in rows if row["form"] == "composed"]
    composed = next(row for row in rows if row["verdict"] == "valid")  # a spoiled session may stand before it
    assert composed["canary"]["median_ms"] > 0
    assert {event["event"] for event in composed["events"][0]} >= {"load", "check", "repetition", "end"}


def test_the_commands_show_the_same(service: Service, study: dict[str, Any], front: dict[str, Any]) -> None:
    shown = run_hilnas("search", "status", study["id"], "--json", "--url", service.url)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert json.loads(shown.stdout)["state"] == "finished"
    shown = run_hilnas("search", "front", study["id"], "--json", HILNAS_URL=service.url)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout) == front
    assert "finished" in run_hilnas("search", "status", "--url", service.url).stdout
    assert run_hilnas("search", "front", study["id"], "--url", service.url).returncode == 0


def test_an_unknown_study_is_answered_with_a_sentence(service: Service) -> None:
    shown = run_hilnas("search", "status", "study_none", "--url", service.url)
    assert shown.returncode == 1
    assert shown.stderr.startswith("error: ")
    assert "study_none" in shown.stderr


def test_optuna_opens_the_exported_study(service: Service, study: dict[str, Any], tmp_path: Path) -> None:
    import optuna

    storage = f"sqlite:///{tmp_path / 'study.db'}"
    done = run_hilnas("search", "export-optuna", study["id"], "--out", storage, "--url", service.url)
    assert done.returncode == 0, done.stderr
    (summary,) = optuna.get_all_study_summaries(storage)
    loaded = optuna.load_study(study_name=summary.study_name, storage=storage)
    assert [str(direction.name) for direction in loaded.directions] == ["MAXIMIZE", "MINIMIZE", "MINIMIZE"]
    assert len(loaded.trials) == SPEC["max_trials"]
    complete = [trial for trial in loaded.trials if trial.state.name == "COMPLETE"]
    assert len(complete) == study["trials"]["complete"]
    loaded._storage.remove_session()  # type: ignore[attr-defined]
    again = run_hilnas("search", "export-optuna", study["id"], "--out", storage, "--url", service.url)
    assert again.returncode == 2
    assert again.stderr.startswith("error: ")


def test_the_winner_is_trained_and_its_program_measured(service: Service, knee: dict[str, Any]) -> None:
    body = {"recipe": "smoke", "options": {"steps": 2, "batch": 2, "length": 32}}
    job = service.post(f"/trials/{knee['id']}/train", body)
    assert service.post(f"/trials/{knee['id']}/train", body)["id"] == job["id"]
    home = service.var / "trainer"
    worked = run_hilnas("train", "worker", "--url", service.url, "--home", str(home), "--jobs", "1", timeout_s=300)
    assert worked.returncode == 0, worked.stderr
    (training,) = service.get(f"/trials/{knee['id']}/trainings")
    assert training["training"]["steps"] == 2
    assert len(training["training"]["losses"]) == 2
    trained = wait_for("the measured program", lambda: service.get(f"/trials/{knee['id']}")["trained"], 120)
    (row,) = trained.values()
    assert row["verdict"] in set(Verdict) - {Verdict.PARITY_FAILED, Verdict.RUNNER_FAILED}, row["reason"]
    shown = run_hilnas("train", "status", knee["id"], "--url", service.url, "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["trained"]
