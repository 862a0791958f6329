"""Budgets that no candidate can meet: found before a search if they have a closed form, after it if they are
measured; and the candidates that missed them least."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from contracts.metrics import parse_metric
from contracts.states import TrialState
from contracts.study import StudySpec, TrialFacts
from nas.objectives import excess, known_values
from search_space.arch import ArchConfig
from search_space.cost import closed_form
from search_space.space import SearchSpace
from search_space.space.counting import extreme

Trial = TypeVar("Trial", bound=TrialFacts)


def impossible_budget(spec: StudySpec, space: SearchSpace) -> str:
    """The reason if even the smallest candidate of the space breaks a closed-form budget, else an empty string."""
    for key, bound in spec.all_budgets.items():
        metric, context = parse_metric(key)
        if metric.source != "closed_form" or metric.name == "embedding_share":
            continue
        direction = spec.direction_of(key)
        best = extreme(space, partial(_cost, spec, metric.name, context), "max" if direction == "max" else "min")
        if excess(best, bound, direction) > 0:
            sign, which = (">=", "largest") if direction == "max" else ("<=", "smallest")
            return (
                f"no candidate of {space.name} can meet {key} {sign} {bound:.6g} {metric.unit}:"
                f" the {which} has {best:.6g}"
            )
    return ""


KEPT = (TrialState.COMPLETE, TrialState.MEASURED, TrialState.DOMINATED, TrialState.JUDGING)
REJECTED = (TrialState.INFEASIBLE, TrialState.GATED)
NEAREST = 3


@dataclass(frozen=True)
class Broken:
    """A budget that a candidate breaks, in the metric's unit; ``percent`` of the bound that it is over, or under where
    more is better."""

    key: str
    value: float
    bound: float

    @property
    def percent(self) -> float:
        """Of a bound of 0, percent of 1."""
        return 100 * abs(self.value - self.bound) / (abs(self.bound) or 1.0)

    @property
    def sentence(self) -> str:
        metric, _ = parse_metric(self.key)
        side = "over" if self.value > self.bound else "under"
        percent = f"{self.percent:,.0f}" if self.percent >= 1000 else f"{self.percent:.3g}"
        return f"{self.key} {self.value:.6g} {metric.unit}, {percent} % {side} {self.bound:.6g}"


@dataclass(frozen=True)
class Miss(Generic[Trial]):
    """A rejected candidate and the budgets that it is known to break, worst first."""

    trial: Trial
    broken: tuple[Broken, ...]


def nearest_misses(trials: Iterable[Trial], spec: StudySpec, most: int = NEAREST) -> list[Miss[Trial]]:
    """The rejected candidates whose worst excess over a budget is least, nearest first. Empty where a candidate meets
    the budgets as far as is known."""
    found = []
    for trial in trials:
        if trial.state in KEPT:
            return []
        if trial.state in REJECTED and (broken := broken_budgets(trial, spec)):
            found.append(Miss(trial, tuple(broken)))
    return heapq.nsmallest(most, found, key=lambda miss: (miss.broken[0].percent, miss.trial.number))


def broken_budgets(trial: TrialFacts, spec: StudySpec) -> list[Broken]:
    """Those that are known to be broken, worst first."""
    values = known_values(trial)
    found = []
    for key, bound in spec.all_budgets.items():
        if key in values and excess(values[key], bound, spec.direction_of(key)) > 0:
            found.append(Broken(key, values[key], bound))
    return sorted(found, key=lambda one: -one.percent)


def nothing_feasible(trials: Sequence[TrialFacts], spec: StudySpec) -> str:
    """The reason, with the best value seen and the nearest misses, if every evaluated candidate broke a budget, else an
    empty string."""
    rejected = [trial for trial in trials if trial.state in REJECTED]
    if not rejected or any(trial.state in KEPT for trial in trials):
        return ""
    misses = "; ".join(
        f"candidate {miss.trial.number}: {' and '.join(one.sentence for one in miss.broken)}"
        for miss in nearest_misses(rejected, spec)
    )
    return _hardest(rejected, spec) + (f"; nearest: {misses}" if misses else "")


def _hardest(rejected: Sequence[TrialFacts], spec: StudySpec) -> str:
    """The first budget that no candidate met with its best value, else that only all together were too much."""
    for key, bound in spec.all_budgets.items():
        metric, direction = parse_metric(key)[0], spec.direction_of(key)
        seen = [values[key] for values in map(known_values, rejected) if key in values]
        best = (max if direction == "max" else min)(seen, default=None)
        if best is not None and excess(best, bound, direction) > 0:
            return (
                f"none of {len(rejected)} candidates met the budget {key} {bound:.6g} {metric.unit}: "
                f"the best had {best:.6g}"
            )
    return f"none of {len(rejected)} candidates met all budgets together"


def _cost(spec: StudySpec, name: str, context: int | None, arch: ArchConfig) -> float:
    return closed_form(arch, name, context, spec.quantization, spec.cache_dtype)
