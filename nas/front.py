"""The front of a study's trials, joint or for one target: its members, its reference point, and the candidates that may
still reach it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np

from contracts.metrics import MetricKey
from contracts.states import TrialState
from contracts.study import Objective, StudySpec, TrialFacts, TrialRecord
from nas.hypervolume import hypervolume
from nas.objectives import finite, known_values
from nas.pareto import as_losses, knee_index, non_domination_rank, pareto_mask
from nas.quality.contract import metric_of
from nas.quality.optimism import optimistic_quality

Trial = TypeVar("Trial", bound=TrialFacts)
REFERENCE_TRIALS = 8
REFERENCE_MARGIN = 0.1


def objectives_of(spec: StudySpec, target: str | None = None) -> list[Objective]:
    """The axes of the joint front, or of one target's: objectives that no device measures, those of the target, and
    those of all targets restricted to this one. Raises InvalidConfig for an unknown target."""
    if target is None:
        return spec.all_objectives
    spec.target(target)
    axes: dict[str, Objective] = {}
    for objective in spec.all_objectives:
        key = MetricKey.parse(objective.metric)
        if key.metric.source != "device" or key.target == target:
            axes[objective.metric] = objective
        elif not key.target:
            axes.setdefault(key.on(target), objective.model_copy(update={"metric": key.on(target)}))
    return list(axes.values())


@dataclass(frozen=True)
class Front(Generic[Trial]):
    """Complete ``trials`` on the axes ``objectives``; trials that lack a finite value are left out."""

    objectives: Sequence[Objective]
    trials: Sequence[Trial]

    @property
    def keys(self) -> list[str]:
        return [objective.metric for objective in self.objectives]

    @property
    def directions(self) -> list[str]:
        return [str(objective.direction) for objective in self.objectives]

    @cached_property
    def completed(self) -> list[tuple[Trial, dict[str, float]]]:
        """Complete trials with their values on the axes."""
        found = []
        for trial in self.trials:
            if trial.state is TrialState.COMPLETE:
                values = self.values_of(trial)
                if len(values) == len(self.keys):
                    found.append((trial, values))
        return found

    def values_of(self, trial: Trial) -> dict[str, float]:
        """Known values on the axes; stored values come first, since they were decisive."""
        stored = finite(trial.values)
        known = stored if all(key in stored for key in self.keys) else known_values(trial) | stored
        return {key: known[key] for key in self.keys if key in known}

    @cached_property
    def points(self) -> list[list[float]]:
        return [list(values.values()) for _, values in self.completed]

    @cached_property
    def members(self) -> list[Trial]:
        """The non-dominated trials, best first along the first axis."""
        if not self.points:
            return []
        on_front = np.flatnonzero(pareto_mask(self.points, self.directions))
        sign = -1 if self.directions[0] == "max" else 1
        return [self.completed[i][0] for i in sorted(on_front, key=lambda i: sign * self.points[i][0])]

    @cached_property
    def knee(self) -> Trial | None:
        return self.completed[knee_index(self.points, self.directions)][0] if self.points else None

    @property
    def winners(self) -> list[Trial]:
        """Members in the order in which they are confirmed: the knee first."""
        return sorted(self.members, key=lambda trial: trial is not self.knee)

    def project(self, reference_point: dict[str, float]) -> dict[str, float]:
        """The stored point on these axes. A value for the worst of all targets also bounds each target."""
        found = {key: reference_point.get(key, reference_point.get(MetricKey.parse(key).base)) for key in self.keys}
        return {key: value for key, value in found.items() if value is not None}

    def hypervolume(self, reference_point: dict[str, float]) -> float | None:
        """Volume inside the stored reference point; None without a point or a complete trial."""
        point = self.project(reference_point)
        if len(point) < len(self.keys) or not self.points:
            return None
        return float(hypervolume(self.points, [point[key] for key in self.keys], self.directions))


def front_of(trials: Sequence[Trial], spec: StudySpec, target: str | None = None) -> Front[Trial]:
    return Front(objectives_of(spec, target), trials)


def reference_point_of(trials: Sequence[TrialFacts], spec: StudySpec) -> dict[str, float]:
    """Per objective: the user's value, its budget, 0 for mean accuracy, or the worst of the first complete trials
    plus a margin. Empty until there are enough trials; stored once, so that volumes stay comparable."""
    front = front_of(trials, spec)
    if len(front.points) < min(REFERENCE_TRIALS, spec.max_quality or spec.max_trials):
        return {}
    columns = zip(*front.points, strict=True)
    return {
        objective.metric: _reference(objective, column)
        for objective, column in zip(front.objectives, columns, strict=True)
    }


def given_reference(objective: Objective) -> float | None:
    """What the user said of this axis of the reference point, by a reference or a budget."""
    given = objective.reference if objective.reference is not None else objective.budget
    return None if given is None else float(given)


def _reference(objective: Objective, column: Sequence[float]) -> float:
    if (given := given_reference(objective)) is not None:
        return given
    margin = REFERENCE_MARGIN * ((max(column) - min(column)) or abs(max(column)) or 1.0)
    if objective.direction == "min":
        return max(column) + margin
    return 0.0 if objective.metric == "quality" else min(column) - margin


def worth_judging(
    trials: Sequence[TrialRecord], spec: StudySpec
) -> tuple[list[TrialRecord], list[tuple[TrialRecord, str]]]:
    """Measured candidates worth a quality estimate, most promising first, and those dominated even at their optimistic
    quality."""
    front, metric = front_of(trials, spec), metric_of(spec.quality)
    judged = [(t.arch, t.quality.score) for t in trials if t.quality is not None and t.quality.metric == metric.name]
    rivals = as_losses(front.points, front.directions)
    open_trials, points, beaten = [], [], []
    for trial in (t for t in trials if t.state in (TrialState.MEASURED, TrialState.DOMINATED)):
        bound = optimistic_quality(trial.arch, judged, metric)
        values = {**known_values(trial), metric.name: bound}
        point = [values[key] for key in front.keys]
        winner = _first_dominating(as_losses([point], front.directions)[0], rivals)
        if winner is None:
            open_trials.append(trial)
            points.append(point)
        elif trial.state is TrialState.MEASURED:
            number = front.completed[winner][0].number
            beaten.append((trial, f"dominated by candidate {number} even at {metric.name} {bound:.3f}"))
    ranks = non_domination_rank(points, front.directions) if points else np.array([], dtype=np.int64)
    order = sorted(range(len(open_trials)), key=lambda i: (ranks[i], open_trials[i].number))
    return [open_trials[i] for i in order], beaten


def _first_dominating(losses: np.ndarray, rivals: np.ndarray) -> int | None:
    if not len(rivals):
        return None
    beats = np.all(rivals <= losses, axis=1) & np.any(rivals < losses, axis=1)
    return int(np.argmax(beats)) if beats.any() else None
