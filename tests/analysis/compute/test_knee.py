"""The knee where it can be computed by hand, and none where there is none."""

import math

import numpy as np
import pytest

from analysis.compute.knee import knee_point


def test_by_hand() -> None:
    # Scaled to 0..1 the front is (0, 1), (0.8, 0.8), (0.9, 0.5), (1, 0): the second bulges most, by (1.6 - 1) / √2.
    knee = knee_point([[0, 10], [80, 8], [90, 5], [100, 0], [10, 1]], [True, True])
    assert knee is not None
    assert (knee.row, knee.distance) == (1, pytest.approx(0.6 / math.sqrt(2)))


@pytest.mark.parametrize("maximize", [[True, True], [True, False], [False, False]])
def test_does_not_depend_on_signs_or_units(maximize: list[bool]) -> None:
    points = np.array([[0.0, 10], [8, 8], [9, 5], [10, 0]]) * np.where(maximize, 1, -1) * [1e6, 1e-6]
    knee = knee_point(points, maximize)
    assert knee is not None
    assert knee.row == 1


def test_three_objectives() -> None:
    points = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.6], [0.4, 0.4, 0.4]]
    knee = knee_point(points, [True] * 3)
    assert knee is not None
    assert (knee.row, knee.distance) == (3, pytest.approx((1.6 - 1) / math.sqrt(3)))


@pytest.mark.parametrize(
    "points",
    [
        np.empty((0, 2)),
        [[1, 1]],
        [[0, 1], [1, 0], [1, 0]],  # two different points
        [[0, 1], [0.5, 0.5], [1, 0]],  # on the line
        [[0, 1], [0.3, 0.3], [1, 0]],  # below it
        [[0, 0], [1, 1]],  # one dominates
    ],
)
def test_no_knee(points: object) -> None:
    assert knee_point(points, [True, True]) is None  # type: ignore[arg-type]
