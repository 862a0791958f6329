"""What other studies of the same space teach a sampler: their measurements and qualities where they mean the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from contracts.measurement import Verdict
from contracts.states import TrialState
from contracts.study import StoredMeasurement, StudySpec, TrialFacts
from foundation.errors import InvalidConfig
from nas.objectives import free_costs, known_values, needs_quality, objective_values, over_budget
from nas.quality.contract import estimator
from nas.targets import DeviceGroup
from search_space.space import SearchSpace

MAX_EARLIER = 500  # trials of one study that are told, the latest: models keep fewer
Conditions = tuple[object, ...]


def told_earlier(
    spec: StudySpec, space: SearchSpace, groups: Sequence[DeviceGroup], other: StudySpec, trials: Iterable[TrialFacts]
) -> list[TrialFacts]:
    """Trials of ``other``, a study of the same space, as this study's sampler may know them: closed forms are computed
    anew, device rows count where conditions and fingerprints are equal, a quality where its estimator is the same.
    Complete, infeasible, or failed for want of a value, so that none of them looks open."""
    same_quality = needs_quality(spec) and needs_quality(other) and _quality_key(spec) == _quality_key(other)
    latest = sorted(trials, key=lambda trial: trial.number)[-MAX_EARLIER:]
    told = (_told(trial, spec, space, groups, other, same_quality) for trial in latest if _is_inside(trial, space))
    return list(told)


def _is_inside(trial: TrialFacts, space: SearchSpace) -> bool:
    """Rows of older versions may hold anything."""
    try:
        space.decode(trial.assignment)
    except (InvalidConfig, TypeError):
        return False
    return True


def _told(
    trial: TrialFacts, spec: StudySpec, space: SearchSpace, groups: Sequence[DeviceGroup], other: StudySpec,
    same_quality: bool,
) -> TrialFacts:  # fmt: skip
    rows = _rows(trial, spec, groups, other)
    told = trial.model_copy(update={
        "costs": free_costs(space.decode(trial.assignment), spec), "measurements": rows, "confirmed": {}, "trained": {},
        "quality": trial.quality if same_quality else None, "values": {}, "sampler_attrs": {}, "artifacts": {},
        "state": TrialState.FAILED, "reason": f"known from study {trial.study_id}",
    })  # fmt: skip
    if over_budget(known_values(told), spec):
        return told.model_copy(update={"state": TrialState.INFEASIBLE})
    values = objective_values(told, spec)
    return told if values is None else told.model_copy(update={"state": TrialState.COMPLETE, "values": values})


def _rows(
    trial: TrialFacts, spec: StudySpec, groups: Sequence[DeviceGroup], other: StudySpec
) -> dict[str, StoredMeasurement]:
    """A valid row for every group of this study, or none at all: the worst of all devices counts."""
    found = {}
    for group in groups:
        row = next((row for row in trial.measurements.values() if _same(row, group, spec, other)), None)
        if row is None:
            return {}
        whose = {"target": group.target, "device_id": group.device_id or row.device_id}
        moved = row.model_copy(update=whose)
        found[moved.key] = moved
    return found


def _same(row: StoredMeasurement, group: DeviceGroup, spec: StudySpec, other: StudySpec) -> bool:
    return (
        row.verdict is Verdict.VALID
        and row.fingerprint == group.fingerprint
        and _conditions(other, row.target) == _conditions(spec, group.target)
    )


def _conditions(spec: StudySpec, target: str) -> Conditions:
    """All that a time on a device depends on beside the device and the candidate."""
    own = spec.target(target) if target else None
    threads = own.threads if own and own.threads is not None else spec.threads
    affinity = own.affinity if own else None
    return spec.quantization, spec.cache_dtype, spec.protocol, spec.backend_of(target), threads, affinity


def _quality_key(spec: StudySpec) -> str:
    return estimator(spec.quality).key
