"""Attainment surfaces against the definition, by counting."""

import math
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from analysis.compute.attainment import LEVELS, attainment_surface, attainment_table
from analysis.compute.fronts import with_fronts
from analysis.compute.runs import run_table
from analysis.compute.settings import settings_table
from analysis.read.load import load_sweep
from tests.support.fake_sweep import write_sweep


def attained_by(points: NDArray[np.float64], runs: NDArray[np.int64], where: NDArray[np.float64]) -> int:
    """How many runs have a point at least as good (small) as `where` in every objective."""
    return sum(bool((points[runs == run] <= where).all(axis=1).any()) for run in np.unique(runs))


@st.composite
def problems(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.int64], list[bool]]:
    objectives, size = draw(st.integers(2, 3)), draw(st.integers(1, 12))
    points = draw(hnp.arrays(float, (size, objectives), elements=st.integers(-4, 4).map(float)))
    runs = draw(hnp.arrays(np.int64, size, elements=st.integers(0, 3)))
    return points, runs, draw(st.lists(st.booleans(), min_size=objectives, max_size=objectives))


@settings(max_examples=200, deadline=None)
@given(problems())
def test_every_place_of_a_grid_lies_above_the_surface_if_and_only_if_enough_runs_attain_it(
    problem: tuple[NDArray[np.float64], NDArray[np.int64], list[bool]],
) -> None:
    points, runs, maximize = problem
    signs = np.where(maximize, -1.0, 1.0)
    corners, levels = attainment_surface(points, runs, maximize)
    grid = np.stack(np.meshgrid(*[np.arange(-5, 6)] * points.shape[1]), axis=-1).reshape(-1, points.shape[1])
    for level in LEVELS:
        needed = math.ceil(level / 100 * len(np.unique(runs)))
        surface = corners[levels == level] * signs
        for where in grid[::7].astype(float):
            above = bool((surface <= where).all(axis=1).any())
            assert above == (attained_by(points * signs, runs, where) >= needed)


def test_four_runs_of_one_point_each() -> None:
    corners, levels = attainment_surface([[4, 4], [1, 1], [3, 3], [2, 2]], [7, 8, 9, 10], [True, True])
    assert levels.tolist() == [25, 50, 75]
    assert corners.tolist() == [[4, 4], [3, 3], [2, 2]]


def test_the_order_of_the_rows_does_not_matter() -> None:
    random = np.random.default_rng(0)
    points, runs, order = random.normal(size=(60, 2)), random.integers(0, 5, 60), random.permutation(60)
    first = attainment_surface(points, runs, [True, False])
    second = attainment_surface(points[order], runs[order], [True, False])
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_surfaces_of_a_sweep(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path, seeds=[0, 1, 2, 3]))
    marked = with_fronts(sweep, settings_table(sweep))
    table = attainment_table(sweep, run_table(sweep, marked))
    assert table["tasks"].drop_duplicates().tolist() == marked["tasks"].unique().tolist()
    assert set(table["seeds"]) == {4}
    assert set(table.loc[table["tasks"] == "depth", "points"]) == {"5"}
    best = table.groupby(["tasks", "level"])["group_sparsity"].max().unstack()
    assert (best[25.0] >= best[75.0]).all()
