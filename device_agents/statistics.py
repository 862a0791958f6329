"""Robust statistics of repeated timings: medians with intervals, and the canary's drift correction."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from contracts.measurement import Estimate

# Two-sided 95 % Student quantiles by degrees of freedom; 1.96 beyond.
_STUDENT = {
    1: 12.71,
    2: 4.30,
    3: 3.18,
    4: 2.78,
    5: 2.57,
    6: 2.45,
    7: 2.36,
    8: 2.31,
    9: 2.26,
    10: 2.23,
    15: 2.13,
    20: 2.09,
}
_MAD_TO_DEVIATION = 1.4826
# The median absolute deviation of few samples is too small; factors of Croux and Rousseeuw (1992).
_SMALL_SAMPLE = {5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}
_MEDIAN_EFFICIENCY = 1.2533  # standard error of a median over that of a mean, for normal noise


def deviation(samples: Sequence[float]) -> float:
    """Standard deviation from the median absolute deviation; from the range when there are fewer than five samples."""
    if len(samples) < 2:
        return 0.0
    if len(samples) < 5:
        return (max(samples) - min(samples)) / {2: 1.128, 3: 1.693, 4: 2.059}[len(samples)]
    centre = statistics.median(samples)
    count = len(samples)
    unbiased = _SMALL_SAMPLE.get(count, count / (count - 0.8))
    return unbiased * _MAD_TO_DEVIATION * statistics.median(abs(sample - centre) for sample in samples)


def student(degrees: int) -> float:
    known = [key for key in _STUDENT if key <= degrees]
    return _STUDENT[max(known)] if known and degrees <= 20 else 1.96


def estimate(samples: Sequence[float], unit: str, factor: float = 1.0) -> Estimate:
    """Median and 95 % interval of ``samples``, both multiplied by the canary's ``factor``."""
    centre = statistics.median(samples)
    error = _MEDIAN_EFFICIENCY * deviation(samples) / math.sqrt(len(samples))
    half = student(len(samples) - 1) * error if len(samples) > 1 else 0.0
    return Estimate(
        median=centre * factor, low=max(0.0, centre - half) * factor, high=(centre + half) * factor, unit=unit,
        num_samples=len(samples), raw=centre,
    )  # fmt: skip


def percentile(samples: Sequence[float], share: float) -> float:
    """Linear interpolation between order statistics, ``share`` in 0..1."""
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def drift_factor(canary_ms: Sequence[float], reference_ms: float) -> float:
    """The factor for raw times that makes sessions comparable: reference over present canary time, shrunk towards 1 by
    the share of the difference that the canary's own noise explains."""
    if not canary_ms or reference_ms <= 0:
        return 1.0
    present = statistics.median(canary_ms)
    drift = reference_ms / present - 1.0
    noise = _MEDIAN_EFFICIENCY * deviation(canary_ms) / present / math.sqrt(len(canary_ms))
    trust = drift**2 / (drift**2 + noise**2) if drift or noise else 0.0
    return 1.0 + trust * drift
