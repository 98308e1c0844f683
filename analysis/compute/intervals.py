"""Confidence intervals of a mean of paired differences, and Holm's correction for several tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
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


def t_interval(differences: ArrayLike, *, null: float = 0.0, level: float = LEVEL) -> Interval:
    """Student's interval: exact for normal differences, however few (Student 1908).

    Differences that are all equal, n >= 2, have an interval of no width, and p = 1 where they equal `null`, else 0.

    Args:
        differences: (n,), one for each pair; n may be 0.
        null: the mean under the hypothesis that `p_value` is of.
        level: coverage, in (0, 1).

    Raises:
        BadInput: not one-dimensional, a value that is not finite, or another level.
    """
    values = _checked(differences, level)
    mean, number = float(values.mean()) if len(values) else math.nan, len(values)
    if number < 2:
        return Interval(mean, math.nan, math.nan, math.nan, null, number)
    error = float(values.std(ddof=1)) / math.sqrt(number)
    half = float(stats.t.ppf((1 + level) / 2, number - 1)) * error
    return Interval(mean, mean - half, mean + half, _t_p_value(mean - null, error, number), null, number)


def bootstrap_interval(
    differences: ArrayLike,
    generator: np.random.Generator,
    *,
    null: float = 0.0,
    level: float = LEVEL,
    resamples: int = 9999,
) -> Interval:
    """The bias-corrected and accelerated bootstrap interval (Efron 1987): no normality asked for, but a hundred values.

    With five seeds it is too narrow, as 126 different resamples are all there are; `t_interval` is for those.
    `p_value` is that of Student's t, as an inverted bootstrap can give no value below 1 / `resamples`.

    Args:
        differences: (n,), one for each pair; n may be 0.
        generator: draws the resamples.
        null: the mean under the hypothesis that `p_value` is of.
        level: coverage, in (0, 1).
        resamples: how many.

    Raises:
        BadInput: as `t_interval`.
    """
    values = _checked(differences, level)
    plain = t_interval(values, null=null, level=level)
    if len(values) < 2 or np.ptp(values) == 0:
        return plain
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=resamples, confidence_level=level, method="BCa", rng=generator
    ).confidence_interval
    return Interval(plain.mean, float(found.low), float(found.high), plain.p_value, null, plain.number)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values that may each be compared with the level that all tests share (Holm 1979).

    The i-th smallest of m is multiplied by m - i + 1, then none is smaller than one before it. A NaN, a test that
    could not be made, stays NaN and does not count.
    """
    adjusted = [math.nan] * len(p_values)
    order = sorted((place for place, p in enumerate(p_values) if not math.isnan(p)), key=lambda place: p_values[place])
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _t_p_value(distance: float, error: float, number: int) -> float:
    if error == 0:
        return 1.0 if distance == 0 else 0.0
    return float(2 * stats.t.sf(abs(distance) / error, number - 1))


def _checked(differences: ArrayLike, level: float) -> NDArray[np.float64]:
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1:
        raise BadInput(f"differences has shape {values.shape}; it must be (n,)")
    broken = np.flatnonzero(~np.isfinite(values))
    if len(broken):
        raise BadInput(f"difference {broken[0]} is {values[broken[0]]}; every value must be finite")
    if not 0 < level < 1:
        raise BadInput(f"level is {level}; it must lie between 0 and 1")
    return values
