"""Intervals of scores that were estimated from few runs."""

from __future__ import annotations

import math

from scipy.stats import t as student_t

from nas.objectives import Z_95

# For one seed. Among the 11 pairs of seeds in benchmarks/results/quality_truth a seed moves a score 0.8 times as much
# as the choice of rows, so both together 1.3 times; the rest is a margin, as proxies are narrower than those models.
ONE_SEED = 1.5


def half_width(means: list[float], standard_error: float) -> float:
    """95 % half width around the mean of ``means``, one for each seed.

    Several seeds: Student's t over their spread. ``standard_error`` is what the evaluation's rows or tasks leave open
    within a seed; it is the least that is stated, and for one seed, which says nothing of others, it is widened.
    """
    within = Z_95 * (standard_error if math.isfinite(standard_error) else 0.0)
    if len(means) == 1:
        return ONE_SEED * within
    centre = sum(means) / len(means)
    variance = sum((mean - centre) ** 2 for mean in means) / (len(means) - 1)
    quantile = float(student_t.ppf(0.975, len(means) - 1))
    return max(within, quantile * math.sqrt(variance / len(means)))
