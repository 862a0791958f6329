"""Which side of a bound is worse, for every direction and sign; keys in one form; values that are not finite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from optuna.trial import TrialState as OptunaState
from pydantic import ValidationError

from contracts.metrics import METRICS, Metric, MetricKey
from contracts.states import TrialState
from contracts.study import Objective, StudySpec, TrialFacts
from foundation.errors import InvalidConfig
from nas.feasibility import broken_budgets, nothing_feasible
from nas.front import Front, reference_point_of
from nas.objectives import known_values, over_budget
from nas.samplers.facts import constraints, optuna_state
from tests.doubles.workspace import spec_of

SCORE = "log_likelihood"  # of a plugin: more is better, and every value is negative


@pytest.fixture(autouse=True)
def a_score_below_zero(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    metric = Metric(name=SCORE, unit="nats", direction="max", source="quality", takes_context=False, definition="x")
    monkeypatch.setitem(METRICS, SCORE, metric)
    yield


def trial(number: int = 0, state: TrialState = TrialState.COMPLETE, **values: float) -> TrialFacts:
    """Values as they are, whatever a check would say of them."""
    facts = TrialFacts(id=f"t{number}", study_id="s", number=number, state=state, assignment={}, arch_digest="")
    return facts.model_copy(update={"values": values, "costs": values})


@pytest.mark.parametrize(
    ("objective", "value", "side"),
    [
        ({"metric": "params", "budget": 10}, 11, "over"),
        ({"metric": "params", "budget": 10}, 9, ""),
        ({"metric": "params", "budget": 10, "direction": "max"}, 9, "under"),
        ({"metric": "params", "budget": 10, "direction": "max"}, 11, ""),
        ({"metric": SCORE, "budget": -2.0}, -3.0, "under"),
        ({"metric": SCORE, "budget": -2.0}, -1.0, ""),
        ({"metric": SCORE, "budget": 0.0}, -1.0, "under"),
        ({"metric": SCORE, "budget": -2.0, "direction": "min"}, -1.0, "over"),
        ({"metric": SCORE, "budget": -2.0, "direction": "min"}, -3.0, ""),
    ],
)
def test_a_bound_holds_on_the_worse_side(objective: dict[str, Any], value: float, side: str) -> None:
    spec = StudySpec(name="s", objectives=[Objective(**objective)])
    key = objective["metric"]
    rejected = trial(state=TrialState.INFEASIBLE, **{key: value})
    sentence = over_budget({key: value}, spec)
    assert side in sentence and bool(sentence) == bool(side)
    assert bool(broken_budgets(rejected, spec)) == bool(side)
    assert all(one.percent > 0 and side in one.sentence for one in broken_budgets(rejected, spec))
    assert bool(side) == ("none of 1 candidates met the budget" in nothing_feasible([rejected], spec))
    assert (constraints({key: value}, spec)[key] > 0) == bool(side)


def test_a_front_of_negative_scores() -> None:
    spec = spec_of(SCORE, "params", max_trials=4)
    trials = [trial(n, **{SCORE: score, "params": size}) for n, (score, size) in
              enumerate([(-1.0, 9.0), (-2.0, 2.0), (-6.0, 1.0), (-7.0, 8.0)])]  # fmt: skip
    reference = reference_point_of(trials, spec)
    front = Front(spec.all_objectives, trials)
    assert [one.number for one in front.members] == [0, 1, 2]
    assert front.knee is trials[1]
    assert reference[SCORE] < -7.0 and reference["params"] > 9.0
    assert front.hypervolume(reference) > 0  # type: ignore[operator]
    bounded = spec_of(objectives=[{"metric": SCORE, "budget": -8.0}, {"metric": "params"}], max_trials=4)
    assert reference_point_of(trials, bounded)[SCORE] == -8.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_on_no_front_and_fails_for_the_sampler(value: float) -> None:
    spec = spec_of("params", SCORE)
    sound, broken = trial(0, **{"params": 3.0, SCORE: -1.0}), trial(1, **{"params": value, SCORE: -1.0})
    front = Front(spec.all_objectives, [broken, sound])
    assert front.members == [sound] and front.knee is sound
    assert Front(spec.all_objectives, [broken]).knee is None
    assert "params" not in known_values(broken)
    assert optuna_state(broken, spec) == (OptunaState.FAIL, None)
    assert optuna_state(sound, spec)[0] is OptunaState.COMPLETE


@pytest.mark.parametrize("objectives", [["params", "params"], ["decode_ms@256", "decode_ms@0256"]])
def test_an_objective_is_given_once(objectives: list[str]) -> None:
    with pytest.raises(ValidationError, match=f"objective {objectives[0]} is given twice; give it once"):
        spec_of(*objectives)


def test_keys_have_one_form() -> None:
    spec = spec_of("decode_ms@0256", budgets={"cache_bytes@001024": 5})
    assert spec.objectives[0].metric == "decode_ms@256"
    assert spec.budgets == {"cache_bytes@1024": 5}
    with pytest.raises(ValidationError, match="cache_bytes@64 has two budgets; give one"):
        spec_of(budgets={"cache_bytes@64": 5, "cache_bytes@064": 6})
    objectives = [{"metric": "ttft_ms@07"}]
    targets = [{"name": "a", "kind": "host", "budgets": {"decode_ms@0256": 3}, "objectives": objectives}]
    assert set(spec_of(targets=targets).all_budgets) == {"decode_ms@256:a"}


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("decode_ms", "decode_ms needs a context, e.g. decode_ms@512; got 'decode_ms'"),
        ("decode_ms@", "decode_ms needs a context"),
        ("decode_ms@0", "decode_ms takes a context of 1 to 999999999 tokens, e.g. decode_ms@512; got 'decode_ms@0'"),
        ("decode_ms@-5", "decode_ms takes a context of 1 to 999999999 tokens"),
        ("decode_ms@1e3", "decode_ms takes a context of 1 to 999999999 tokens"),
        (f"cache_bytes@{'9' * 400}", "cache_bytes takes a context of 1 to 999999999 tokens"),
        ("params@", "params takes no context; got 'params@'"),
        ("params@5", "params takes no context; got 'params@5'"),
        ("params:a", "params is the same on every device"),
        ("decode_ms@5:", "expected a target name after the colon, e.g. decode_ms@5:s24"),
        ("x" * 5000, "unknown metric 'xxx"),
        ("", "unknown metric ''; known metrics: params"),
    ],
)
def test_a_key_that_is_no_key(key: str, words: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        MetricKey.parse(key)
    assert str(caught.value).startswith(words)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("bound", [math.nan, math.inf, -math.inf, 0, -1])
@pytest.mark.parametrize("where", ["budgets", "objective"])
def test_a_bound_that_nothing_can_meet(bound: float, where: str) -> None:
    given = {"metric": "params", "budget": bound}
    with pytest.raises(ValidationError):
        spec_of(budgets={"params": bound}) if where == "budgets" else spec_of(objectives=[given])
