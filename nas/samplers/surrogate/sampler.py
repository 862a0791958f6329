"""``surrogate`` as an Optuna sampler: models of every metric from what trials carry, then the candidate with the
largest expected hypervolume improvement under the probability of meeting the budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from nas.front import REFERENCE_MARGIN, REFERENCE_TRIALS
from nas.pareto import pareto_mask
from nas.samplers.facts import BLOCK_TIMES, DEVIATIONS, EARLIER, METRICS
from nas.samplers.surrogate.acquisition import expected_improvement, probability_below, spread_out
from nas.samplers.surrogate.metric_models import Axis, MetricModels
from nas.samplers.surrogate.structure import Floats, Ints, Structure

POOL, ROUNDS, ELITE = 2048, 2, 64  # candidates of a round, rounds, and those that the next round starts from
MAX_LISTED = 100_000  # of a longer list as many at random
CHUNK = 8192  # candidates that are scored at once: 16 MiB against the rows of a process
TRIES = 256  # of the best candidates, for spaces whose rules are not known to the arrays


class SurrogateSampler(BaseSampler):
    """Proposes for ``axes`` (objectives in order, then budgets). ``startup`` complete trials are spread over the space
    before models decide. A trial counts for every metric that it carries, whatever became of it."""

    def __init__(
        self, structure: Structure, axes: Sequence[Axis], models: MetricModels, seed: int, startup: int
    ) -> None:
        self._structure, self._axes, self._models, self._startup = structure, list(axes), models, startup
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {name: CategoricalDistribution(labels) for name, labels in self._structure.labels.items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        known = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number and one.params]
        known.sort(key=lambda one: EARLIER in one.user_attrs)
        rows = self._structure.rows(one.params for one in known)
        facts = [_facts(one, study, self._axes) for one in known]
        own = sum(EARLIER not in one.user_attrs for one in known)
        with _blas().limit(limits=1, user_api="blas"):
            chosen = self._chosen(rows, facts, known, own)
        return dict(self._structure.assignment(chosen))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        assert isinstance(param_distribution, CategoricalDistribution)
        return param_distribution.choices[int(self._rng.integers(len(param_distribution.choices)))]

    # --- choice -------------------------------------------------------------------------------------------------------

    def _chosen(self, rows: Ints, facts: list[dict[str, Any]], known: list[FrozenTrial], own: int) -> Ints:
        """The first ``own`` rows are this study's; those of others teach the models, and may be proposed again."""
        seen = {row.tobytes() for row in self._structure.canonical(rows[:own])} if own else set()
        self._models.fit(rows, facts)
        objectives = [axis for axis in self._axes if axis.is_objective]
        complete = [all(axis.key in fact[METRICS] for axis in objectives) for fact in facts]
        if sum(complete) < self._startup:
            return self._from_design(rows, seen)
        losses = self._reached(rows, facts, known, objectives)
        return self._from_models(rows, losses, own, seen, objectives)

    def _from_design(self, rows: Ints, seen: set[bytes]) -> Ints:
        """Far from all known candidates in counts of blocks, among those that meet the budgets as far as is known."""
        count = POOL // 2 if self._structure.listed is None else MAX_LISTED
        pool = self._fresh(self._structure.random(count, self._rng), seen)
        if not len(pool):
            return self._structure.random(1, self._rng)[0]
        pool = pool[:512]
        allowed = self._allowed(pool)
        known = self._structure.blocks(rows)
        while len(pool) > 1:
            best = spread_out(self._structure.blocks(pool), known, np.maximum(allowed, 1e-6))
            if self._is_candidate(pool[best]):
                return pool[best]
            pool, allowed = np.delete(pool, best, 0), np.delete(allowed, best)
        return pool[0]

    def _from_models(
        self, rows: Ints, losses: Floats, own: int, seen: set[bytes], objectives: list[Axis]
    ) -> Ints:
        feasible = self._models.known_feasible(rows, self._axes)
        reference, scale = _reference(losses, losses[feasible], objectives)
        front = losses[:own][feasible[:own]] / scale

        def score(pool: Ints) -> Floats:
            """While nothing that is known meets the budgets, the probability of meeting them alone."""
            if not feasible.any():
                return self._allowed(pool)
            return self._gain(pool, front, reference / scale, scale, objectives)

        if self._structure.listed is not None:
            pool = self._fresh(self._structure.random(MAX_LISTED, self._rng), seen)
            best = np.argsort(-score(pool), kind="stable")[:TRIES]
        else:
            pool = self._improved(rows[_best_first(losses, feasible)][:ELITE], seen, score)
            best = np.arange(min(TRIES, len(pool)))
        for row in pool[best]:
            if self._is_candidate(row):
                return row
        return self._from_design(rows, seen)

    def _improved(self, parents: Ints, seen: set[bytes], score: Callable[[Ints], Floats]) -> Ints:
        """New candidates, best first: random ones, and neighbours and crossings of ``parents``, then of the best."""
        pool, gains = parents[:0], np.zeros(0)
        for _ in range(ROUNDS):
            fresh = np.concatenate((
                parents, self._structure.random(POOL // 4, self._rng),
                self._structure.mutated(parents, POOL // 2, self._rng),
                self._structure.crossed(parents, POOL // 4, self._rng),
            ))  # fmt: skip
            fresh = self._fresh(fresh, seen | {row.tobytes() for row in pool})
            pool, gains = np.concatenate((pool, fresh)), np.concatenate((gains, score(fresh)))
            order = np.argsort(-gains, kind="stable")
            pool, gains = pool[order][: 4 * ELITE], gains[order][: 4 * ELITE]
            parents = pool[:ELITE] if len(pool) else parents
        return pool

    def _gain(
        self, pool: Ints, front: Floats, reference: Floats, scale: Floats, objectives: list[Axis]
    ) -> Floats:
        """Expected improvement times the probability of meeting all budgets."""
        if len(pool) > CHUNK:
            parts = [pool[at : at + CHUNK] for at in range(0, len(pool), CHUNK)]
            return np.concatenate([self._gain(part, front, reference, scale, objectives) for part in parts])
        if not len(pool):
            return np.zeros(0)
        means, deviations = self._models.losses(pool, objectives)
        gain = expected_improvement(means / scale, np.maximum(deviations / scale, 1e-9), front, reference)
        return gain * self._allowed(pool)

    def _allowed(self, pool: Ints) -> Floats:
        """Probability [N] that a candidate meets every budget; a budget on an unknown metric counts as met."""
        found = np.ones(len(pool))
        for axis in self._axes:
            predicted = self._models.predict(axis.key, pool) if axis.bound is not None else None
            if predicted is not None:
                assert axis.bound is not None
                sign = axis.sign
                found *= probability_below(sign * predicted[0], predicted[1], sign * axis.bound)
        return found

    def _reached(
        self, rows: Ints, facts: list[dict[str, Any]], known: list[FrozenTrial], objectives: list[Axis]
    ) -> Floats:
        """Losses [N, M] of all known candidates: measured where known, else predicted. One that is still being measured
        or judged counts as what it is expected to reach, so that a batch of proposals spreads out."""
        found = np.array([[axis.sign * fact[METRICS].get(axis.key, np.nan) for axis in objectives] for fact in facts])
        lacking = np.flatnonzero(np.isnan(found).any(axis=1))
        expected, _ = self._models.losses(rows[lacking], objectives)
        for at, means in zip(lacking, expected, strict=True):
            runs = known[at].state is TrialState.RUNNING
            found[at] = np.where(np.isnan(found[at]), means if runs else np.inf, found[at])  # or it failed before
        return found

    def _fresh(self, pool: Ints, seen: set[bytes]) -> Ints:
        """Rows that are not known, each once, in any order: the first of equal ones is not the first choice."""
        pool = self._rng.permutation(np.unique(self._structure.canonical(pool), axis=0))
        return pool[[row.tobytes() not in seen for row in pool]] if len(pool) else pool

    def _is_candidate(self, row: Ints) -> bool:
        return not self._structure.space.shortfall(self._structure.assignment(row))


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    """Matrices here are small. Where other processes use the cores too, threads that wait for each other made a
    decomposition of 256 rows take 400 ms instead of 1."""
    return ThreadpoolController()


def _facts(trial: FrozenTrial, study: Study, axes: Sequence[Axis]) -> dict[str, Any]:
    """Metrics of a trial: those that it carries, and its values under the names of the objectives."""
    metrics = dict(trial.user_attrs.get(METRICS, {}))
    if trial.state is TrialState.COMPLETE and trial.values is not None:
        objectives = [axis.key for axis in axes if axis.is_objective]
        metrics |= {key: value for key, value in zip(objectives, trial.values, strict=False) if np.isfinite(value)}
    return {METRICS: metrics, **{key: trial.user_attrs.get(key, {}) for key in (DEVIATIONS, BLOCK_TIMES)}}


def _reference(losses: Floats, usable: Floats, objectives: Sequence[Axis]) -> tuple[Floats, Floats]:
    """The reference point as the study has it: what the user gave, else a little worse than the worst of the first
    candidates that meet the budgets. And the range of each axis."""
    points = usable[np.all(np.isfinite(usable), axis=1)]
    points = points if len(points) else losses[np.all(np.isfinite(losses), axis=1)]
    if not len(points):
        return np.ones(losses.shape[1]), np.ones(losses.shape[1])
    span = _span(points)
    first = points[:REFERENCE_TRIALS]
    worst = first.max(0) + REFERENCE_MARGIN * _span(first)
    given = np.array([np.nan if axis.reference is None else axis.sign * axis.reference for axis in objectives])
    return np.where(np.isnan(given), worst, given), span


def _span(points: Floats) -> Floats:
    low, high = points.min(0), points.max(0)
    return np.where(high > low, high - low, np.maximum(np.abs(high), 1e-12))


def _best_first(losses: Floats, feasible: Any) -> list[int]:
    """The best rows, front after front until there are enough; feasible ones first."""
    finite = np.where(np.isfinite(losses), losses, 1e300)
    found: list[int] = []
    left = np.flatnonzero(feasible)
    left = left if len(left) else np.arange(len(losses))
    while left.size and len(found) < ELITE:
        front = pareto_mask(finite[left], ["min"] * losses.shape[1])
        found += left[front].tolist()
        left = left[~front]
    return found
