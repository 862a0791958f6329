"""What one study tells another of the same space, and what it must not."""

from __future__ import annotations

import random
from typing import Any

import pytest

from contracts.measurement import Verdict
from contracts.states import TrialState
from contracts.study import QualityResult, StoredMeasurement, StudySpec, TrialFacts
from nas.study import Study
from nas.targets import DeviceGroup
from nas.warm_start import told_earlier
from search_space.cost import closed_form
from search_space.space import space
from tests.doubles.memory_store import MemoryStore
from tests.doubles.workspace import FakeWorkspace, no_blocks, run, spec_of  # noqa: F401

SPACE = space("debug_space", {"depth": 2})
HERE, THERE = DeviceGroup("", "here"), DeviceGroup("", "there")


def spec(**changes: Any) -> StudySpec:
    objectives = [{"metric": "quality"}, {"metric": "decode_ms@256"}, {"metric": "memory_bytes@256"}]
    return StudySpec.model_validate({"name": "s", "objectives": objectives, **changes})


def row(fingerprint: str = "here", **changes: Any) -> StoredMeasurement:
    estimate = {"median": 5.0, "low": 4.9, "high": 5.1, "unit": "ms", "num_samples": 3}
    return StoredMeasurement.model_validate({
        "plan_digest": "0", "protocol": "screening", "verdict": "valid", "metrics": {"decode_ms@256": estimate},
        "fingerprint": fingerprint, "device_id": f"device-{fingerprint}", **changes,
    })  # fmt: skip


def trial(*rows: StoredMeasurement, **changes: Any) -> TrialFacts:
    quality = QualityResult(estimator="mechanistic", score=0.7, low=0.6, high=0.8)
    return TrialFacts(
        id="trial-0", study_id="study-0", number=0, state=TrialState.COMPLETE, arch_digest="0",
        assignment=SPACE.sample(random.Random(0)), costs={"memory_bytes@256": 1.0}, quality=quality,
        measurements={one.key: one for one in rows}, **changes,
    )  # fmt: skip


def told(mine: StudySpec, other: StudySpec, one: TrialFacts, groups: tuple[DeviceGroup, ...] = (HERE,)) -> TrialFacts:
    (found,) = told_earlier(mine, SPACE, groups, other, [one])
    return found


def test_equal_studies_share_all_that_they_measured() -> None:
    found = told(spec(), spec(), trial(row()))
    exact = closed_form(SPACE.decode(found.assignment), "memory_bytes", 256, "8da4w", "fp32")
    assert found.state is TrialState.COMPLETE
    assert found.values == {"quality": 0.7, "decode_ms@256": 5.0, "memory_bytes@256": exact}, "costs are computed anew"


@pytest.mark.parametrize("changes", [
    {"quantization": "fp32"}, {"cache_dtype": "fp16"}, {"protocol": "quick"}, {"threads": 4}, {"backend": "portable"},
])  # fmt: skip
def test_times_under_other_conditions_are_not_told(changes: dict[str, Any]) -> None:
    found = told(spec(**changes), spec(), trial(row()))
    assert found.measurements == {} and found.state is TrialState.FAILED and found.values == {}
    assert found.quality is not None, "quality does not depend on them"


@pytest.mark.parametrize("changes", [{"fingerprint": "there"}, {"verdict": Verdict.NOISY}])
def test_times_of_other_devices_and_spoiled_ones_are_not_told(changes: dict[str, Any]) -> None:
    assert told(spec(), spec(), trial(row(**changes))).measurements == {}


def test_the_worst_of_all_devices_needs_all_of_them() -> None:
    assert told(spec(), spec(), trial(row()), (HERE, THERE)).measurements == {}
    assert len(told(spec(), spec(), trial(row(), row("there")), (HERE, THERE)).measurements) == 2


def test_rows_of_a_target_go_to_the_target_of_the_same_conditions() -> None:
    one = {"name": "one", "model": "m", "threads": 1}
    mine = spec(targets=[{**one, "name": "mine"}])
    found = told(mine, spec(targets=[one]), trial(row(target="one")), (DeviceGroup("mine", "here"),))
    assert [(key, known.target) for key, known in found.measurements.items()] == [("mine:device-here", "mine")]
    other = spec(targets=[{**one, "threads": 2}])
    assert told(mine, other, trial(row(target="one")), (DeviceGroup("mine", "here"),)).measurements == {}


def test_another_estimator_s_quality_is_not_told() -> None:
    other = spec(quality={"options": {"steps": 7}})
    assert told(spec(), other, trial(row())).quality is None


def test_budgets_are_those_of_this_study() -> None:
    found = told(spec(budgets={"decode_ms@256": 4.0}), spec(), trial(row()))
    assert found.state is TrialState.INFEASIBLE and found.values == {}


def test_a_trial_that_is_no_candidate_is_left_out() -> None:
    assert told_earlier(spec(), SPACE, (HERE,), spec(), [trial().model_copy(update={"assignment": {"x": "y"}})]) == []


def test_a_study_starts_from_what_another_knows_and_a_restart_does_too() -> None:
    first = MemoryStore(spec_of(max_trials=6))
    run(first)
    warm = spec_of(max_trials=4, warm_start=["study-0", "study-gone"])
    proposals = []
    for _ in range(2):
        store = MemoryStore(warm)
        store.others["study-0"] = first
        study = Study(store, FakeWorkspace())  # type: ignore[arg-type]
        study.load()
        told = [one.user_attrs.get("earlier", False) for one in study.sampler.study.trials]
        assert told == [True] * 6 and store.trials() == [], "none of them is a trial of this study"
        assert all(one.values is not None for one in study.sampler.study.trials)
        proposals.append(study.sampler.ask())
    assert proposals[0] == proposals[1]
    assert run(store) == {TrialState.COMPLETE: 4}
