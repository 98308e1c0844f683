"""How sure racing is: by hand, against Student's test of SciPy, in simulation, and by what must always hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.racing import RULES, measure
from search.tuning.racing import FEWEST, WRONG, Values, p_not_dominated, pooled_variance


def costs(*rows: list[float]) -> list[Values]:
    """Groups of one objective."""
    return [np.array(row)[:, None] for row in rows]


def test_pooled_variance_by_hand() -> None:
    groups = [np.array([[1.0, 10.0], [3.0, 10.0]]), np.array([[5.0, 0.0]]), np.array([[0.0, 1], [3.0, 2], [6.0, 3]])]
    found = pooled_variance(groups)
    assert found.degrees == 1 + 0 + 2
    # Squares about the means: 1 + 1 and 9 + 0 + 9; 0 and 1 + 0 + 1.
    assert found.variance == pytest.approx([20 / 3, 2 / 3])


def test_without_replicates_nothing_is_known() -> None:
    found = pooled_variance(costs([1.0], [2.0]))
    assert (found.degrees, found.variance.tolist()) == (0, [0.0])


@pytest.mark.parametrize("degrees", range(FEWEST + 1))
def test_nothing_is_dropped_before_the_spread_is_known(degrees: int) -> None:
    groups = costs([100.0], *[[0.0, 0.1]] * degrees, [0.0])
    assert pooled_variance(groups).degrees == degrees
    assert (p_not_dominated(groups, 0) < 1e-3) == (degrees >= FEWEST)


@pytest.mark.parametrize("sizes", [(2, 4), (3, 3), (4, 2)])
def test_of_one_objective_and_one_other_it_is_students_test(sizes: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    mine, other = (rng.normal(size=size) for size in sizes)
    expected = stats.ttest_ind(mine, other, alternative="greater").pvalue
    assert p_not_dominated([mine[:, None], other[:, None]], 0) == pytest.approx(expected, rel=1e-9)
    assert p_not_dominated([other[:, None], mine[:, None]], 0) == pytest.approx(1 - expected, rel=1e-9)


def test_every_objective_is_tested_and_the_surest_of_the_others_counts_for_all() -> None:
    rng = np.random.default_rng(2)
    groups = [rng.normal(mean, size=(n, 2)) for n, mean in ((3, [2, 1.5]), (2, [0, 0]), (4, [-0.3, 0.5]))]
    spread = pooled_variance(groups)
    pairs = []
    for other in groups[1:]:
        error = np.sqrt(spread.variance * (1 / 3 + 1 / len(other)))
        t = (groups[0].mean(axis=0) - other.mean(axis=0)) / error
        pairs.append(stats.t(spread.degrees).sf(t).max())
    assert p_not_dominated(groups, 0) == pytest.approx(2 * min(pairs))


def test_what_is_best_in_one_objective_is_never_dropped() -> None:
    good = np.array([[0.0, 0.0], [0.1, 0.1], [0.0, 0.1]])
    mine = np.array([[50.0, -50.0]])
    assert p_not_dominated([mine, good, good + 0.01], 0) == 1.0


def test_what_is_far_worse_in_all_is_dropped() -> None:
    good = np.array([[0.0, 0.0], [0.1, 0.1], [0.0, 0.1], [0.1, 0.0]])
    assert p_not_dominated([good + 50, good], 0) < 1e-12
    assert p_not_dominated([good + 50, good], 1) == 1.0
    assert p_not_dominated([good], 0) == 1.0


def test_equal_seeds_leave_no_doubt_and_no_warning() -> None:
    """Deterministic trials: the pooled variance is 0, and equal means dominate nobody."""
    same = np.zeros((3, 2))
    assert p_not_dominated([same, same.copy()], 0) == 1.0
    assert p_not_dominated([same + np.array([0.0, 1e-9]), same, same - np.array([1.0, -1.0])], 0) == 0.0


def test_it_is_wrong_no_more_often_than_it_says() -> None:
    """On a front where one objective hardly differs and the other is hardly noisy, over all looks together."""
    rng = np.random.default_rng(3)
    rows = [measure("flat", count, seeds, 60, rng) for count, seeds in ((6, 3), (12, 2), (12, 5))]
    rates = {rule: [row["wrongly dropped"] for pair in rows for row in pair if row["rule"] == rule] for rule in RULES}
    assert max(rates["ours"]) <= WRONG
    assert min(rates["posterior, at each end"]) > WRONG


small = st.lists(st.lists(st.floats(-3, 3), min_size=1, max_size=4), min_size=2, max_size=6)


@settings(max_examples=50, deadline=None)
@given(small, st.integers(0, 5))
def test_units_change_nothing(rows: list[list[float]], own: int) -> None:
    groups = costs(*rows)
    own %= len(groups)
    before = p_not_dominated(groups, own)
    assert 0 <= before <= 1
    assert p_not_dominated([4 * group for group in groups], own) == pytest.approx(before, abs=1e-12)
