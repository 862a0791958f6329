"""A measured number with its 95 % interval, and whether two of them differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas.contracts.errors import InvalidConfig

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


def ratio(
    name: str, rows: Sequence[float], weights: Sequence[float], better: Better, note: str = "", seed: int = 0
) -> Metric:
    """sum(rows) / sum(weights) with a percentile bootstrap over rows."""
    _some(name, rows)
    above, below = np.asarray(rows, np.float64), np.asarray(weights, np.float64)
    drawn = _drawn(len(above), seed)
    low, high = np.percentile(above[drawn].sum(1) / below[drawn].sum(1), (2.5, 97.5))
    kept = tuple(map(float, above)), tuple(map(float, below))
    return Metric(name, float(above.sum() / below.sum()), float(low), float(high), len(above), better, note, *kept)


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
        drawn = _drawn(len(rows), seed)
        low, high = np.percentile(rows[drawn].sum(1) / weights[drawn].sum(1), (2.5, 97.5))
        return Difference(gained, float(low), float(high), True)
    low = gained - math.hypot(after.value - after.low, before.high - before.value)
    high = gained + math.hypot(after.high - after.value, before.value - before.low)
    return Difference(gained, low, high, False)


def _drawn(n: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, n, (DRAWS, n))


def _some(name: str, rows: Sequence[float]) -> None:
    if not rows:
        raise InvalidConfig(f"{name} has no rows to measure; give a larger count or more held-out text")
