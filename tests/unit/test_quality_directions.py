"""Everything that reads a judgement follows the direction of its metric."""

from __future__ import annotations

import math

import pytest

from contracts.metrics import METRICS
from contracts.states import TrialState
from contracts.study import QualityResult, StudySpec, TrialRecord
from nas.front import front_of, reference_point_of, worth_judging
from nas.objectives import known_values, needs_quality
from nas.quality.optimism import MIN_JUDGED, optimistic_quality
from search_space.space import space as build_space

SPACE = build_space("debug_space", {"depth": 2, "d_model": 64, "vocab_size": 256})
TEXT = {"estimator": "text"}


def spec_of(metric: str, estimator: str = "text") -> StudySpec:
    objectives = [{"metric": metric}, {"metric": "params"}]
    return StudySpec.model_validate({"name": "s", "objectives": objectives, "quality": {"estimator": estimator}})


def trial(number: int, params: float, score: float | None, metric: str = "bits_per_byte") -> TrialRecord:
    """``number`` also picks the architecture."""
    choices = list(SPACE.parameters().items())
    assignment = {name: values[(number // 4**i) % len(values)] for i, (name, values) in enumerate(choices)}
    quality = None
    if score is not None:
        quality = QualityResult(estimator="x", metric=metric, score=score, low=score, high=score)
    return TrialRecord(
        id=str(number), study_id="s", number=number, assignment={}, arch_digest="", arch=SPACE.decode(assignment),
        state=TrialState.MEASURED if score is None else TrialState.COMPLETE, costs={"params": params}, quality=quality,
    )  # fmt: skip


@pytest.mark.parametrize(("metric", "sign"), [("bits_per_byte", 1), ("quality", -1), ("log_params", -1)])
def test_bounds_lie_on_the_good_side(metric: str, sign: int) -> None:
    judged = [(trial(i, 1, None).arch, 0.5 + 0.01 * i) for i in range(MIN_JUDGED + 2)]
    arch = trial(9, 1, None).arch
    bound = optimistic_quality(arch, judged, METRICS[metric])
    assert sign * bound < sign * 0.5
    assert optimistic_quality(arch, judged[:2], METRICS[metric]) == {
        "bits_per_byte": 0.0, "quality": 1.0, "log_params": math.inf
    }[metric]  # fmt: skip


def test_the_front_minimizes_bits() -> None:
    trials = [trial(0, 100, 2.5), trial(1, 200, 2.2), trial(2, 300, 2.4)]
    front = front_of(trials, spec_of("bits_per_byte"))
    assert front.directions == ["min", "min"]
    assert [member.number for member in front.members] == [1, 0]


def test_the_reference_point_of_bits_is_their_worst() -> None:
    trials = [trial(i, 100 + i, 2 + 0.1 * i) for i in range(8)]
    assert reference_point_of(trials, spec_of("bits_per_byte"))["bits_per_byte"] == pytest.approx(2.77)
    accurate = [trial(i, 100 + i, 0.3, "quality") for i in range(8)]
    assert reference_point_of(accurate, spec_of("quality", "mechanistic"))["quality"] == 0.0


def test_a_candidate_that_is_larger_and_cannot_be_better_is_not_judged() -> None:
    judged = [trial(i, 100, 2.0 + 0.001 * i) for i in range(12)]
    promising, beaten = worth_judging([*judged, trial(13, 50, None), trial(14, 900, None)], spec_of("bits_per_byte"))
    assert [one.number for one in promising][0] == 13
    assert all("even at bits_per_byte" in sentence for _, sentence in beaten)


def test_results_of_another_metric_stay_apart() -> None:
    assert known_values(trial(0, 1, 0.4, "quality")) == {"params": 1, "quality": 0.4}
    assert known_values(trial(0, 1, 2.4)) == {"params": 1, "bits_per_byte": 2.4}
    assert needs_quality(spec_of("bits_per_byte"))
    assert not needs_quality(spec_of("effective_params"))
