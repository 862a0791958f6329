"""Dominance, ranks, knee and hypervolume against brute force, closed forms and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nas.hypervolume import hypervolume, hypervolume_improvement
from nas.pareto import as_losses, dominates, knee_index, non_domination_rank, pareto_mask

Points = list[list[float]]
DIMENSIONS = st.integers(1, 4)


@st.composite
def sets(draw: st.DrawFn, min_size: int = 1, max_size: int = 12) -> tuple[Points, list[str]]:
    """Points on a small grid (ties and duplicates are likely) and a direction per column."""
    dimension = draw(DIMENSIONS)
    point = st.lists(st.integers(0, 6).map(float), min_size=dimension, max_size=dimension)
    directions = draw(st.lists(st.sampled_from(["min", "max"]), min_size=dimension, max_size=dimension))
    return draw(st.lists(point, min_size=min_size, max_size=max_size)), directions


def reference_of(directions: list[str]) -> list[float]:
    """Worse than every point of ``sets``."""
    return [7.0 if direction == "min" else -1.0 for direction in directions]


def brute_front(points: Points, directions: list[str]) -> list[bool]:
    losses = as_losses(points, directions)
    return [not any(dominates(other, one) for other in losses) for one in losses]


# --- front and ranks -------------------------------------------------------------------------------------------------


@given(sets())
def test_the_front_equals_brute_force(case: tuple[Points, list[str]]) -> None:
    assert pareto_mask(*case).tolist() == brute_front(*case)


@given(sets())
def test_ranks_peel_fronts(case: tuple[Points, list[str]]) -> None:
    points, directions = case
    ranks, left = non_domination_rank(points, directions), list(range(len(points)))
    for rank in range(int(ranks.max()) + 1):
        kept = brute_front([points[i] for i in left], directions)
        assert [i for i, on in zip(left, kept, strict=True) if on] == [i for i in left if ranks[i] == rank]
        left = [i for i, on in zip(left, kept, strict=True) if not on]
    assert left == []


@given(sets())
def test_a_dominated_point_has_a_higher_rank(case: tuple[Points, list[str]]) -> None:
    losses, ranks = as_losses(*case), non_domination_rank(*case)
    for i, one in enumerate(losses):
        assert all(ranks[i] < ranks[j] for j, other in enumerate(losses) if dominates(one, other))


@given(sets(), st.randoms(use_true_random=False))
def test_order_scale_and_shift_change_nothing(case: tuple[Points, list[str]], rng) -> None:  # noqa: ANN001
    points, directions = case
    order = rng.sample(range(len(points)), len(points))
    mask = pareto_mask(points, directions)
    assert pareto_mask([points[i] for i in order], directions).tolist() == mask[order].tolist()
    assert pareto_mask(np.array(points) * 4.0 - 3.0, directions).tolist() == mask.tolist()
    turned = ["max" if direction == "min" else "min" for direction in directions]
    assert pareto_mask(-np.array(points), turned).tolist() == mask.tolist()


@pytest.mark.parametrize("big", [1e16, math.inf, -math.inf])
def test_what_one_axis_drowns_still_counts_on_the_other(big: float) -> None:
    """Sums of these rows are equal, in floating point, though one row dominates the other."""
    for rows in ([[big, 5.0], [big, 3.0]], [[big, 3.0], [big, 5.0]]):
        assert pareto_mask(rows, ["min", "min"]).tolist() == [row[1] == 3.0 for row in rows]


def test_empty_sets() -> None:
    assert pareto_mask([], ["min", "max"]).tolist() == []
    assert hypervolume([], [1.0, 1.0], ["min", "min"]) == 0.0
    with pytest.raises(ValueError, match="no knee"):
        knee_index([], ["min"])


# --- knee ------------------------------------------------------------------------------------------------------------


@given(sets())
def test_the_knee_is_on_the_front(case: tuple[Points, list[str]]) -> None:
    assert pareto_mask(*case)[knee_index(*case)]


@given(sets())
def test_the_knee_survives_units(case: tuple[Points, list[str]]) -> None:
    """Milliseconds or seconds: powers of two keep floats exact, so that ties stay ties."""
    points, directions = case
    scaled = np.array(points) * np.array([2.0**i for i in range(1, len(directions) + 1)])
    assert knee_index(scaled, directions) == knee_index(points, directions)


def test_the_knee_of_a_bent_front_is_its_bend() -> None:
    points = [[0.0, 10.0], [1.0, 1.0], [10.0, 0.0], [5.0, 5.0]]
    assert knee_index(points, ["min", "min"]) == 1
    assert knee_index([[-a, b] for a, b in points], ["max", "min"]) == 1


# --- hypervolume against closed forms --------------------------------------------------------------------------------


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
@given(sides=st.lists(st.floats(0.1, 5.0), min_size=4, max_size=4))
def test_one_point_is_a_box(dimension: int, sides: list[float]) -> None:
    point = [10.0 - side for side in sides[:dimension]]
    found = hypervolume([point], [10.0] * dimension, ["min"] * dimension)
    assert found == pytest.approx(math.prod(10.0 - value for value in point))


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_a_staircase(steps: int) -> None:
    """Corners (i, n - 1 - i) below (n, n): rows of 1, 2, ... n unit squares."""
    points = [[float(i), float(steps - 1 - i)] for i in range(steps)]
    assert hypervolume(points, [steps, steps], ["min", "min"]) == pytest.approx(steps * (steps + 1) / 2)


@pytest.mark.parametrize("dimension", [2, 3, 4])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_a_simplex_of_lattice_points(dimension: int, size: int) -> None:
    """All lattice points with coordinate sum ``size - 1`` below (size, ...): the cells whose sum is at least that,
    all cells but the simplex with sum up to ``size - 2``."""
    lattice = np.array(np.meshgrid(*[range(size)] * dimension)).reshape(dimension, -1).T
    points = lattice[lattice.sum(1) == size - 1]
    expected = size**dimension - math.comb(size - 2 + dimension, dimension)
    assert hypervolume(points, [size] * dimension, ["min"] * dimension) == pytest.approx(expected)


@pytest.mark.parametrize("dimension", [2, 3, 4])
def test_hypervolume_agrees_with_monte_carlo(dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    points, samples = rng.random((15, dimension)), rng.random((40_000, dimension))
    hit = np.any(np.all(points[None] <= samples[:, None], axis=2), axis=1).mean()
    found = hypervolume(points, [1.0] * dimension, ["min"] * dimension)
    assert found == pytest.approx(hit, abs=4 * math.sqrt(hit * (1 - hit) / len(samples)))


@given(sets())
def test_hypervolume_counts_grid_cells(case: tuple[Points, list[str]]) -> None:
    """On an integer grid the volume is the number of dominated unit cells."""
    points, directions = case
    losses = as_losses(points, directions)
    reference = as_losses([reference_of(directions)], directions)[0]
    axes = [np.arange(low, high) for low, high in zip(losses.min(0), reference, strict=True)]
    cells = np.array(np.meshgrid(*axes)).reshape(len(axes), -1).T
    dominated = np.any(np.all(losses[None] <= cells[:, None], axis=2), axis=1).sum()
    assert hypervolume(points, reference_of(directions), directions) == pytest.approx(float(dominated))


# --- hypervolume: how it must behave ---------------------------------------------------------------------------------


@given(sets(min_size=2))
def test_a_point_more_never_takes_volume_away(case: tuple[Points, list[str]]) -> None:
    points, directions = case
    reference = reference_of(directions)
    gain = hypervolume_improvement(points[0], points[1:], reference, directions)
    assert gain >= -1e-9
    losses = as_losses(points, directions)
    if any(dominates(other, losses[0]) or np.array_equal(other, losses[0]) for other in losses[1:]):
        assert gain == pytest.approx(0.0, abs=1e-9)
    else:
        assert gain > 0


@given(sets())
def test_only_the_front_counts(case: tuple[Points, list[str]]) -> None:
    points, directions = case
    front = [point for point, kept in zip(points, pareto_mask(points, directions), strict=True) if kept]
    reference = reference_of(directions)
    assert hypervolume(front, reference, directions) == pytest.approx(hypervolume(points, reference, directions))


@given(sets(), st.randoms(use_true_random=False))
def test_order_of_points_and_axes_changes_no_volume(case: tuple[Points, list[str]], rng) -> None:  # noqa: ANN001
    points, directions = case
    reference, volume = reference_of(directions), hypervolume(points, reference_of(directions), directions)
    rows, columns = rng.sample(range(len(points)), len(points)), rng.sample(range(len(directions)), len(directions))
    turned = [[points[i][j] for j in columns] for i in rows]
    found = hypervolume(turned, [reference[j] for j in columns], [directions[j] for j in columns])
    assert found == pytest.approx(volume)


@given(sets(), st.lists(st.sampled_from([0.25, 0.5, 2.0, 8.0]), min_size=4, max_size=4))
def test_volume_scales_with_its_axes(case: tuple[Points, list[str]], factors: list[float]) -> None:
    points, directions = case
    scale = np.array(factors[: len(directions)])
    reference = np.array(reference_of(directions))
    found = hypervolume(np.array(points) * scale, (reference * scale).tolist(), directions)
    assert found == pytest.approx(hypervolume(points, reference.tolist(), directions) * scale.prod())


@given(sets())
def test_points_outside_the_reference_add_nothing(case: tuple[Points, list[str]]) -> None:
    points, directions = case
    assume(len(directions) > 1)
    reference = reference_of(directions)
    outside = [[*reference[:1], *point[1:]] for point in points]
    assert hypervolume(outside, reference, directions) == 0.0
    volume = hypervolume(points, reference, directions)
    assert hypervolume([*points, *outside], reference, directions) == pytest.approx(volume)


@given(sets(), st.data())
def test_rows_with_nan_change_nothing(case: tuple[Points, list[str]], data: st.DataObject) -> None:
    points, directions = case
    at = data.draw(st.integers(0, len(points)))
    mixed = [*points[:at], [math.nan, *points[0][1:]], *points[at:]]
    rest = [index for index in range(len(mixed)) if index != at]
    assert pareto_mask(mixed, directions)[rest].tolist() == pareto_mask(points, directions).tolist()
    assert not pareto_mask(mixed, directions)[at]
    ranks = non_domination_rank(mixed, directions)
    assert ranks[at] > ranks[rest].max()
    assert knee_index(mixed, directions) != at
