"""An optimistic bound on a candidate's quality, fitted to the judged ones. Decides which candidates are not worth an
estimate."""

from __future__ import annotations

import math

import numpy as np

from contracts.metrics import Metric
from search_space.arch import ArchConfig
from search_space.mixers import MIXERS, Skip

MIN_JUDGED = 6
WHOLE_CONTEXT = "whole_context"
NUM_DEVIATIONS = 2.0
BEST = {"quality": 1.0, "bits_per_byte": 0.0}  # no value is better
NOISE = 0.03  # deviation of a score between seeds, measured in benchmarks/quality_separation


def features(arch: ArchConfig) -> list[float]:
    """The share of each mixer, the traits that are present, the depth of the first layer that reads the whole context,
    and the mean feed-forward width."""
    kinds = [layer.mixer.kind for layer in arch.layers]
    traits = [set(layer.mixer.traits) for layer in arch.layers]
    shares = [kinds.count(kind) / arch.depth for kind in MIXERS if kind != Skip.kind]
    present = [float(any(trait in layer for layer in traits)) for trait in known_traits()]
    first = next((i for i, layer in enumerate(traits) if WHOLE_CONTEXT in layer), arch.depth) / arch.depth
    widths = [layer.ffn.width / arch.d_model if layer.ffn else 0.0 for layer in arch.layers]
    return [1.0, *shares, *present, first, float(np.mean(widths))]


def known_traits() -> list[str]:
    """All traits of the registered mixers, each once."""
    return list(dict.fromkeys(trait for mixer in MIXERS.values() for trait in mixer.traits))


def optimistic_quality(arch: ArchConfig, judged: list[tuple[ArchConfig, float]], metric: Metric) -> float:
    """The good end of two deviations around a Bayesian linear fit, in the metric's direction; the best value that the
    metric can have until enough candidates were judged."""
    sign = 1.0 if metric.direction == "max" else -1.0
    best = BEST.get(metric.name, sign * math.inf)
    if len(judged) < MIN_JUDGED:
        return best
    x = np.array([features(other) for other, _ in judged])
    y = np.array([score for _, score in judged])
    centre = float(y.mean())
    precision = np.eye(x.shape[1]) + x.T @ x / NOISE**2
    covariance = np.linalg.inv(precision)
    weights = covariance @ (x.T @ (y - centre)) / NOISE**2
    new = np.array(features(arch))
    residual = float(np.sqrt(np.mean((x @ weights + centre - y) ** 2)))
    deviation = float(np.sqrt(new @ covariance @ new + NOISE**2 + residual**2))
    bound = centre + float(new @ weights) + sign * NUM_DEVIATIONS * deviation
    return min(best, bound) if sign > 0 else max(best, bound)
