"""Intervals cover what they say, and Holm's correction is that of the paper."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.compute.intervals import holm, t_interval
from mtl.errors import BadInput


def coverage(low: np.ndarray, high: np.ndarray, truth: float) -> float:
    return float(((low <= truth) & (truth <= high)).mean())


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_students_interval_covers_95_percent_of_normal_means(seeds: int) -> None:
    random = np.random.default_rng(seeds)
    found = [t_interval(random.normal(0.3, 2.0, seeds)) for _ in range(4000)]
    covered = coverage(np.array([one.low for one in found]), np.array([one.high for one in found]), 0.3)
    assert covered == pytest.approx(0.95, abs=0.02)


def test_students_p_value_is_uniform_under_its_null() -> None:
    random = np.random.default_rng(0)
    found = [t_interval(random.normal(-0.01, 1.0, 5), null=-0.01).p_value for _ in range(4000)]
    assert stats.kstest(found, "uniform").pvalue > 0.001


def test_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, standard error 1/√3, t quantile with 2 degrees of freedom 4.302653.
    found = t_interval([1, 2, 3])
    assert (found.mean, found.number) == (2, 3)
    assert (found.low, found.high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))
    assert found.p_value == pytest.approx(stats.ttest_1samp([1, 2, 3], 0).pvalue)
    assert t_interval([1, 2, 3], null=1.5).p_value == pytest.approx(stats.ttest_1samp([1, 2, 3], 1.5).pvalue)


@pytest.mark.parametrize("values", [[], [0.4]])
def test_too_few_values_have_no_interval(values: list[float]) -> None:
    found = t_interval(values)
    assert found.number == len(values)
    assert all(math.isnan(value) for value in (found.low, found.high, found.p_value))


def test_equal_differences() -> None:
    assert t_interval([0.5, 0.5]).p_value == 0
    found = t_interval([0.5, 0.5], null=0.5)
    assert (found.low, found.high, found.p_value) == (0.5, 0.5, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(BadInput, match=f"difference {bad}; every value must be finite"):
        t_interval([1.0, bad])


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.03, 0.04: times 3, 2 and 1, and none below the one before.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_test_that_could_not_be_made_does_not_count() -> None:
    adjusted = holm([math.nan, 0.02, 0.03])
    assert math.isnan(adjusted[0])
    assert adjusted[1:] == pytest.approx([0.04, 0.04])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_order_and_never_helps(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    for place in np.argsort(p_values)[1:]:
        assert adjusted[place] >= adjusted[int(np.argmin(p_values))]


def test_holm_keeps_the_share_of_false_findings() -> None:
    random = np.random.default_rng(0)
    wrong = [min(holm([t_interval(random.normal(size=5)).p_value for _ in range(4)])) <= 0.05 for _ in range(2000)]
    assert np.mean(wrong) <= 0.05 + 0.015
