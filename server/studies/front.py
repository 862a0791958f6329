"""The front of a study from its complete trials. The mathematics is in ``nas.pareto`` and ``nas.hypervolume``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nas.contracts.measurement import Estimate
from nas.contracts.states import TrialState
from nas.contracts.study import Objective, StudyRecord, TrialRecord
from nas.hypervolume import hypervolume
from nas.pareto import knee_index, pareto_mask
from server.studies.schemas import Front, FrontMember


def front_of(study: StudyRecord, trials: Sequence[TrialRecord]) -> Front:
    objectives = study.spec.objectives
    metrics = [objective.metric for objective in objectives]
    directions = [str(objective.direction) for objective in objectives]
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and _has_all(trial, metrics)]
    members = _non_dominated(complete, metrics, directions)
    return Front(
        study_id=study.id,
        objectives=metrics,
        directions=directions,
        reference_point=study.reference_point,
        hypervolume=_hypervolume(study, members, metrics, directions),
        members=_members(members, objectives, directions),
    )


def _has_all(trial: TrialRecord, metrics: Sequence[str]) -> bool:
    return all(metric in trial.values for metric in metrics)


def _points(trials: Sequence[TrialRecord], metrics: Sequence[str]) -> np.ndarray:
    return np.array([[trial.values[metric] for metric in metrics] for trial in trials], dtype=float)


def _non_dominated(
    trials: Sequence[TrialRecord], metrics: Sequence[str], directions: Sequence[str]
) -> list[TrialRecord]:
    if not trials:
        return []
    mask = pareto_mask(_points(trials, metrics), directions)
    front = [trial for trial, kept in zip(trials, mask, strict=True) if kept]
    return sorted(front, key=lambda trial: trial.values[metrics[0]], reverse=directions[0] == "max")


def _hypervolume(
    study: StudyRecord, front: Sequence[TrialRecord], metrics: Sequence[str], directions: Sequence[str]
) -> float | None:
    reference = [study.reference_point[metric] for metric in metrics if metric in study.reference_point]
    if not front or len(reference) < len(metrics):
        return None
    return float(hypervolume(_points(front, metrics), reference, directions))


def _members(
    front: Sequence[TrialRecord], objectives: Sequence[Objective], directions: Sequence[str]
) -> list[FrontMember]:
    if not front:
        return []
    metrics = [objective.metric for objective in objectives]
    knee = int(knee_index(_points(front, metrics), directions))
    return [_member(trial, metrics, index == knee) for index, trial in enumerate(front)]


def _member(trial: TrialRecord, metrics: Sequence[str], knee: bool) -> FrontMember:
    estimates = {metric: _estimate(trial, metric) for metric in metrics}
    return FrontMember(
        trial_id=trial.id, number=trial.number, knee=knee, values=trial.values,
        estimates={metric: estimate for metric, estimate in estimates.items() if estimate is not None},
        confirmed=_first(row.metrics for row in trial.confirmed.values()),
        beside=_first(row.beside for row in trial.confirmed.values()), costs=trial.costs, arch=trial.arch,
        arch_digest=trial.arch_digest, artifacts=trial.artifacts,
    )  # fmt: skip


def _estimate(trial: TrialRecord, metric: str) -> Estimate | None:
    """The measured interval whose median is the trial's value (with several devices: the one that decided)."""
    if metric == "quality" and trial.quality is not None:
        quality = trial.quality
        return Estimate(median=quality.score, low=quality.low, high=quality.high, unit="score",
                        num_samples=max(1, len(quality.seeds)))  # fmt: skip
    found = [row.metrics[metric] for row in trial.measurements.values() if metric in row.metrics]
    return min(found, key=lambda estimate: abs(estimate.median - trial.values[metric]), default=None)


def _first(metrics: Iterable[dict[str, Estimate]]) -> dict[str, Estimate]:
    return dict(next(iter(metrics), {}))
