"""Expected hypervolume improvement of many candidates with independent normal predictions, in closed form.

The region that the front does not dominate is cut into boxes (Optuna's decomposition); in a box the expectation is a
product over axes, E[(upper - max(y, lower))+] (Yang et al. 2019).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from optuna._hypervolume.box_decomposition import get_non_dominated_box_bounds
from scipy.special import ndtr

from nas.pareto import pareto_mask
from nas.samplers.surrogate.structure import Floats

MAX_FRONT = 64  # points of the front that are kept with more than two axes: boxes grow with its power
CHUNK = 2048


def expected_improvement(means: Floats, deviations: Floats, front: Floats, reference: Floats) -> Floats:
    """[N] from predictions [N, M] of losses, points [K, M] already reached (any, also dominated) and a reference."""
    inside = front[np.all(front < reference, axis=1)] if len(front) else front
    lower, upper = _boxes(inside, reference)
    parts = [
        _in_boxes(means[start : start + CHUNK], deviations[start : start + CHUNK], lower, upper)
        for start in range(0, len(means), CHUNK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _boxes(front: Floats, reference: Floats) -> tuple[Floats, Floats]:
    if not len(front):
        return np.full((1, len(reference)), -np.inf), reference[None]
    front = np.unique(front[pareto_mask(front, ["min"] * front.shape[1])], axis=0)
    if front.shape[1] > 2 and len(front) > MAX_FRONT:
        front = front[np.linspace(0, len(front) - 1, MAX_FRONT).astype(int)]
    if front.shape[1] == 1:
        return np.array([[-np.inf]]), front.min(0, keepdims=True)
    lower, upper = get_non_dominated_box_bounds(front, reference)
    return np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)


def _in_boxes(means: Floats, deviations: Floats, lower: Floats, upper: Floats) -> Floats:
    product = np.ones((len(means), len(lower)))
    for axis in range(means.shape[1]):
        bounds, places = np.unique(np.concatenate((lower[:, axis], upper[:, axis])), return_inverse=True)
        below = _expected_below(means[:, [axis]], deviations[:, [axis]], bounds)
        product *= below[:, places[len(lower) :]] - below[:, places[: len(lower)]]
    return product.sum(1)


def _expected_below(mean: Floats, deviation: Floats, bounds: Floats) -> Floats:
    """[N, L]: E[(bound - y)+]; 0 at minus infinity."""
    finite = np.where(np.isfinite(bounds), bounds, 0.0)
    z = (finite - mean) / deviation
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return np.where(np.isneginf(bounds), 0.0, (finite - mean) * ndtr(z) + deviation * density)


def probability_below(mean: Floats, deviation: Floats, bound: float) -> Floats:
    return ndtr((bound - mean) / deviation)


def spread_out(features: Floats, known: Floats, allowed: Sequence[float] | Floats) -> int:
    """The row furthest from all ``known`` ones on scaled ``features``, weighed by ``allowed`` (a probability)."""
    scale = features.std(0)
    used = scale > 1e-12
    if not used.any() or not len(known):
        return int(np.argmax(allowed))
    a, b = features[:, used] / scale[used], known[:, used] / scale[used]
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return int(np.argmax(np.maximum(square.min(1), 0) * np.asarray(allowed)))
