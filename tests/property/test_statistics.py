"""Statistics of repeated timings: intervals hold their centre and cover the truth, drift is corrected."""

from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_agents.statistics import deviation, drift_factor, estimate, percentile, student

times = st.floats(0.01, 1e4)
samples = st.lists(times, min_size=1, max_size=40)


@given(samples)
def test_the_interval_holds_the_median(values: list[float]) -> None:
    found = estimate(values, "ms")
    assert 0 <= found.low <= found.median <= found.high
    assert found.median == found.raw == statistics.median(values)
    assert (found.num_samples, found.unit) == (len(values), "ms")


@given(samples, st.floats(0.1, 10))
def test_the_factor_scales_all_but_the_raw_value(values: list[float], factor: float) -> None:
    plain, corrected = estimate(values, "ms"), estimate(values, "ms", factor)
    assert corrected.raw == plain.raw
    for part in ("low", "median", "high"):
        assert getattr(corrected, part) == pytest.approx(getattr(plain, part) * factor)
    assert corrected.half_width == pytest.approx(plain.half_width, abs=1e-9)


@given(samples, st.floats(0.125, 8))
def test_units_change_nothing(values: list[float], factor: float) -> None:
    assert estimate([value * factor for value in values], "ms").half_width == pytest.approx(
        estimate(values, "ms").half_width, rel=1e-6, abs=1e-9
    )
    assert deviation([value * factor for value in values]) == pytest.approx(deviation(values) * factor, abs=1e-9)


@given(samples, st.randoms(use_true_random=False))
def test_order_changes_nothing(values: list[float], rng: random.Random) -> None:
    assert estimate(rng.sample(values, len(values)), "ms") == estimate(values, "ms")


@given(times, st.integers(1, 30))
def test_equal_samples_leave_no_doubt(value: float, count: int) -> None:
    found = estimate([value] * count, "ms")
    assert found.low == found.median == found.high == value
    assert deviation([value] * count) == 0


@given(st.lists(times, min_size=7, max_size=40), st.floats(1e6, 1e9))
def test_one_wild_sample_moves_little(values: list[float], wild: float) -> None:
    """The median stays inside the samples, however wild the one more is."""
    assert min(values) <= estimate([*values, wild], "ms").median <= max(values)


@pytest.mark.parametrize(("count", "share"), [(2, 0.95), (4, 0.95), (5, 0.88), (8, 0.90), (15, 0.91), (50, 0.92)])
def test_intervals_cover_the_truth(count: int, share: float, rng: random.Random) -> None:
    """Normal noise of 5 %. 95 of 100 intervals should hold the true value; with a median absolute deviation of five
    samples, corrected for its bias, 90 do: it varies more than the Student quantile allows for."""
    rounds, held = 2000, 0
    for _ in range(rounds):
        found = estimate([rng.gauss(100.0, 5.0) for _ in range(count)], "ms")
        held += found.low <= 100.0 <= found.high
    assert held / rounds >= share


@given(samples, st.floats(0, 1), st.floats(0, 1))
def test_percentiles_are_ordered_and_inside(values: list[float], one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert min(values) <= percentile(values, low) <= percentile(values, high) * (1 + 1e-12)
    assert percentile(values, high) <= max(values) * (1 + 1e-12)


@given(samples)
def test_percentile_ends_and_middle(values: list[float]) -> None:
    assert percentile(values, 0.0) == min(values)
    assert percentile(values, 1.0) == max(values)
    assert percentile(values, 0.5) == pytest.approx(statistics.median(values))


def test_student_quantiles_fall_to_the_normal_one() -> None:
    quantiles = [student(degrees) for degrees in range(1, 60)]
    assert quantiles == sorted(quantiles, reverse=True)
    assert quantiles[-1] == 1.96


@given(times, times, st.integers(2, 30))
def test_a_steady_canary_is_corrected_in_full(reference: float, present: float, count: int) -> None:
    assert drift_factor([present] * count, reference) == pytest.approx(reference / present)


@given(samples, times)
def test_the_factor_lies_between_none_and_full_correction(canary: list[float], reference: float) -> None:
    full = reference / statistics.median(canary)
    factor = drift_factor(canary, reference)
    assert min(1.0, full) - 1e-9 <= factor <= max(1.0, full) + 1e-9
    assert factor > 0


@given(samples)
def test_no_canary_no_correction(canary: list[float]) -> None:
    assert drift_factor([], 1.0) == drift_factor(canary, 0.0) == 1.0


def test_a_noisy_canary_is_trusted_less() -> None:
    steady, noisy = [11.0, 11.01, 10.99, 11.0, 11.0], [11.0, 17.0, 5.0, 14.0, 8.0]
    assert abs(drift_factor(noisy, 10.0) - 1) < abs(drift_factor(steady, 10.0) - 1)
