"""What benchmarks share: intervals by Student's t for any number of seeds, and rows that are made once."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.intervals import excludes_zero, interval, mean_with_interval, of_arm, t_quantile
from benchmarks.record import RESULTS
from benchmarks.resume import KeptRows


def test_the_quantile_is_that_of_the_number_of_seeds() -> None:
    assert [round(t_quantile(n), 3) for n in (2, 3, 5, 10)] == [12.706, 4.303, 2.776, 2.262]


@pytest.mark.parametrize("n", [2, 3, 8])
def test_the_interval_is_scipy_s(n: int) -> None:
    values = np.random.default_rng(n).normal(1.0, 2.0, n)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert interval(values, 8) == pytest.approx(list(expected), abs=1e-8)


def test_one_seed_has_no_interval() -> None:
    assert mean_with_interval([2.0]) == {"mean": 2.0, "interval": None}
    assert not excludes_zero(None)


@pytest.mark.parametrize(("bounds", "expected"), [([0.1, 0.2], True), ([-0.2, -0.1], True), ([-0.1, 0.1], False)])
def test_a_difference_is_shown_where_the_interval_leaves_out_zero(bounds: list[float], expected: bool) -> None:
    assert excludes_zero(bounds) is expected


def test_arms_pair_up_by_seed() -> None:
    rows = [{"arm": arm, "seed": seed, "x": 10 * seed + len(arm)} for arm, seed in (("b", 1), ("aa", 0), ("b", 0))]
    assert of_arm(rows, "b", "x").tolist() == [1, 11]


def test_a_row_is_made_once(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, int]:
        made.append(1)
        return {"x": len(made)}

    kept = KeptRows(tmp_path / "kept", "some", {"steps": 2})
    assert kept.once("arm", 0, make) == {"arm": "arm", "seed": 0, "x": 1}
    again = KeptRows(tmp_path / "kept", "some", {"steps": 2})
    assert again.once("arm", 0, make)["x"] == 1
    assert again.once("arm", 1, make)["x"] == 2, "another seed is another row"
    assert KeptRows(tmp_path / "kept", "some", {"steps": 3}).once("arm", 0, make)["x"] == 3, "other settings too"


@pytest.mark.parametrize(
    "name",
    ["ablations", "composition_fidelity", "operator_costs", "phone_overhead", "quality_separation", "weights_latency"],
)
def test_the_kept_summary_is_what_is_judged_from_the_kept_rows(name: str) -> None:
    record = json.loads((RESULTS / f"{name}.json").read_text())
    found = importlib.import_module(f"benchmarks.{name}").judge(record["rows"])
    kept = record["summary"]["minus_own"] if name == "ablations" else record["summary"]
    assert json.loads(json.dumps(found)) == kept


@pytest.mark.parametrize(
    ("ratios", "equal"), [([1.0, 1.01, 0.99, 1.0], True), ([1.05, 1.06, 1.05, 1.06], False), ([0.5, 2.0], False)]
)
def test_latencies_are_equal_where_the_whole_interval_is_near_one(ratios: list[float], equal: bool) -> None:
    from benchmarks.weights_latency import interval, judge

    row = {"backend": "xnnpack", "metric": "decode_ms@256", **interval(ratios)}
    assert row["low"] <= row["ratio"] <= row["high"]
    assert judge([row])["xnnpack_equal"] is equal


@pytest.mark.parametrize("name", ["landscape_costs", "search_efficiency"])
def test_the_kept_summary_is_what_is_judged_from_the_kept_raw_rows(name: str) -> None:
    record = json.loads((RESULTS / f"{name}.json").read_text())
    found = json.loads(json.dumps(importlib.import_module(f"benchmarks.{name}").judge(record["raw"])))
    assert found == {key: record["summary"][key] for key in found}


def test_a_candidate_of_the_landscape_costs_what_its_blocks_do() -> None:
    from benchmarks.landscape_space import DECODE, Landscape

    landscape = Landscape()
    assert landscape.space.num_candidates == len(landscape.metrics) == 1640
    for at in range(0, 1640, 200):
        assignment, times = landscape.assignments[at], landscape.block_ms
        mixers = [label for name, label in assignment.items() if name.endswith(".mixer") and label != "skip"]
        widths = [label for name, label in assignment.items() if name.endswith(".ffn") and label != "0"]
        blocks = ["embedding", "head", *mixers, *(f"swiglu({width})" for width in widths)]
        assert landscape.metrics[landscape.at(assignment)][DECODE] == pytest.approx(sum(times[one] for one in blocks))


def test_search_efficiency_in_its_quick_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import search_efficiency

    monkeypatch.setattr("sys.argv", ["search_efficiency", "--quick"])
    search_efficiency.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(found["settings"]) == set(search_efficiency.SETTINGS)
    assert found["nsga2_is_random"], "one seed of two other samplers shows nothing about it"


@pytest.mark.slow
def test_compare_in_its_quick_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, runner: Path
) -> None:
    from benchmarks import compare

    monkeypatch.setenv("HILNAS_RUNNER", str(runner))
    monkeypatch.setattr("benchmarks.record.RESULTS", tmp_path)
    monkeypatch.setattr(compare, "LIBRARY", Path(__file__).parents[2] / "build" / "test-library")
    monkeypatch.setattr("sys.argv", ["compare", "--quick"])
    compare.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0 < found["minutes"] <= 6 and found["models"] == 2 and found["rounds"] == 2
    assert isinstance(found["order_agrees_between_sessions"], bool)
    kept = json.loads((tmp_path / "compare.json").read_text())
    assert len(kept["raw"]) == 2 and kept["raw"][0]["device"]["name"] == "host"


@pytest.mark.parametrize(
    ("values", "verdict"),
    [([0.99, 0.97], False), ([0.99, 0.4], True), ([0.6, 0.4], False), ([0.02, 0.7], True), ([0.99], False)],
)
def test_orders_contradict_where_one_session_is_sure(values: list[float], verdict: bool) -> None:
    from benchmarks.compare import contradict

    assert contradict(values) is verdict


@pytest.mark.parametrize(
    ("nsga2", "verdict"), [([0.9, 0.9, 0.9], False), ([0.5, 0.6, 0.55], True), ([0.1, 0.1, 0.2], True)]
)
def test_a_random_stand_in_is_called_random(nsga2: list[float], verdict: bool) -> None:
    from benchmarks.search_efficiency import _against_random

    ends = {"nsga2": nsga2, "random": [0.6, 0.5, 0.55]}
    rows = [
        {"sampler": name, "setting": "2 objectives", "seed": seed, "curve": [share + 0.001 * seed]}
        for name, shares in ends.items() for seed, share in enumerate(shares)
    ]  # fmt: skip
    assert _against_random(rows)["nsga2_is_random"] is verdict
