"""The axis along which a search makes models smaller: lambda of the penalty, or the cost that is to be left."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.distributions import FloatDistribution

LAMBDA, TARGET = "lambda", "target_macs"
# The dense model has no place on the axis of lambda, because 0 has no logarithm, and none among targets below 1. So
# values just beyond an end of the range stand for it, in a bin of this relative width.
DENSE_BIN = 0.9
DIGITS = 3  # of a proposed number: more would only be noise, and hide that two proposals are the same


@dataclass(frozen=True)
class Axis:
    """A parameter on a log scale, from the dense model to the smallest models.

    Attributes:
        name: the parameter's.
        values: the two ends of its range, or all allowed values if `listed`; in ascending order.
        dense: the parameter's value that stands for the dense model, below or above all others; None if the dense
            model lies on another axis.
    """

    name: str
    values: tuple[float, ...]
    listed: bool
    dense: float | None

    @property
    def distribution(self) -> FloatDistribution:
        ends = (*self.values, *([] if self.dense is None else [self.dense]))
        return FloatDistribution(min(ends), max(ends), log=True)

    def read(self, value: float) -> float | None:
        """The value that a trial has: rounded, or the nearest of the listed ones. None for the dense model."""
        if self.dense is not None:
            below = self.dense < self.values[0]
            border = math.sqrt(self.dense * self.values[0 if below else -1])
            if value < border if below else value > border:
                return None
        if self.listed:
            return self.nearest_first(value)[0]
        return rounded(value, (self.values[0], self.values[-1]))

    def nearest_first(self, value: float) -> list[float]:
        """`values`, the nearest to this one first."""
        own = math.log(max(value, self.values[0]))
        return sorted(self.values, key=lambda one: abs(math.log(one) - own))

    def contains(self, value: float) -> bool:
        """Whether a trial's value is within the range."""
        return self.values[0] <= value <= self.values[-1]

    def over_range(self, count: int) -> list[float]:
        """Values evenly over the logarithm of the range: first 1/2, then 1/4 and 3/4, and so on (van der Corput's
        sequence in base 2)."""
        low, high = math.log(self.values[0]), math.log(self.values[-1])
        places = [sum(int(bit) / 2 ** (1 + i) for i, bit in enumerate(reversed(f"{n:b}"))) for n in range(1, count + 1)]
        return [math.exp(low + place * (high - low)) for place in places]

    @property
    def ends(self) -> list[float]:
        """The ends that are worth a look whatever is known: what a target costs is known, so the smallest one is an end
        of the front, and the largest one is the best within a bound, unless it is next to the dense model. At the ends
        of lambda the models may be all dense or all gone."""
        if self.name != TARGET:
            return []
        return [*([self.values[-1]] if self.values[-1] < DENSE_BIN else []), self.values[0]]

    def first(self, count: int) -> list[float]:
        """So many values to begin with."""
        ends = self.ends[:count]
        return [*ends, *self.over_range(count - len(ends))]


def lambda_axis(values: Sequence[float], listed: bool) -> Axis:
    """values: in ascending order, above 0."""
    return Axis(LAMBDA, tuple(values), listed, values[0] * DENSE_BIN)


def target_axis(values: Sequence[float], listed: bool, *, has_dense: bool) -> Axis:
    """values: in ascending order, above 0 and below 1."""
    return Axis(TARGET, tuple(values), listed, min(1.0, values[-1] / DENSE_BIN) if has_dense else None)


def rounded(value: float, ends: tuple[float, float]) -> float:
    """Rounded, but still inside the range if its ends have more digits."""
    return min(max(float(f"{value:.{DIGITS}g}"), ends[0]), ends[1])
