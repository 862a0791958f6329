"""Exact hypervolume: the measure of what a set of points dominates inside a reference point (While et al. 2012,
WFG)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas.pareto import Array, as_losses, pareto_mask


def hypervolume(
    points: Sequence[Sequence[float]] | Array, reference_point: Sequence[float], directions: Sequence[str]
) -> float:
    """Points outside the reference point add nothing; an empty set has volume 0."""
    losses = as_losses(points, directions)
    reference = as_losses([list(reference_point)], directions)[0]
    inside = losses[np.all(losses < reference, axis=1)]
    return _volume(_front(inside), reference)


def hypervolume_improvement(
    point: Sequence[float],
    points: Sequence[Sequence[float]],
    reference_point: Sequence[float],
    directions: Sequence[str],
) -> float:
    """What ``point`` would add to the volume of ``points``."""
    joined = [*map(list, points), list(point)]
    return hypervolume(joined, reference_point, directions) - hypervolume(points, reference_point, directions)


def _front(losses: Array) -> Array:
    if not len(losses):
        return losses
    return np.unique(losses[pareto_mask(losses, ["min"] * losses.shape[1])], axis=0)


def _volume(front: Array, reference: Array) -> float:
    """Sum of exclusive volumes, worst points of the last axis first, so that the limited sets stay small."""
    if not len(front):
        return 0.0
    if front.shape[1] == 1:
        return float(reference[0] - front[:, 0].min())
    if front.shape[1] == 2:
        return _area(front, reference)
    ordered = front[np.argsort(-front[:, -1])]
    return sum(_exclusive(ordered[i], ordered[i + 1 :], reference) for i in range(len(ordered)))


def _exclusive(point: Array, others: Array, reference: Array) -> float:
    """Volume of ``point`` alone that no row of ``others`` shares."""
    own = float(np.prod(reference - point))
    limited = _front(np.maximum(others, point)) if len(others) else others
    return own - _volume(limited, reference)


def _area(front: Array, reference: Array) -> float:
    ordered = front[np.argsort(front[:, 0])]
    widths = np.append(ordered[1:, 0], reference[0]) - ordered[:, 0]
    return float(np.sum(widths * (reference[1] - ordered[:, 1])))
