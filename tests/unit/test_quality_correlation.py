"""The benchmark of estimators itself: its correlations and intervals are scipy's, and its kept data give its kept
figures."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks import quality_correlation as benchmark
from benchmarks.quality_correlation import (
    bootstrap,
    correlations,
    cost_of,
    estimates_as_columns,
    fidelities,
    is_hybrid,
    judged,
    summary,
    truth_of,
)
from benchmarks.quality_truth import RATES, read
from benchmarks.record import RESULTS
from contracts.study import QualitySpec
from nas.quality.contract import estimator

KEPT = json.loads((RESULTS / "quality_correlation.json").read_text())
TRAININGS = read(RESULTS / "quality_truth" / "truth.jsonl")
SCORES = {"a": 0.1, "b": 0.4, "c": 0.35, "d": 0.9, "e": 0.5, "f": 0.45}
BITS = {"a": 2.4, "b": 2.1, "c": 2.2, "d": 1.9, "e": 2.15, "f": 2.0}


def truth(**changes: Any) -> dict[str, Any]:
    rows = {name: {"bits_per_byte": bits, "hybrid": False, "cost": 200.0} for name, bits in BITS.items()}
    return {name: {**row, **changes.get(name, {})} for name, row in rows.items()}


def column(scores: dict[str, float | None] = SCORES, cost: float = 10.0) -> dict[str, Any]:  # type: ignore[assignment]
    names = list(scores)
    return {"estimator": "x", "fidelity": "all", "scores": scores, "cost": dict.fromkeys(names, cost),
            "seconds": dict.fromkeys(names, 3.0)}  # fmt: skip


def test_correlations_are_those_of_ranks_and_of_pairs() -> None:
    """Better is fewer bits and a higher score."""
    names = list(SCORES)
    found = correlations(SCORES, truth(), names)
    x, y = [SCORES[name] for name in names], [-BITS[name] for name in names]
    ranks = np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1]
    agree = [np.sign((x[i] - x[j]) * (y[i] - y[j])) for i, j in combinations(range(len(names)), 2)]
    assert found["spearman"] == pytest.approx(ranks, abs=5e-4)
    assert found["kendall"] == pytest.approx(np.mean(agree), abs=5e-4)
    assert correlations(SCORES, truth(), names[:3])["spearman"] is None, "three layouts rank nothing"


@pytest.mark.parametrize("measure", [stats.spearmanr, stats.kendalltau], ids=["spearman", "kendall"])
def test_the_interval_is_that_of_scipy_s_bootstrap(measure: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    found = bootstrap(x, y, measure)
    theirs = stats.bootstrap(
        (x, y), lambda a, b: measure(a, b).statistic, paired=True, vectorized=False, method="percentile",
        n_resamples=2000, rng=np.random.default_rng(7),
    ).confidence_interval  # fmt: skip
    assert found == pytest.approx([theirs.low, theirs.high], abs=0.04)
    assert found is not None and found[0] < measure(x, y).statistic < found[1]
    assert bootstrap(x, y, measure) == found, "seeded"


def test_what_has_no_interval() -> None:
    assert bootstrap(np.arange(4.0), np.arange(4.0), stats.spearmanr) is None
    assert bootstrap(np.ones(6), np.arange(6.0), stats.spearmanr) is None


def test_a_column_is_judged_over_what_it_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "RESAMPLES", 50)
    hybrids = {name: {"hybrid": True} for name in "abcd"}
    found = judged(column({**SCORES, "f": None}), truth(**hybrids, e={"cost": 100.0}))
    assert (found["layouts"], found["hybrids"], found["failed"], found["seconds"]) == (5, 4, 1, 3.0)
    assert found["cost_ratio"] == pytest.approx((4 * 10 / 200 + 10 / 100) / 5)
    alone = correlations(SCORES, truth(), list("abcd"))
    assert (found["hybrid_spearman"], found["hybrid_kendall"]) == (alone["spearman"], alone["kendall"])
    assert found["spearman"] == correlations(SCORES, truth(), list("abcde"))["spearman"]


def test_the_truth_takes_the_better_rate_and_the_mean_of_its_seeds() -> None:
    def row(layout: str, rate: float, bits: float, seed: int = 0, form: str = "full") -> dict[str, Any]:
        job = {"form": form, "layout": layout, "rate": rate, "seed": seed}
        return {"job": job, "bits_per_byte": bits, "tokens": 10, "macs_per_token": 7, "seconds": 1.0}

    low, high = RATES
    found = truth_of([
        row("ccac", low, 2.0), row("ccac", high, 1.8), row("ccac", high, 1.9, seed=1),
        row("ccac", low, 1.0, form="short"), row("aaaa", low, 2.1),
    ])  # fmt: skip
    assert found.keys() == {"ccac"}, "a layout at one rate alone is left out"
    assert found["ccac"]["bits_per_byte"] == pytest.approx(1.85) and found["ccac"]["rate"] == high
    assert (found["ccac"]["cost"], found["ccac"]["hybrid"], found["ccac"]["seeds"]) == (70.0, True, [1.8, 1.9])


@pytest.mark.parametrize(
    ("layout", "hybrid"),
    [("ccaccacc wide", True), ("wwwwfwww", True), ("aaaa", False), ("cccc", False), ("sasa", False)],
)
def test_a_hybrid_has_both_kinds_of_mixers(layout: str, hybrid: bool) -> None:
    assert is_hybrid(layout) is hybrid


def test_the_bar_is_for_estimators_that_cost_little() -> None:
    def row(name: str, rho: float, cost: float) -> dict[str, Any]:
        interval = {"spearman_interval": [0.1, 1.0], "kendall": 0.5, "fidelity": "all"}
        return {"estimator": name, "spearman": rho, "hybrid_spearman": rho, "cost_ratio": cost, **interval}

    of = {name: {**fields, "seeds": [fields["bits_per_byte"]]} for name, fields in truth().items()}
    rows = [row("params", 0.99, 0.0), row("text", 0.8, 0.01), row("text on the GPU", 0.95, 0.2)]
    found = summary(rows, of, [{"tokens": 5}])
    assert (found["best"], found["best_spearman"], found["bar_met"]) == ("text, all", 0.8, False)
    assert summary([*rows, row("mechanistic", 0.86, 0.1)], of, [{"tokens": 5}])["bar_met"]


def test_what_training_costs_is_counted() -> None:
    once = estimator(QualitySpec(estimator="mechanistic", options={"steps": 100, "learning_rates": [4e-3]}))
    twice = estimator(QualitySpec(estimator="mechanistic", options={"steps": 200, "learning_rates": [4e-3]}))
    assert cost_of(twice, "ccaccacc") == 2 * cost_of(once, "ccaccacc") > 0
    assert cost_of(estimator(QualitySpec(estimator="params")), "ccaccacc") == 0


def test_the_kept_truth_is_what_the_kept_trainings_give() -> None:
    assert json.loads(json.dumps(truth_of(TRAININGS))) == KEPT["raw"]["truth"]


def test_the_kept_figures_are_what_the_kept_data_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals take 2,000 resamples each, so only those of ``text`` are made again."""
    kept_truth = KEPT["raw"]["truth"]
    columns = [*estimates_as_columns(KEPT["raw"]["estimates"]), *fidelities(TRAININGS)]
    (text,) = (judged(one, kept_truth) for one in columns if one["estimator"] == "text")
    monkeypatch.setattr(benchmark, "RESAMPLES", 0)
    rows = [text if one["estimator"] == "text" else judged(one, kept_truth) for one in columns]
    assert [point(row) for row in rows] == [point(row) for row in KEPT["rows"]]
    assert text in KEPT["rows"]
    assert json.loads(json.dumps(summary(rows, kept_truth, TRAININGS))) == KEPT["summary"]


def point(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not key.endswith("_interval")}
