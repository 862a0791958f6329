"""Intervals of scores that were estimated from few runs."""

from __future__ import annotations

import math

from scipy.stats import t as student_t

SPREAD_OF_SEEDS = 1.5  # a seed moves a score this many times as much as the choice of evaluation rows does


def half_width(means: list[float], standard_error: float) -> float:
    """95 % half width around the mean of ``means``, one for each seed.

    Several seeds: Student's t over their spread. ``standard_error`` is what the evaluation's rows or tasks leave open
    within a seed; it is the least that is stated, and for one seed, which says nothing of others, it is widened.
    """
    within = 1.96 * (standard_error if math.isfinite(standard_error) else 0.0)
    if len(means) == 1:
        return SPREAD_OF_SEEDS * within
    centre = sum(means) / len(means)
    variance = sum((mean - centre) ** 2 for mean in means) / (len(means) - 1)
    quantile = float(student_t.ppf(0.975, len(means) - 1))
    return max(within, quantile * math.sqrt(variance / len(means)))
