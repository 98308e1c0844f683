"""Intervals cover what they say, and Holm's correction is that of the paper."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.compute.intervals import bootstrap_interval, holm, t_interval
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


def test_bootstrap_covers_with_a_hundred_values_even_if_they_are_skewed() -> None:
    random = np.random.default_rng(0)
    found = [
        bootstrap_interval(random.gamma(4, 1, 100), np.random.default_rng(trial), resamples=999)
        for trial in range(1500)
    ]
    covered = coverage(np.array([one.low for one in found]), np.array([one.high for one in found]), 4.0)
    assert covered == pytest.approx(0.95, abs=0.02)


def test_bootstrap_is_its_generators() -> None:
    values = np.random.default_rng(0).normal(size=12)
    first, second = (bootstrap_interval(values, np.random.default_rng(seed), resamples=499) for seed in (1, 1))
    assert first == second
    assert first.low < values.mean() < first.high


def test_bootstrap_leans_where_the_values_are_skewed() -> None:
    # Efron 1987: against the plain percentiles, the interval of a right-skewed mean moves right at both ends.
    values = np.random.default_rng(0).gamma(1, 1, 30)
    found = bootstrap_interval(values, np.random.default_rng(1), resamples=4999)
    means = np.random.default_rng(2).choice(values, (20_000, 30)).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    assert found.low > low + 0.01
    assert found.high > high + 0.01


def test_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, standard error 1/√3, t quantile with 2 degrees of freedom 4.302653.
    found = t_interval([1, 2, 3])
    assert (found.mean, found.number) == (2, 3)
    assert (found.low, found.high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)))
    assert found.p_value == pytest.approx(stats.ttest_1samp([1, 2, 3], 0).pvalue)
    assert t_interval([1, 2, 3], null=1.5).p_value == pytest.approx(stats.ttest_1samp([1, 2, 3], 1.5).pvalue)


@pytest.mark.parametrize("values", [[], [0.4]])
def test_too_few_values_have_no_interval(values: list[float]) -> None:
    for found in (t_interval(values), bootstrap_interval(values, np.random.default_rng(0))):
        assert found.number == len(values)
        assert math.isnan(found.low)
        assert math.isnan(found.high)
        assert math.isnan(found.p_value)


def test_equal_differences() -> None:
    assert t_interval([0.5, 0.5]).p_value == 0
    assert t_interval([0.5, 0.5], null=0.5).p_value == 1
    found = bootstrap_interval([0.5, 0.5], np.random.default_rng(0))
    assert (found.low, found.high) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("values", "level", "named"),
    [
        ([[1.0]], 0.95, r"differences has shape \(1, 1\)"),
        ([1.0, math.nan], 0.95, "difference 1 is nan"),
        ([1.0, math.inf], 0.95, "difference 1 is inf"),
        ([1.0], 95, "level is 95"),
    ],
)
def test_bad_values_are_refused(values: object, level: float, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        t_interval(values, level=level)  # type: ignore[arg-type]


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
