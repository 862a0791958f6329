"""Objectives of a study: reading a trial's values, its budgets, and the free gates that cost no device time."""

from __future__ import annotations

import math
from collections.abc import Mapping

from contracts.measurement import Verdict
from contracts.metrics import parse_metric
from contracts.study import StoredMeasurement, StudySpec, TrialFacts
from search_space.arch import ArchConfig
from search_space.cost import closed_form

Z_95 = 1.96


def free_costs(arch: ArchConfig, spec: StudySpec) -> dict[str, float]:
    """Closed-form metrics worth showing, and those in objectives or budgets."""
    context = max(spec_contexts(spec), default=512)
    keys = {
        "params", "effective_params", "embedding_share", "weight_bytes", f"cache_bytes@{context}",
        f"decode_bytes@{context}", f"memory_bytes@{context}",
    }  # fmt: skip
    keys |= {key for key in decisive_metrics(spec) if parse_metric(key)[0].source == "closed_form"}
    return {key: closed_form(arch, *_split(key), spec.quantization, spec.cache_dtype) for key in sorted(keys)}


def decisive_metrics(spec: StudySpec) -> set[str]:
    """Metrics in objectives or budgets of this study."""
    return {objective.metric for objective in spec.all_objectives} | set(spec.all_budgets)


def spec_contexts(spec: StudySpec) -> list[int]:
    return [context for key in decisive_metrics(spec) if (context := parse_metric(key)[1]) is not None]


def over_budget(values: dict[str, float], spec: StudySpec) -> str:
    """A message for the first budget that ``values`` break, or an empty string. Unknown metrics pass."""
    for key, bound in spec.all_budgets.items():
        if key not in values:
            continue
        if excess(values[key], bound, spec.direction_of(key)) > 0:
            unit, side = parse_metric(key)[0].unit, "over" if values[key] > bound else "under"
            return f"{key} is {values[key]:.6g} {unit}, {side} the budget of {bound:.6g} {unit}"
    return ""


def excess(value: float, bound: float, direction: str) -> float:
    """How far a value is on the wrong side of its bound, in the metric's unit; 0 and below where it keeps it."""
    return bound - value if direction == "max" else value - bound


def device_values(rows: Mapping[str, StoredMeasurement]) -> dict[str, float]:
    """Measured metrics of a trial from its valid rows: the worst of all targets, since a model must serve them all, and
    under ``metric:target`` the worst of that target alone."""
    values: dict[str, float] = {}
    for row in rows.values():
        if row.verdict is not Verdict.VALID:
            continue
        for key, estimate in row.metrics.items():
            worst = max if parse_metric(key)[0].direction == "min" else min
            for name in [key, f"{key}:{row.target}"] if row.target else [key]:
                values[name] = worst(values.get(name, estimate.median), estimate.median)
    return values


def known_values(trial: TrialFacts) -> dict[str, float]:
    """Everything known of a trial so far, by metric key; a value that is not finite is unknown."""
    values = {**trial.costs, **device_values(trial.measurements)}
    if trial.quality is not None:
        values[trial.quality.metric] = trial.quality.score
    return finite(values)


def finite(values: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in values.items() if math.isfinite(value)}


def known_deviations(trial: TrialFacts) -> dict[str, float]:
    """Standard deviations of measured metrics and of the quality, from their 95 % intervals."""
    found: dict[str, float] = {}
    for row in trial.measurements.values():
        for key, estimate in row.metrics.items() if row.verdict is Verdict.VALID else ():
            half = (estimate.high - estimate.low) / 2
            for name in [key, f"{key}:{row.target}"] if row.target else [key]:
                found[name] = max(found.get(name, 0.0), half / Z_95)
    if trial.quality is not None:
        found[trial.quality.metric] = (trial.quality.high - trial.quality.low) / 2 / Z_95
    return found


def objective_values(trial: TrialFacts, spec: StudySpec) -> dict[str, float] | None:
    """The objectives of a trial, None where one is unknown."""
    values = known_values(trial)
    keys = [objective.metric for objective in spec.all_objectives]
    return {key: values[key] for key in keys} if all(key in values for key in keys) else None


def needs_quality(spec: StudySpec) -> bool:
    return any(parse_metric(key)[0].source == "quality" for key in decisive_metrics(spec))


def _split(key: str) -> tuple[str, int | None]:
    metric, context = parse_metric(key)
    return metric.name, context
