"""The nearest misses of a study whose budgets no candidate meets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.states import TrialState
from contracts.study import QualityResult, StudySpec, TrialFacts
from nas.feasibility import NEAREST, broken_budgets, nearest_misses, nothing_feasible

SPEC = StudySpec.model_validate({
    "name": "tight", "objectives": [{"metric": "quality", "budget": 0.5}, {"metric": "decode_ms@256", "budget": 10.0}],
    "budgets": {"params": 1000.0},
})  # fmt: skip


def trial(
    number: int, state: TrialState = TrialState.INFEASIBLE, quality: float | None = None, **costs: float
) -> TrialFacts:
    judged = QualityResult(estimator="e", score=quality, low=quality, high=quality) if quality is not None else None
    keys = {"decode_ms": "decode_ms@256"}
    return TrialFacts(
        id=f"trial-{number}", study_id="s", number=number, state=state, assignment={}, arch_digest=str(number),
        costs={keys.get(name, name): value for name, value in costs.items()}, quality=judged,
    )  # fmt: skip


def test_the_largest_relative_excess_decides() -> None:
    trials = [
        trial(0, decode_ms=11.0, params=2000.0),  # 100 % over
        trial(1, decode_ms=13.0, params=900.0),  # 30 %
        trial(2, TrialState.GATED, params=1100.0),  # 10 %, the rest is not known
        trial(3, decode_ms=9.0, params=800.0, quality=0.4),  # 20 % under
        trial(4, TrialState.FAILED),
    ]
    misses = nearest_misses(trials, SPEC)
    assert [miss.trial.number for miss in misses] == [2, 3, 1]
    assert [round(miss.broken[0].percent, 6) for miss in misses] == [10, 20, 30]
    assert [one.key for one in broken_budgets(trials[0], SPEC)] == ["params", "decode_ms@256"], "worst first"
    assert nothing_feasible(trials, SPEC) == (
        "none of 4 candidates met the budget quality 0.5 score: the best had 0.4; nearest: "
        "candidate 2: params 1100 count, 10 % over 1000; candidate 3: quality 0.4 score, 20 % under 0.5; "
        "candidate 1: decode_ms@256 13 ms, 30 % over 10"
    )


def test_budgets_that_each_one_meets_alone() -> None:
    trials = [trial(0, decode_ms=12.0, params=900.0, quality=0.6), trial(1, decode_ms=9.0, params=1500.0)]
    sentence = "none of 2 candidates met all budgets together; nearest: candidate 0"
    assert nothing_feasible(trials, SPEC).startswith(sentence)


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.MEASURED, TrialState.DOMINATED, TrialState.JUDGING])
def test_there_are_none_beside_a_candidate_that_was_kept(state: TrialState) -> None:
    trials = [trial(0, decode_ms=11.0), trial(1, state, decode_ms=9.0)]
    assert nearest_misses(trials, SPEC) == [] and nothing_feasible(trials, SPEC) == ""


@given(st.lists(st.tuples(st.floats(10.1, 1e6), st.floats(1, 1e6)), max_size=20))
def test_no_other_rejected_candidate_is_nearer(values: list[tuple[float, float]]) -> None:
    trials = [trial(at, decode_ms=ms, params=params) for at, (ms, params) in enumerate(values)]
    worst = sorted(max(ms / 10 - 1, params / 1000 - 1) for ms, params in values)
    misses = nearest_misses(trials, SPEC)
    assert [miss.broken[0].percent / 100 for miss in misses] == pytest.approx(worst[:NEAREST])
