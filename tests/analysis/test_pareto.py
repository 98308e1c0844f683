"""The front against brute force, the hypervolume against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from analysis.pareto import hypervolume, pareto_front
from mtl.errors import BadInput


def brute_force(points: NDArray[np.float64], maximize: list[bool]) -> list[bool]:
    """No other point is at least as good everywhere and better somewhere."""
    gains = points * np.where(maximize, 1, -1)
    return [not any(np.all(other >= one) and np.any(other > one) for other in gains) for one in gains]


@st.composite
def problems(draw: st.DrawFn) -> tuple[NDArray[np.float64], list[bool]]:
    """Up to 25 points in 1 to 4 objectives; few different values, so that ties and duplicates are common."""
    objectives = draw(st.integers(1, 4))
    values = st.one_of(st.integers(-2, 2).map(float), st.floats(-1e3, 1e3))
    points = draw(hnp.arrays(float, st.tuples(st.integers(0, 25), st.just(objectives)), elements=values))
    return points, draw(st.lists(st.booleans(), min_size=objectives, max_size=objectives))


@settings(max_examples=300, deadline=None)
@given(problems())
def test_front_agrees_with_brute_force(problem: tuple[NDArray[np.float64], list[bool]]) -> None:
    points, maximize = problem
    assert pareto_front(points, maximize).tolist() == brute_force(points, maximize)


@pytest.mark.parametrize("objectives", [2, 3, 4])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_front_of_many_random_points(objectives: int, scale: float) -> None:
    points = np.random.default_rng(objectives).normal(size=(300, objectives)) * scale
    points = np.concatenate([points, points[:40]])
    maximize = [True, False, True, False][:objectives]
    assert pareto_front(points, maximize).tolist() == brute_force(points, maximize)


def test_duplicates_of_the_front_are_all_kept() -> None:
    assert pareto_front([[1, 1], [0, 1], [1, 1], [0, 0]], [True, True]).tolist() == [True, False, True, False]


def test_nothing_has_an_empty_front() -> None:
    assert pareto_front(np.empty((0, 2)), [True, True]).shape == (0,)


def test_hypervolume_of_one_box() -> None:
    assert hypervolume([[3, 4]], [1, 1], [True, True]) == pytest.approx(2 * 3)


def test_hypervolume_of_a_staircase() -> None:
    # Steps (1, 3), (2, 2), (3, 1) over the origin: columns of height 3, 2 and 1.
    assert hypervolume([[2, 2], [1, 3], [3, 1], [1, 1]], [0, 0], [True, True]) == pytest.approx(6)


@pytest.mark.parametrize("maximize", [[True, True], [True, False], [False, True], [False, False]])
def test_hypervolume_does_not_depend_on_how_an_objective_is_signed(maximize: list[bool]) -> None:
    signs = np.where(maximize, 1, -1)
    points, reference = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), np.array([0.0, 0.5])
    assert hypervolume(points * signs, reference * signs, maximize) == pytest.approx(2.5 + 1.5 + 0.5)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_hypervolume_of_two_overlapping_boxes(objectives: int) -> None:
    # Sides (1, 2, …, 2) and (2, …, 2, 1): inclusion and exclusion, their overlap having the sides (1, 2, …, 2, 1).
    first, second = np.ones(objectives), np.ones(objectives)
    first[1:], second[:-1] = 2, 2
    expected = 2.0**objectives - 2.0 ** (objectives - 2) if objectives > 1 else 1.0
    assert hypervolume([first, second], np.zeros(objectives), [True] * objectives) == pytest.approx(expected)


def test_points_not_better_than_the_reference_contribute_nothing() -> None:
    assert hypervolume([[2, 2], [9, 0], [0, 9], [-5, 5]], [0, 0], [True, True]) == pytest.approx(4)
    assert hypervolume([[-1, 5], [0, 0]], [0, 0], [True, True]) == 0


def test_hypervolume_of_nothing_is_zero() -> None:
    assert hypervolume(np.empty((0, 3)), [0, 0, 0], [True, False, True]) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_with_its_row(bad: float) -> None:
    points = [[0.0, 1.0], [1.0, 1.0], [bad, 1.0]]
    with pytest.raises(ValueError, match="row 2 of points"):
        pareto_front(points, [True, True])
    with pytest.raises(ValueError, match="row 2 of points"):
        hypervolume(points, [0, 0], [True, True])
    with pytest.raises(ValueError, match="reference"):
        hypervolume([[1.0, 1.0]], [0, bad], [True, True])


@pytest.mark.parametrize(
    ("points", "maximize", "named"),
    [
        ([1.0, 2.0], [True, True], r"points has shape \(2,\)"),
        (np.empty((3, 0)), [], r"points has shape \(3, 0\)"),
        ([[1.0, 2.0]], [True], "maximize is"),
        ([[1.0, 2.0]], [1, -1], "maximize is"),  # directions as signs would both count as True
    ],
)
def test_other_shapes_are_refused_in_one_line(points: object, maximize: list[bool], named: str) -> None:
    with pytest.raises(BadInput, match=named) as caught:
        pareto_front(points, maximize)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_reference_of_another_length_is_refused() -> None:
    with pytest.raises(BadInput, match=r"reference has shape \(3,\)"):
        hypervolume([[1.0, 2.0]], [0, 0, 0], [True, True])
