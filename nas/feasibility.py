"""Budgets that no candidate can meet: found before a search if they have a closed form, after it if they are
measured."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from contracts.metrics import parse_metric
from contracts.states import TrialState
from contracts.study import StudySpec, TrialFacts
from nas.objectives import known_values
from search_space.arch import ArchConfig
from search_space.cost import closed_form
from search_space.space import SearchSpace
from search_space.space.counting import extreme


def impossible_budget(spec: StudySpec, space: SearchSpace) -> str:
    """The reason if even the smallest candidate of the space breaks a closed-form budget, else an empty string."""
    for key, bound in spec.all_budgets.items():
        metric, context = parse_metric(key)
        if metric.source != "closed_form" or metric.name == "embedding_share":
            continue
        best = extreme(space, partial(_cost, spec, metric.name, context), "min")
        if best > bound:
            return (
                f"no candidate of {space.name} can meet {key} <= {bound:.6g} {metric.unit}: the smallest has {best:.6g}"
            )
    return ""


def nothing_feasible(trials: Sequence[TrialFacts], spec: StudySpec) -> str:
    """The reason, with the best value seen, if every evaluated candidate broke a budget, else an empty string."""
    kept = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.MEASURED, TrialState.DOMINATED)]
    rejected = [t for t in trials if t.state in (TrialState.INFEASIBLE, TrialState.GATED)]
    if kept or not rejected:
        return ""
    for key, bound in spec.all_budgets.items():
        metric, _ = parse_metric(key)
        seen = [values[key] for values in map(known_values, rejected) if key in values]
        best = (min if metric.direction == "min" else max)(seen, default=None)
        if best is not None and (best > bound if metric.direction == "min" else best < bound):
            return (
                f"none of {len(rejected)} candidates met the budget {key} {bound:.6g} {metric.unit}: "
                f"the best had {best:.6g}"
            )
    return f"none of {len(rejected)} candidates met all budgets together"


def _cost(spec: StudySpec, name: str, context: int | None, arch: ArchConfig) -> float:
    return closed_form(arch, name, context, spec.quantization, spec.cache_dtype)
