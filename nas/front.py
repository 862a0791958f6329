"""The front of a study's trials: who is on it, where its reference point lies, and who may still reach it."""

from __future__ import annotations

import numpy as np

from nas.contracts.metrics import parse_metric
from nas.contracts.states import TrialState
from nas.contracts.study import StudySpec, TrialRecord
from nas.hypervolume import hypervolume
from nas.objectives import known_values
from nas.pareto import as_losses, knee_index, non_domination_rank, pareto_mask
from nas.quality.optimism import optimistic_quality
from search_space.arch import ArchConfig

REFERENCE_TRIALS = 8
REFERENCE_MARGIN = 0.1


def keys_of(spec: StudySpec) -> list[str]:
    return [objective.metric for objective in spec.objectives]


def directions_of(spec: StudySpec) -> list[str]:
    return [str(objective.direction) for objective in spec.objectives]


def completed(trials: list[TrialRecord], spec: StudySpec) -> list[TrialRecord]:
    return [t for t in trials if t.state is TrialState.COMPLETE and all(key in t.values for key in keys_of(spec))]


def points_of(trials: list[TrialRecord], spec: StudySpec) -> list[list[float]]:
    return [[trial.values[key] for key in keys_of(spec)] for trial in trials]


def front_of(trials: list[TrialRecord], spec: StudySpec) -> list[TrialRecord]:
    """The non-dominated complete trials: the knee first, then by the first objective."""
    done = completed(trials, spec)
    if not done:
        return []
    points, directions = points_of(done, spec), directions_of(spec)
    knee = done[knee_index(points, directions)]
    front = [trial for trial, kept in zip(done, pareto_mask(points, directions), strict=True) if kept]
    rest = sorted((t for t in front if t.id != knee.id), key=lambda t: t.values[keys_of(spec)[0]])
    return [knee, *rest]


def reference_point_of(trials: list[TrialRecord], spec: StudySpec) -> dict[str, float]:
    """Per objective: what the user gave, its budget, 0 for a maximized score, or the worst of the first complete
    trials plus a margin. Empty until there are enough of them; stored once, so that volumes stay comparable."""
    done = completed(trials, spec)
    if len(done) < min(REFERENCE_TRIALS, spec.max_quality or spec.max_trials):
        return {}
    point = {}
    for objective in spec.objectives:
        column = [trial.values[objective.metric] for trial in done]
        spread = (max(column) - min(column)) or abs(max(column)) or 1.0
        if objective.reference is not None or objective.budget is not None:
            given = objective.reference if objective.reference is not None else objective.budget
            point[objective.metric] = float(given if given is not None else 0.0)
        elif objective.direction == "max":
            score = parse_metric(objective.metric)[0].source == "quality"
            point[objective.metric] = 0.0 if score else min(column) - REFERENCE_MARGIN * spread
        else:
            point[objective.metric] = max(column) + REFERENCE_MARGIN * spread
    return point


def hypervolume_of(trials: list[TrialRecord], spec: StudySpec, reference_point: dict[str, float]) -> float | None:
    """Volume inside the stored reference point, None while there is none."""
    if not reference_point:
        return None
    reference = [reference_point[key] for key in keys_of(spec)]
    return hypervolume(points_of(completed(trials, spec), spec), reference, directions_of(spec))


def worth_judging(
    trials: list[TrialRecord], spec: StudySpec
) -> tuple[list[TrialRecord], list[tuple[TrialRecord, str]]]:
    """Measured candidates worth training, most promising first, and those beaten even at their optimistic quality."""
    done = completed(trials, spec)
    judged = [(ArchConfig.from_dict(t.arch), t.quality.score) for t in trials if t.quality is not None]
    rivals = as_losses(points_of(done, spec), directions_of(spec))
    open_trials, points, beaten = [], [], []
    for trial in (t for t in trials if t.state in (TrialState.MEASURED, TrialState.DOMINATED)):
        bound = optimistic_quality(ArchConfig.from_dict(trial.arch), judged)
        values = {**known_values(trial), "quality": bound}
        point = [values[key] for key in keys_of(spec)]
        winner = _first_dominating(as_losses([point], directions_of(spec))[0], rivals)
        if winner is None:
            open_trials.append(trial)
            points.append(point)
        elif trial.state is TrialState.MEASURED:
            beaten.append((trial, f"dominated by candidate {done[winner].number} even at quality {bound:.3f}"))
    ranks = non_domination_rank(points, directions_of(spec)) if points else np.array([], dtype=np.int64)
    order = sorted(range(len(open_trials)), key=lambda i: (ranks[i], open_trials[i].number))
    return [open_trials[i] for i in order], beaten


def _first_dominating(losses: np.ndarray, rivals: np.ndarray) -> int | None:
    if not len(rivals):
        return None
    beats = np.all(rivals <= losses, axis=1) & np.any(rivals < losses, axis=1)
    return int(np.argmax(beats)) if beats.any() else None
