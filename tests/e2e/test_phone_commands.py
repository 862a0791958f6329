"""What a person types to use a phone, on a virtual one: doctor, measure, clear, and the sentence when it cannot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_agents.bundle.manifest import Bundle
from search_space.arch import ArchConfig, LayerConfig, SwiGLU
from search_space.mixers import GatedShortConv, Gqa
from tests.e2e.processes import SHARED_LIBRARY, run_hilnas
from tests.phones.virtual import start
from virtual_phone.phone import VirtualPhone

ARCH = ArchConfig(64, 256, (LayerConfig(GatedShortConv(3), SwiGLU(128)), LayerConfig(Gqa(8, 2, 32), SwiGLU(128))))
pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory, phone_bundle: Bundle) -> Iterator[VirtualPhone]:
    phone = start(tmp_path_factory.mktemp("phone"))
    yield phone
    phone.close()


@pytest.fixture
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.getbasetemp() / "adbkey")


def test_the_doctor_tells_every_check(phone: VirtualPhone, key: str) -> None:
    said = run_hilnas("agent", "doctor", "--connect", phone.address, "--json", HILNAS_ADB_KEY=key)
    assert said.returncode == 0, said.stderr
    told = json.loads(said.stdout)
    assert {check["name"] for check in told["checks"]} >= {"runner", "cores", "clocks", "thermal", "battery", "clock"}
    assert not [check for check in told["checks"] if check["outcome"] == "failed"]


def test_the_doctor_refuses_a_phone_with_a_low_battery(phone: VirtualPhone, key: str) -> None:
    phone.battery(9)
    try:
        said = run_hilnas("agent", "doctor", "--connect", phone.address, HILNAS_ADB_KEY=key)
        assert said.returncode == 1 and "charge it above 20 %" in said.stdout
        refused = run_hilnas("agent", "android", "--connect", phone.address, HILNAS_ADB_KEY=key)
        assert refused.returncode == 1 and "cannot measure. battery: 9 %" in refused.stderr
    finally:
        phone.battery(80)


def test_a_preset_is_measured_on_a_phone(phone: VirtualPhone, key: str, tmp_path: Path) -> None:
    path = tmp_path / "arch.json"
    path.write_text(json.dumps(ARCH.to_dict()))
    said = run_hilnas(
        "measure", str(path), "--phone", phone.address, "--quantization", "fp32", "--protocol", "quick", "--json",
        "--library", str(SHARED_LIBRARY), HILNAS_ADB_KEY=key, timeout_s=300.0,
    )  # fmt: skip
    row = json.loads(said.stdout.splitlines()[-1])
    assert row["verdict"] in ("valid", "noisy", "drifted"), said.stderr  # times under an emulator may vary widely
    assert row["environment"]["after"]["measuring_policy"]["mode"] == "fixed_performance"
    assert not (phone.root / "restore.sh").exists(), "the phone was not put back"


def test_clear_leaves_nothing(phone: VirtualPhone, key: str) -> None:
    said = run_hilnas("agent", "clear", "--connect", phone.address, HILNAS_ADB_KEY=key)
    assert said.returncode == 0 and not phone.root.exists()


def test_no_phone_named_and_none_there() -> None:
    said = run_hilnas("agent", "doctor", "--connect", "somewhere")
    assert said.returncode == 2 and "HOST:PORT" in said.stderr
