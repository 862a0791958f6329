"""One search on three devices: this machine, and two phones of one model that share their target's work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.measurement import Verdict
from device_agents.bundle.manifest import Bundle
from tests.e2e.processes import Service, run_hilnas, wait_for
from tests.phones.virtual import start

LAPTOP, PHONE = "decode_ms@256:laptop", "decode_ms@256:s25"
SPEC: dict[str, Any] = {
    "name": "three devices",
    "space": "debug_space",
    "space_options": {"depth": 2, "d_model": 64, "vocab_size": 256},
    "objectives": [{"metric": "memory_bytes@256"}],
    "targets": [
        {"name": "laptop", "kind": "host", "objectives": [{"metric": "decode_ms@256"}]},
        {"name": "s25", "model": "SM-S931B", "objectives": [{"metric": "decode_ms@256"}]},
    ],
    "sampler": "random",
    "protocol": "quick",
    "precision": 10.0,  # times under an emulator on a shared machine
    "max_trials": 4,
    "confirm": 1,
}
pytestmark = [pytest.mark.alone, pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, runner: Path, phone_bundle: Bundle) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("three")
    phones = [start(folder / name, "s25", serial=f"R5C{name.upper()}") for name in ("left", "right")]
    with Service(folder / "var") as service:
        service.start_coordinator()
        service.start_agent()
        service.start_phone_agent(*(phone.address for phone in phones))
        wait_for("three devices", lambda: len(service.get("/devices")) == 3, 90.0)
        yield service
    for phone in phones:
        phone.close()


@pytest.fixture(scope="module")
def study(service: Service) -> dict[str, Any]:
    return service.wait_until_ended(service.post("/studies", SPEC)["id"], 400)


@pytest.fixture(scope="module")
def trials(service: Service, study: dict[str, Any]) -> list[dict[str, Any]]:
    return [service.get(f"/trials/{trial['id']}") for trial in service.get(f"/studies/{study['id']}/trials")]


def test_every_target_answers_for_every_candidate_once(study: dict[str, Any], trials: list[dict[str, Any]]) -> None:
    assert study["state"] == "finished", study["reason"]
    complete = [trial for trial in trials if trial["state"] == "complete"]
    assert complete, [trial["reason"] for trial in trials]
    for trial in complete:
        valid = [row["target"] for row in trial["measurements"].values() if row["verdict"] == Verdict.VALID]
        assert sorted(valid) == ["laptop", "s25"]
        assert set(trial["values"]) == {"memory_bytes@256", LAPTOP, PHONE}


def test_the_cores_a_phone_picks_are_part_of_the_plan(trials: list[dict[str, Any]]) -> None:
    digests = {row["target"]: row["plan_digest"] for trial in trials for row in trial["measurements"].values()}
    assert digests["laptop"] != digests["s25"]


def test_fronts_per_target_and_jointly(service: Service, study: dict[str, Any]) -> None:
    joint = service.get(f"/studies/{study['id']}/front")
    assert set(joint["objectives"]) == {"memory_bytes@256", LAPTOP, PHONE}
    alone = service.get(f"/studies/{study['id']}/front", target="s25")
    assert set(alone["objectives"]) == {"memory_bytes@256", PHONE} and alone["members"]


def test_the_winner_is_confirmed_as_one_piece_on_every_target(trials: list[dict[str, Any]]) -> None:
    confirmed = [trial["confirmed"] for trial in trials if trial["confirmed"]]
    assert len(confirmed) == 1
    assert {row["target"] for row in confirmed[0].values()} == {"laptop", "s25"}


def test_the_devices_page_tells_what_a_phone_is(service: Service, study: dict[str, Any]) -> None:
    phones = [device for device in service.get("/devices") if device["facts"]["kind"] == "android"]
    assert {phone["name"] for phone in phones} == {"sm-s931b-left", "sm-s931b-ight"}
    assert len({phone["fingerprint"] for phone in phones}) == 1
    for phone in phones:
        details = phone["facts"]["details"]
        assert details["virtual"] and details["android"] and details["thermal_zones"] and details["free_bytes"] > 0


def test_the_command_line_shows_a_target(service: Service, study: dict[str, Any]) -> None:
    shown = run_hilnas("search", "front", study["id"], "--target", "s25", "--url", service.url)
    assert shown.returncode == 0 and "decode_ms@256:s25" in shown.stdout and "laptop" not in shown.stdout
