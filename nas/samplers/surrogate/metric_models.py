"""One model per metric of a study: exact for closed forms, additive for what devices measure (with the times of blocks
where there are any), a process for quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas.samplers.facts import BLOCK_TIMES, DEVIATIONS, METRICS
from nas.samplers.surrogate.chain import ChainModel
from nas.samplers.surrogate.models import MAX_ROWS, AdditiveModel, Model, WarpedProcess
from nas.samplers.surrogate.structure import Floats, Ints, Structure
from search_space.arch import ArchConfig

DESIGN = 192  # random candidates whose closed-form costs are computed once
LISTED_DESIGN = 4096  # the same of a list, where a block may be rare
MIN_ROWS = 3
MAX_TIMED = 256  # rows with block times, the latest: more add nothing that these do not determine


@dataclass(frozen=True)
class Axis:
    """An objective, a budget, or both. ``sign`` is -1 where more is better; ``rate`` where the metric is a speed, whose
    reciprocal adds up over blocks; ``reference`` is what the user gave of the hypervolume's reference point."""

    key: str
    source: Literal["closed_form", "device", "quality"]
    sign: float = 1.0
    is_objective: bool = True
    bound: float | None = None
    rate: bool = False
    reference: float | None = None


def closed_form_model(structure: Structure, cost: Callable[[ArchConfig], float]) -> AdditiveModel:
    """Exact for a cost that adds up over blocks; fitted to random candidates, rules aside."""
    count = DESIGN if structure.listed is None else LISTED_DESIGN
    rows = structure.canonical(structure.random(count, np.random.default_rng(0)))
    costs = [cost(structure.space.relaxed(structure.assignment(row))[0]) for row in rows]
    return AdditiveModel.fit(structure.blocks(rows), np.array(costs))


class MetricModels:
    """Made for each proposal and fitted to what is known; the models of closed forms (``exact``) come with it."""

    def __init__(self, structure: Structure, axes: Sequence[Axis], exact: Mapping[str, Model]) -> None:
        self._structure, self._axes, self._exact = structure, {axis.key: axis for axis in axes}, exact
        self._models: dict[str, Model] = {}
        self._facts: list[dict[str, Any]] = []

    def fit(self, rows: Ints, facts: list[dict[str, Any]]) -> None:
        self._facts, self._models = facts, dict(self._exact)
        for key, axis in self._axes.items():
            at = [i for i, fact in enumerate(facts) if np.isfinite(fact[METRICS].get(key, np.nan))]
            if axis.source == "closed_form" or len(at) < MIN_ROWS:
                continue
            at = at[:: -(-len(at) // MAX_ROWS)] if axis.source == "quality" else at
            self._models[key] = self._fitted(axis, rows[at], [facts[i] for i in at])

    def _fitted(self, axis: Axis, rows: Ints, facts: list[dict[str, Any]]) -> Model:
        y = np.array([fact[METRICS][axis.key] for fact in facts], dtype=np.float64)
        deviations = np.array([fact[DEVIATIONS].get(axis.key, 0.0) for fact in facts], dtype=np.float64)
        blocks = self._structure.blocks(rows)
        if axis.source == "quality":
            return WarpedProcess.fit(blocks, self._structure.positions(rows), y, deviations, axis.sign)
        if axis.rate:
            deviations, y = deviations / y**2, 1.0 / y
        times = [fact.get(BLOCK_TIMES, {}).get(axis.key, {}) for fact in facts]
        if any(times):
            recent = slice(-MAX_TIMED, None)
            timed = self._structure.timed(rows[recent], times[recent])
            return ChainModel.fit(blocks[recent], y[recent], deviations[recent], timed, self._structure.num_kinds)
        return AdditiveModel.fit(blocks, y, deviations)

    def predict(self, key: str, rows: Ints) -> tuple[Floats, Floats] | None:
        """Mean and deviation [N] in the metric's unit; None while too little is known."""
        model = self._models.get(key)
        if model is None:
            return None
        mean, deviation = model.predict(self._structure.blocks(rows), self._structure.positions(rows))
        if self._axes[key].rate:
            mean = np.maximum(mean, 1e-12)
            return 1.0 / mean, deviation / mean**2
        return mean, deviation

    def losses(self, rows: Ints, objectives: Sequence[Axis]) -> tuple[Floats, Floats]:
        """Means and deviations [N, M], less is better."""
        found = [self.predict(axis.key, rows) or (np.zeros(len(rows)), np.ones(len(rows))) for axis in objectives]
        means = np.stack([axis.sign * mean for axis, (mean, _) in zip(objectives, found, strict=True)], axis=1)
        return means, np.stack([deviation for _, deviation in found], axis=1)

    def known_feasible(self, rows: Ints, axes: Sequence[Axis]) -> NDArray[np.bool_]:
        """[N] whether a candidate meets all budgets, by what was measured, else by what is predicted."""
        found = np.ones(len(rows), dtype=bool)
        for axis in (axis for axis in axes if axis.bound is not None):
            predicted = self.predict(axis.key, rows)
            values = np.zeros(len(rows)) - np.inf if predicted is None else axis.sign * predicted[0]
            for at, fact in enumerate(self._facts):
                if axis.key in fact[METRICS]:
                    values[at] = axis.sign * fact[METRICS][axis.key]
            found &= values <= axis.sign * float(axis.bound or 0.0)
        return found
