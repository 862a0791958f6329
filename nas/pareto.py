"""Pareto dominance, the front and its knee. Points are rows [n, m]; ``directions`` says min or max per column."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def as_losses(points: Sequence[Sequence[float]] | Array, directions: Sequence[str]) -> Array:
    """Columns to be maximized change sign, so that less is better everywhere."""
    losses = np.asarray(points, dtype=np.float64).reshape(-1, len(directions)).copy()
    losses[:, [direction == "max" for direction in directions]] *= -1.0
    return losses


def dominates(a: Array, b: Array) -> bool:
    """True when loss vector ``a`` is nowhere worse than ``b`` and somewhere better."""
    return bool(np.all(a <= b) and np.any(a < b))


def pareto_mask(points: Sequence[Sequence[float]] | Array, directions: Sequence[str]) -> NDArray[np.bool_]:
    """True on the rows no other row dominates; equal rows are kept together, rows with NaN never."""
    losses = as_losses(points, directions)
    left = np.lexsort(losses.T[::-1])  # not by sums: those are equal for rows that differ, beside 1e16 or infinity
    left = left[~np.isnan(losses[left]).any(axis=1)]
    kept = np.zeros(len(losses), dtype=bool)
    while left.size:  # the first of the rest is beaten by none of them: one pass for each row of the front
        best = losses[left[0]]
        equal = np.all(losses[left] == best, axis=1)
        kept[left[equal]] = True
        left = left[np.any(losses[left] < best, axis=1)]
    return kept


def non_domination_rank(points: Sequence[Sequence[float]] | Array, directions: Sequence[str]) -> NDArray[np.int64]:
    """0 for the front, 1 for the front of the rest, and so on; rows with NaN come last."""
    losses = as_losses(points, directions)
    ranks = np.full(len(losses), -1, dtype=np.int64)
    rank, left = 0, np.arange(len(losses))
    while left.size:
        front = pareto_mask(losses[left], ["min"] * losses.shape[1])
        front |= not front.any()  # only rows with NaN are left
        ranks[left[front]] = rank
        rank, left = rank + 1, left[~front]
    return ranks


def knee_index(points: Sequence[Sequence[float]] | Array, directions: Sequence[str]) -> int:
    """Row of the front furthest below the plane through the front's extremes, every axis scaled to 0..1 over the front
    (Das 1999 for two axes; with more, the row nearest to the ideal corner in the mean of its scaled losses)."""
    losses = as_losses(points, directions)
    front = np.flatnonzero(pareto_mask(losses, ["min"] * losses.shape[1]))
    if not front.size:
        raise ValueError("an empty set has no knee")
    low, high = losses[front].min(0), losses[front].max(0)
    scaled = (losses[front] - low) / np.where(high > low, high - low, 1.0)
    return int(front[np.argmin(scaled.mean(1))])
