"""The best quality a candidate may still have, from what the judged ones show. Decides who is not worth training."""

from __future__ import annotations

import numpy as np

from search_space.arch import ArchConfig

MIN_JUDGED = 6
NUM_DEVIATIONS = 2.0
NOISE = 0.03  # deviation of a score between seeds, measured in benchmarks/quality_separation


def features(arch: ArchConfig) -> list[float]:
    """How much of each operator, how early the first whole-context one stands, and how wide the feed-forwards are."""
    kinds = [layer.mixer.kind for layer in arch.layers]
    share = [kinds.count(kind) / arch.depth for kind in ("gated_short_conv", "gqa", "sliding_window")]
    first = kinds.index("gqa") / arch.depth if "gqa" in kinds else 1.0
    widths = [layer.ffn.width / arch.d_model if layer.ffn else 0.0 for layer in arch.layers]
    return [1.0, *share, float("gqa" in kinds), float("gated_short_conv" in kinds), first, float(np.mean(widths))]


def optimistic_quality(arch: ArchConfig, judged: list[tuple[ArchConfig, float]]) -> float:
    """Upper bound of two deviations from a Bayesian linear fit; 1.0 until enough candidates were judged."""
    if len(judged) < MIN_JUDGED:
        return 1.0
    x = np.array([features(other) for other, _ in judged])
    y = np.array([score for _, score in judged])
    centre = float(y.mean())
    precision = np.eye(x.shape[1]) + x.T @ x / NOISE**2
    covariance = np.linalg.inv(precision)
    weights = covariance @ (x.T @ (y - centre)) / NOISE**2
    new = np.array(features(arch))
    residual = float(np.sqrt(np.mean((x @ weights + centre - y) ** 2)))
    deviation = float(np.sqrt(new @ covariance @ new + NOISE**2 + residual**2))
    return min(1.0, centre + float(new @ weights) + NUM_DEVIATIONS * deviation)
