"""A study's front as the API shows it. ``nas.front`` decides what is on it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from contracts.measurement import Estimate
from contracts.metrics import MetricKey
from contracts.study import StoredMeasurement, StudyRecord
from nas.feasibility import Miss, nearest_misses
from nas.front import front_of
from nas.objectives import known_values
from server.studies.schemas import BrokenBudget, Front, FrontMember, NearestMiss
from server.trials.schemas import TrialView


def view_of(
    study: StudyRecord, trials: Sequence[TrialView], target: str | None = None, rejected: Sequence[TrialView] = ()
) -> Front:
    """The joint front, or one target's, and the nearest misses among ``rejected``. Raises InvalidConfig for a target
    the study does not have."""
    front = front_of(trials, study.spec, target)
    return Front(
        study_id=study.id,
        target=target,
        objectives=front.keys,
        directions=front.directions,
        reference_point=front.project(study.reference_point),
        hypervolume=front.hypervolume(study.reference_point),
        members=[_member(trial, front.keys, trial is front.knee) for trial in front.members],
        nearest_misses=[_miss(miss) for miss in nearest_misses(rejected, study.spec)],
    )


def _member(trial: TrialView, keys: Sequence[str], knee: bool) -> FrontMember:
    values = known_values(trial) | trial.values
    estimates = {key: _estimate(trial, key, values[key]) for key in keys}
    rows = list(trial.confirmed.values())
    return FrontMember(
        trial_id=trial.id, number=trial.number, name=_name(trial), knee=knee,
        values=trial.values | {key: values[key] for key in keys},
        estimates={key: estimate for key, estimate in estimates.items() if estimate is not None},
        confirmed=_by_target(rows, "metrics"), beside=_by_target(rows, "beside"),
        confirmed_verdicts={row.key: row.verdict for row in rows}, final_quality=trial.final_quality,
        program_quality=trial.program_quality, costs=trial.costs, arch=trial.arch,
        arch_digest=trial.arch_digest, artifacts=trial.artifacts,
    )  # fmt: skip


def _miss(miss: Miss[TrialView]) -> NearestMiss:
    trial = miss.trial
    return NearestMiss(
        trial_id=trial.id, number=trial.number, name=_name(trial), layout=_layout(trial.arch), arch=trial.arch,
        broken=[BrokenBudget(key=b.key, value=b.value, bound=b.bound, percent=b.percent) for b in miss.broken],
    )  # fmt: skip


def _layout(arch: dict[str, Any]) -> str:
    """As ``ArchConfig.layout``, also of an architecture whose plugin is not loaded."""
    runs = [(kind, len(list(run))) for kind, run in groupby(layer["mixer"]["kind"] for layer in arch["layers"])]
    return ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in runs)


def _name(trial: TrialView) -> str:
    name = trial.sampler_attrs.get("name", "")
    return name if isinstance(name, str) else ""


def _estimate(trial: TrialView, key: str, value: float) -> Estimate | None:
    """The measured interval whose median is the trial's value (with several devices: that of the decisive one)."""
    metric, quality = MetricKey.parse(key), trial.quality
    if quality is not None and quality.metric == key:
        return Estimate(median=quality.score, low=quality.low, high=quality.high, unit=metric.metric.unit,
                        num_samples=max(1, len(quality.seeds)))  # fmt: skip
    rows = [row for row in trial.measurements.values() if not metric.target or row.target == metric.target]
    found = [row.metrics[metric.base] for row in rows if metric.base in row.metrics]
    return min(found, key=lambda estimate: abs(estimate.median - value), default=None)


def _by_target(rows: Sequence[StoredMeasurement], field: str) -> dict[str, Estimate]:
    """Metrics of the first row, and those of every target under its name."""
    found: dict[str, Estimate] = {}
    for row in rows:
        for key, estimate in getattr(row, field).items():
            found.setdefault(key, estimate)
            if row.target:
                found.setdefault(f"{key}:{row.target}", estimate)
    return found
