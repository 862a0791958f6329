"""Robust statistics of repeated timings: medians with intervals, and the canary's drift correction."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

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


# --- two models, cold run by cold run -------------------------------------------------------------------------------


MAX_LOG = math.log(1e12)  # ratios beyond it say nothing


class Ratio(NamedTuple):
    """Of two models' times, with a 95 % interval."""

    value: float
    low: float
    high: float


def probability_lower(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> float:
    """Probability that ``a`` takes less time than ``b``. Each is one sequence of samples for each cold run.

    Student's t of the logarithms of the runs' medians: of the paired differences where both have as many runs (run i
    of both in the same round), Welch's otherwise. Raises ValueError for fewer than two runs of either.
    """
    mean, error, degrees = _log_difference(a, b)
    if error == 0.0:
        return 0.5 if mean == 0.0 else float(mean < 0)
    return student_cdf(-mean / error, degrees)


def ratio_interval(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> Ratio:
    """Times of ``a`` over those of ``b``; runs as in ``probability_lower``. Raises ValueError for fewer than two."""
    mean, error, degrees = _log_difference(a, b)
    half = student_quantile(0.975, degrees) * error
    return Ratio(*(math.exp(min(max(one, -MAX_LOG), MAX_LOG)) for one in (mean, mean - half, mean + half)))


def _log_difference(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Mean of log(a) - log(b), its standard error, and degrees of freedom."""
    if min(len(a), len(b)) < 2:
        raise ValueError(f"two cold runs of each are the fewest that can be compared, got {len(a)} and {len(b)}")
    logs_a, logs_b = ([math.log(statistics.median(run)) for run in runs] for runs in (a, b))
    if len(a) == len(b):
        differences = [x - y for x, y in zip(logs_a, logs_b, strict=True)]
        return statistics.mean(differences), statistics.stdev(differences) / math.sqrt(len(a)), len(a) - 1
    mean = statistics.mean(logs_a) - statistics.mean(logs_b)
    parts = [statistics.variance(logs) / len(logs) for logs in (logs_a, logs_b)]
    total = sum(parts)
    if total == 0.0:
        return mean, 0.0, len(a) + len(b) - 2
    weights = sum(part**2 / (len(logs) - 1) for part, logs in zip(parts, (logs_a, logs_b), strict=True))
    return mean, math.sqrt(total), total**2 / weights


def student_cdf(t: float, degrees: float) -> float:
    """Probability below ``t`` of Student's distribution, by the incomplete beta function."""
    tail = 0.5 * _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))
    return 1.0 - tail if t > 0 else tail


def student_quantile(share: float, degrees: float) -> float:
    """The inverse of ``student_cdf`` for shares above one half, by bisection."""
    low, high = 0.0, 1.0
    while student_cdf(high, degrees) < share:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, degrees) < share else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Regularized; continued fraction by Lentz's method (Numerical Recipes, 6.4)."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _incomplete_beta(b, a, 1.0 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d, c = 1.0 / (1.0 + even * d), 1.0 + even / c
        fraction *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d, c = 1.0 / (1.0 + odd * d), 1.0 + odd / c
        fraction *= d * c
        if abs(d * c - 1.0) < 1e-14:
            break
    return front * fraction
