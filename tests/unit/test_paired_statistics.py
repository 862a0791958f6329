"""Two models compared cold run by cold run: Student's t against scipy, pairing, and what is refused."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from device_agents.statistics import probability_lower, ratio_interval, student_cdf, student_quantile


@pytest.mark.parametrize("degrees", [1, 2, 3.7, 9, 40, 200])
@pytest.mark.parametrize("t", [-30.0, -2.0, -0.1, 0.0, 0.5, 1.0, 4.3, 50.0])
def test_students_distribution_is_scipys(t: float, degrees: float) -> None:
    assert student_cdf(t, degrees) == pytest.approx(stats.t.cdf(t, degrees), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize("degrees", [1, 4, 11.5])
def test_the_quantile_is_scipys(degrees: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)


def test_paired_runs_cancel_a_drift_that_both_share() -> None:
    drift = [1.0, 1.3, 0.9, 1.6, 1.1]
    a = [[10 * d, 10.1 * d, 9.9 * d] for d in drift]
    b = [[10.5 * d, 10.6 * d, 10.4 * d] for d in drift]
    assert probability_lower(a, b) > 0.999
    ratio = ratio_interval(a, b)
    assert ratio.low <= ratio.value <= ratio.high < 1
    assert ratio.value == pytest.approx(10 / 10.5)
    unpaired = ratio_interval(a, [*b, b[0]])
    assert unpaired.high > 1.3, "without pairs the drift is noise"


def test_it_is_the_paired_t_test_of_logarithms() -> None:
    draw = random.Random(3)
    a, b = ([[draw.lognormvariate(mean, 0.1)] for _ in range(6)] for mean in (0.0, 0.1))
    import numpy as np

    expected = stats.ttest_rel(np.log(np.ravel(a)), np.log(np.ravel(b)), alternative="less")
    assert probability_lower(a, b) == pytest.approx(1 - expected.pvalue)
    welch = stats.ttest_ind(np.log(np.ravel(a)), np.log(np.ravel(b))[:4], equal_var=False, alternative="less")
    assert probability_lower(a, b[:4]) == pytest.approx(1 - welch.pvalue)
    assert probability_lower(a, b) + probability_lower(b, a) == pytest.approx(1)


def test_equal_times_say_nothing_and_constant_ones_everything() -> None:
    assert probability_lower([[1.0], [1.0]], [[1.0], [1.0]]) == 0.5
    assert probability_lower([[1.0], [1.0]], [[2.0], [2.0]]) == 1.0
    assert probability_lower([[2.0], [2.0]], [[1.0], [1.0], [1.0]]) == 0.0


def test_one_run_is_not_compared() -> None:
    with pytest.raises(ValueError, match="two cold runs of each"):
        probability_lower([[1.0]], [[2.0], [2.0]])
