"""GET /registry: whatever may be named, those parts included that a plugin brought, and nothing a second time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from fastapi.testclient import TestClient

from contracts.device import KINDS
from contracts.metrics import METRICS
from contracts.plan import PROTOCOLS
from contracts.study import Quantization
from device_agents.devices.kinds import DEVICE_KINDS
from foundation import plugin_loader
from nas.export.backends import BACKENDS
from nas.quality.contract import ESTIMATORS
from nas.samplers import SAMPLERS
from search_space.cost import QUANTIZATIONS
from search_space.mixers import MIXERS
from search_space.space import SPACES
from server.dashboard import STATIC
from tests.server.helpers import EnrolAgent

ROOT = Path(__file__).parents[2]


def names(parts: list[dict[str, Any]]) -> list[str]:
    return [part["name"] for part in parts]


def test_it_lists_every_part_with_a_title(client: TestClient) -> None:
    found = client.get("registry").json()
    expected = {
        "mixers": MIXERS, "spaces": SPACES, "samplers": SAMPLERS, "quality_estimators": ESTIMATORS,
        "quantizations": QUANTIZATIONS, "backends": BACKENDS, "protocols": PROTOCOLS,
    }  # fmt: skip
    assert {key: names(found[key]) for key in expected} == {key: list(parts) for key, parts in expected.items()}
    assert {metric["key"]: metric["unit"] for metric in found["metrics"]} == {k: m.unit for k, m in METRICS.items()}
    for key in (*expected, "metrics", "device_kinds"):
        assert all(part["title"] for part in found[key]), key
    assert found["recipes"] == []


def test_mixers_are_told_apart(client: TestClient) -> None:
    mixers = client.get("registry").json()["mixers"]
    for field in ("letter", "colour"):
        assert len({mixer[field] for mixer in mixers}) == len(mixers)
    assert all(re.fullmatch(r"#[0-9a-f]{6}", mixer["colour"]) for mixer in mixers)
    (gqa,) = [mixer for mixer in mixers if mixer["name"] == "gqa"]
    assert gqa["traits"] == ["whole_context"]
    one = MIXERS["gqa"](num_heads=16, num_kv_heads=8, head_dim=64)  # type: ignore[call-arg]
    assert one.details == gqa["settings"].format(**one.to_dict()) == "16/8 heads × 64"
    assert [mixer["name"] for mixer in mixers if mixer["identity"]] == ["skip"]


def test_the_lists_of_other_layers_agree() -> None:
    assert set(get_args(Quantization)) == set(QUANTIZATIONS)
    assert set(KINDS) <= set(DEVICE_KINDS)


@pytest.fixture
def gated_ema(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(plugin_loader.VARIABLE, "")
    plugin_loader.use_plugin(str(ROOT / "examples" / "plugins" / "gated_ema.py"))
    yield
    MIXERS._parts.pop("gated_ema", None)


def test_a_plugin_s_mixer_has_its_letter_and_colour(client: TestClient, gated_ema: None) -> None:
    mixers = {mixer["name"]: mixer for mixer in client.get("registry").json()["mixers"]}
    ema = MIXERS["gated_ema"]
    drawn = (mixers["gated_ema"]["letter"], mixers["gated_ema"]["colour"])
    assert drawn == (ema.letter, ema.colour) == ("E", "#b8649c")
    assert mixers["gated_ema"]["title"] == "gated moving average"
    assert len({mixer["colour"] for mixer in mixers.values()}) == len(mixers)


def test_recipes_are_what_enrolled_trainers_say(client: TestClient, enrol: EnrolAgent) -> None:
    enrol("phone", details={"recipes": {"no trainer": "it does not train"}})
    enrol("a", serves=("train",), details={"recipes": {"tiny": "minutes", "smoke": "seconds"}})
    second = enrol("b", serves=("train", "measure"), details={"recipes": {"tiny": "said again", "full": "hours"}})
    found = client.get("registry").json()["recipes"]
    assert found == [
        {"name": "full", "title": "hours"}, {"name": "smoke", "title": "seconds"}, {"name": "tiny", "title": "minutes"},
    ]  # fmt: skip
    client.post(f"devices/{second.device_id}/drain", json={})
    assert names(client.get("registry").json()["recipes"]) == ["smoke", "tiny"]


@pytest.mark.parametrize("said", [["tiny"], "tiny", 5, None, {"tiny": 5}, {"": "x"}, {"x" * 200: "x"}])
def test_a_trainer_that_says_nonsense_is_no_recipe(client: TestClient, enrol: EnrolAgent, said: Any) -> None:
    enrol("a", serves=("train",), details={"recipes": said})
    assert client.get("registry").json()["recipes"] == []


def test_long_lists_and_words_are_cut(client: TestClient, enrol: EnrolAgent) -> None:
    enrol("a", serves=("train",), details={"recipes": {f"r{n:03d}": "x" * 400 for n in range(300)}})
    found = client.get("registry").json()["recipes"]
    assert (len(found), len(found[0]["title"])) == (200, 300)


def test_kinds_of_enrolled_devices_are_listed(client: TestClient, enrol: EnrolAgent) -> None:
    enrol("fpga", kind="fpga_board")
    kinds = {kind["name"]: kind["title"] for kind in client.get("registry").json()["device_kinds"]}
    assert kinds["fpga_board"] == "a device of kind fpga_board"
    assert kinds["android"] == "an Android phone"


def test_the_dashboard_names_no_part_itself() -> None:
    """But for examples of commands, which a page without a study shows."""
    metrics = [name for name, metric in METRICS.items() if name != metric.source]
    parts = [*MIXERS, *(mixer.title for mixer in MIXERS.values()), *SAMPLERS, *BACKENDS, *QUANTIZATIONS, *metrics]
    for script in STATIC.glob("*.js"):
        text = script.read_text()
        named = [part for part in parts if re.search(rf"""["'`]{re.escape(part)}["'`:]""", text)]
        assert not named, f"{script.name} names {named}"
