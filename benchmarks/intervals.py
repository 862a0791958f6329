"""Means over seeds with 95 % intervals by Student's t. Of differences between arms of the same seed they are paired."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

SEEDS = (0, 1, 2)


def t_quantile(num_values: int) -> float:
    """Two-sided 95 % for a mean of ``num_values`` values."""
    return float(stats.t.ppf(0.975, num_values - 1))


def interval(values: ArrayLike, digits: int = 4) -> list[float] | None:
    """None for a single value: one seed says nothing about others."""
    found = np.asarray(values, np.float64)
    if len(found) < 2:
        return None
    mean, half = float(found.mean()), t_quantile(len(found)) * float(found.std(ddof=1)) / len(found) ** 0.5
    return [round(mean - half, digits), round(mean + half, digits)]


def mean_with_interval(values: ArrayLike, digits: int = 4) -> dict[str, Any]:
    return {"mean": round(float(np.asarray(values, np.float64).mean()), digits), "interval": interval(values, digits)}


def excludes_zero(bounds: list[float] | None) -> bool:
    return bounds is not None and not bounds[0] <= 0 <= bounds[1]


def of_arm(runs: Iterable[dict[str, Any]], arm: str, key: str) -> np.ndarray:
    """One value for each seed, ordered by seed, so that two arms pair up."""
    return np.array([run[key] for run in sorted(runs, key=lambda run: run["seed"]) if run["arm"] == arm])
