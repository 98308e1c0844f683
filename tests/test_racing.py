"""How sure racing is: by hand, by numerical integration, and by what must always hold."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from search.racing import FAR, FEWEST, Values, pooled_spread, probability_dominated

MONTE_CARLO = 0.04  # three and a half standard errors of a share of DRAWS


def costs(*rows: list[float]) -> list[Values]:
    """Groups of one objective."""
    return [np.array(row)[:, None] for row in rows]


def chance(groups: list[Values], own: int = 0, seed: int = 0) -> float:
    return probability_dominated(groups, own, np.random.default_rng(seed))


def test_pooled_variance_by_hand() -> None:
    groups = [np.array([[1.0, 10.0], [3.0, 10.0]]), np.array([[5.0, 0.0]]), np.array([[0.0, 1], [3.0, 2], [6.0, 3]])]
    found = pooled_spread(groups)
    assert found.degrees == 1 + 0 + 2
    # Squares about the means: 1 + 1 and 9 + 0 + 9; 0 and 1 + 0 + 1.
    assert found.variance == pytest.approx([20 / 3, 2 / 3])


def test_without_replicates_nothing_is_known() -> None:
    found = pooled_spread(costs([1.0], [2.0]))
    assert (found.degrees, found.variance.tolist()) == (0, [0.0])


@pytest.mark.parametrize("degrees", range(FEWEST + 1))
def test_nothing_is_dropped_before_the_spread_is_known(degrees: int) -> None:
    groups = costs([100.0], *[[0.0, 0.1]] * degrees, [0.0])
    assert pooled_spread(groups).degrees == degrees
    assert chance(groups) == (0.0 if degrees < FEWEST else 1.0)


def two_better(mine: float, other: float, error: float, other_error: float, degrees: int) -> float:
    """P(other's mean < mine) by integration over my mean."""
    density = stats.t(degrees, mine, error).pdf
    below = stats.t(degrees, other, other_error).cdf
    value, _ = integrate.quad(lambda x: density(x) * below(x), mine - 60 * error, mine + 60 * error, limit=500)
    return float(value)


@pytest.mark.parametrize("shift", [-1.0, -0.3, 0.0, 0.4, 1.2])
@pytest.mark.parametrize("sizes", [(2, 4), (3, 3), (4, 2)])
def test_one_objective_against_numerical_integration(shift: float, sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    mine, other = (rng.normal(size=size) for size in sizes)
    groups = costs(list(mine - mine.mean() + shift), list(other - other.mean()))
    spread = pooled_spread(groups)
    deviation = math.sqrt(spread.variance[0])
    expected = two_better(shift, 0, deviation / math.sqrt(sizes[0]), deviation / math.sqrt(sizes[1]), spread.degrees)
    assert chance(groups) == pytest.approx(expected, abs=MONTE_CARLO)
    if shift == 0:
        assert expected == pytest.approx(0.5, abs=1e-6)


def test_two_objectives_are_each_to_be_better_in() -> None:
    """Of equal means each objective is better half the time, and the two are independent: a quarter."""
    group = np.array([[-1.0, 1.0], [0.0, -2.0], [1.0, 1.0]])
    assert chance([group, group.copy()]) == pytest.approx(0.25, abs=MONTE_CARLO)


def test_several_others_against_a_simulation_of_its_own() -> None:
    rng = np.random.default_rng(2)
    groups = [rng.normal(mean, size=(n, 2)) for n, mean in ((3, [0.4, 0.2]), (2, [0, 0]), (4, [-0.3, 0.5]))]
    degrees = 2 + 1 + 3
    squares = sum(np.square(group - group.mean(axis=0)).sum(axis=0) for group in groups)
    draws = []
    for group in groups:
        standard = rng.normal(size=(200_000, 2)) / np.sqrt(rng.chisquare(degrees, size=(200_000, 2)) / degrees)
        draws.append(group.mean(axis=0) + standard * np.sqrt(squares / degrees / len(group)))
    expected = np.mean((draws[1] < draws[0]).all(axis=1) | (draws[2] < draws[0]).all(axis=1))
    assert 0.1 < expected < 0.9
    assert chance(groups) == pytest.approx(expected, abs=MONTE_CARLO)


def test_what_is_best_in_one_objective_beyond_doubt_is_never_dropped() -> None:
    good = np.array([[0.0, 0.0], [0.1, 0.1], [0.0, 0.1]])
    mine = np.array([[50.0, -50.0]])
    assert chance([mine, good, good + 0.01]) == 0.0


def test_what_is_far_worse_in_all_is_dropped() -> None:
    good = np.array([[0.0, 0.0], [0.1, 0.1], [0.0, 0.1], [0.1, 0.0]])
    assert chance([good + 50, good]) == 1.0
    assert chance([good + 50, good], own=1) == 0.0
    assert chance([good]) == 0.0


def test_equal_seeds_leave_no_doubt_and_no_warning() -> None:
    """Deterministic trials: the pooled variance is 0, and equal means dominate nobody."""
    same = np.zeros((3, 2))
    assert chance([same, same.copy()]) == 0.0
    assert chance([same + np.array([0.0, 1e-9]), same, same - np.array([1.0, -1.0])]) == 1.0


small = st.lists(st.lists(st.floats(-3, 3), min_size=1, max_size=4), min_size=2, max_size=6)


@settings(max_examples=50, deadline=None)
@given(small, st.integers(0, 5))
def test_far_ones_change_nothing_and_units_neither(rows: list[list[float]], own: int) -> None:
    groups = costs(*rows)
    own %= len(groups)
    before = chance(groups, own)
    assert 0 <= before <= 1
    spread = pooled_spread(groups)
    deviation = math.sqrt(float(spread.variance[0]))
    worst = max(float(group.max()) for group in groups)
    far = np.array([[worst + 1 + 3 * FAR * deviation]])
    assert chance([*groups, far], own) == before
    assert chance([4 * group for group in groups], own) == pytest.approx(before, abs=1e-12)
