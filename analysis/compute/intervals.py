"""Confidence intervals of a mean of paired differences, and Holm's correction for several tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from mtl.errors import BadInput

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes:
        mean: NaN without a value.
        low, high: the ends; NaN where fewer than two values say nothing of the spread.
        p_value: two-sided, of the mean being `null`; NaN with the ends.
        null: the value tested against.
        number: how many values.
    """

    mean: float
    low: float
    high: float
    p_value: float
    null: float
    number: int


def t_interval(differences: ArrayLike, *, null: float = 0.0) -> Interval:
    """Student's 95 % interval: exact for normal differences, however few (Student 1908).

    Differences that are all equal, n >= 2, have an interval of no width, and p = 1 where they equal `null`, else 0.

    Args:
        differences: (n,), one for each pair; n may be 0.
        null: the mean under the hypothesis that `p_value` is of.

    Raises:
        BadInput: a value that is not finite.
    """
    values = np.asarray(differences, dtype=float)
    if not np.isfinite(values).all():
        raise BadInput(f"difference {values[~np.isfinite(values)][0]}; every value must be finite")
    mean, number = float(values.mean()) if len(values) else math.nan, len(values)
    if number < 2:
        return Interval(mean, math.nan, math.nan, math.nan, null, number)
    error = float(values.std(ddof=1)) / math.sqrt(number)
    half = float(stats.t.ppf((1 + LEVEL) / 2, number - 1)) * error
    distance = abs(mean - null)
    p_value = float(2 * stats.t.sf(distance / error, number - 1)) if error else float(distance == 0)
    return Interval(mean, mean - half, mean + half, p_value, null, number)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values that may each be compared with the level that all tests share (Holm 1979).

    The i-th smallest of m is multiplied by m - i + 1, then none is smaller than one before it. A NaN, a test that
    could not be made, stays NaN and does not count.
    """
    adjusted = np.array(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(adjusted))
    order = known[np.argsort(adjusted[known], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.maximum.accumulate(np.minimum(factors * adjusted[order], 1.0))
    return adjusted.tolist()
