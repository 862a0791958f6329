"""Which of two models is faster, from the cold runs of rows. The same code checks what others send in."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import median

from contracts.comparison import ComparedRow, Pair
from contracts.measurement import Verdict
from device_agents.statistics import probability_lower, ratio_interval


def pairs_of(rows: Sequence[ComparedRow], metrics: Sequence[str]) -> list[Pair]:
    """Of every two valid rows of one session, for each metric that both have in two rounds or more."""
    valid = [row for row in rows if row.verdict is Verdict.VALID]
    found = [pair_of(a, b, metric) for metric in metrics for a, b in combinations(valid, 2)]
    return [pair for pair in found if pair is not None]


def pair_of(a: ComparedRow, b: ComparedRow, metric: str) -> Pair | None:
    """None where nothing can be said: other sessions (what drifted between them looks like a difference of models),
    fewer than two rounds in which both ran undisturbed, or a run that took no time."""
    common = [turn for turn in a.rounds if turn in b.rounds]
    if a.session != b.session or len(common) < 2 or metric not in a.samples or metric not in b.samples:
        return None
    runs_a, runs_b = ([row.samples[metric][row.rounds.index(turn)] for turn in common] for row in (a, b))
    if any(median(run) <= 0 for run in (*runs_a, *runs_b)):
        return None
    ratio = ratio_interval(runs_a, runs_b)
    return Pair(
        metric=metric, first=a.name, second=b.name, probability=probability_lower(runs_a, runs_b), ratio=ratio.value,
        low=ratio.low, high=ratio.high, num_rounds=len(common),
    )  # fmt: skip


def turned(pair: Pair) -> Pair:
    """The same with its models exchanged."""
    return pair.model_copy(
        update={
            "first": pair.second, "second": pair.first, "probability": 1 - pair.probability, "ratio": 1 / pair.ratio,
            "low": 1 / pair.high, "high": 1 / pair.low,
        }
    )  # fmt: skip


def faster_first(pair: Pair) -> Pair:
    return pair if pair.probability >= 0.5 else turned(pair)


def against(pairs: Sequence[Pair], name: str, baseline: str, metric: str) -> Pair | None:
    """``name`` over ``baseline``."""
    for pair in (one for one in pairs if one.metric == metric):
        if (pair.first, pair.second) == (name, baseline):
            return pair
        if (pair.first, pair.second) == (baseline, name):
            return turned(pair)
    return None
