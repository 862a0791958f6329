"""A measured number with its 95 % interval, and whether two of them differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from foundation.errors import InvalidConfig

Z = 1.959964  # 97.5 % of the normal distribution
DRAWS = 2000
Better = Literal["low", "high"]


@dataclass(frozen=True)
class Metric:
    """``rows`` and ``weights`` are kept so that two models that read the same rows can be compared row by row: the
    value is sum(rows) / sum(weights)."""

    name: str
    value: float
    low: float
    high: float
    n: int
    better: Better
    note: str = ""
    rows: tuple[float, ...] = field(default=(), repr=False)
    weights: tuple[float, ...] = field(default=(), repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Without the rows."""
        shown = {key: round(getattr(self, key), 6) for key in ("value", "low", "high")}
        return {**shown, "n": self.n, "better": self.better, **({"note": self.note} if self.note else {})}


def score(name: str, scores: Sequence[float], note: str = "") -> Metric:
    """Mean of scores from 0 to 1 with Wilson's interval, which is on the wide side for scores in between."""
    _some(name, scores)
    low, high = wilson(math.fsum(scores), len(scores))
    return Metric(name, math.fsum(scores) / len(scores), low, high, len(scores), "high", note)


def share(name: str, hits: Sequence[float], better: Better) -> Metric:
    """Share of rows that are 1, with Wilson's interval; rows are kept, so that two models compare row by row."""
    _some(name, hits)
    low, high = wilson(math.fsum(hits), len(hits))
    return Metric(name, math.fsum(hits) / len(hits), low, high, len(hits), better, "", tuple(hits), (1.0,) * len(hits))


def ratio(
    name: str, rows: Sequence[float], weights: Sequence[float], better: Better, note: str = "", seed: int = 0
) -> Metric:
    """sum(rows) / sum(weights) with a bootstrap over rows; of a single row there is no interval."""
    _some(name, rows)
    above, below = np.asarray(rows, np.float64), np.asarray(weights, np.float64)
    value, (low, high) = float(above.sum() / below.sum()), _bootstrap(above, below, seed)
    kept = tuple(map(float, above)), tuple(map(float, below))
    if len(rows) == 1:
        note = "; ".join(text for text in (note, "one row: no interval") if text)
        low = high = value
    return Metric(name, value, low, high, len(above), better, note, *kept)


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's score interval (1927) at 95 %."""
    share, square = successes / n, Z * Z
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = Z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Difference:
    """After minus before; ``certain`` when its interval leaves out 0."""

    value: float
    low: float
    high: float
    paired: bool

    @property
    def certain(self) -> bool:
        return self.low > 0 or self.high < 0


def difference(before: Metric, after: Metric, seed: int = 0) -> Difference:
    """Row by row where both read the same rows, else Newcombe's square and add (1998) of the two intervals."""
    gained = after.value - before.value
    if len(before.rows) > 1 and before.weights == after.weights:
        rows, weights = np.asarray(after.rows) - np.asarray(before.rows), np.asarray(after.weights)
        return Difference(gained, *_bootstrap(rows, weights, seed), True)
    if before.low == before.high or after.low == after.high:  # one of them has no interval
        return Difference(gained, -math.inf, math.inf, False)
    low = gained - math.hypot(after.value - after.low, before.high - before.value)
    high = gained + math.hypot(after.high - after.value, before.value - before.low)
    return Difference(gained, low, high, False)


def _bootstrap(rows: NDArray[np.float64], weights: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Percentiles of redrawn ratios, widened as Student's t is against the normal: few rows alone look too certain."""
    n = len(rows)
    if n < 2:
        return -math.inf, math.inf
    drawn = np.random.default_rng(seed).integers(0, n, (DRAWS, n))
    low, high = np.percentile(rows[drawn].sum(1) / weights[drawn].sum(1), (2.5, 97.5))
    value = rows.sum() / weights.sum()
    wider = float(stats.t.ppf(0.975, n - 1)) / Z * math.sqrt(n / (n - 1))
    return float(value - wider * (value - low)), float(value + wider * (high - value))


def _some(name: str, rows: Sequence[float]) -> None:
    if not rows:
        raise InvalidConfig(f"{name} has no rows to measure; give a larger count or more held-out text")
