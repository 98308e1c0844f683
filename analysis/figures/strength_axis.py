"""The λ axis, on which the dense model has a place."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from analysis import text
from analysis.figures.drawing import Floats
from analysis.figures.palette import INK


class StrengthAxis:
    """A logarithmic λ axis on which λ = 0 has a place of its own, left of a break."""

    def __init__(self, strengths: Sequence[float]) -> None:
        self.strengths = sorted(set(strengths))
        logs = [math.log10(value) for value in self.strengths if value > 0]
        self.low, self.high = (min(logs), max(logs)) if logs else (0.0, 0.0)
        self.gap = max(0.5, 0.28 * (self.high - self.low))

    @property
    def zero(self) -> float:
        """Where λ = 0 stands."""
        return self.low - self.gap

    def positions(self, strengths: Floats) -> Floats:
        """Places on the axis, (n,): log10 λ, and `zero` for λ = 0."""
        return np.array([math.log10(value) if value > 0 else self.zero for value in strengths])

    def prepare(self, ax: Axes) -> None:
        """Sets limits, ticks, label and the mark of the break."""
        first = self.zero if self.strengths[0] == 0 else self.low
        last = max(self.high, first) if self.strengths[-1] > 0 else first
        margin = 0.06 * (last - first) + 0.05
        ticks = self._ticks()
        places = self.positions(np.array(ticks)).tolist()
        ax.set_xticks(places, _apart(places, [text.strength(value) for value in ticks], 0.17 * (last - first)))
        ax.set_xlim(first - margin, last + margin)
        ax.set_xlabel("λ")
        if self.strengths[0] == 0 and last > first:
            at = self.zero + self.gap / 2
            lean = 0.012 * (last - first)
            for shift in (-lean, lean):
                mark = ([at + shift - lean, at + shift + lean], [-0.025, 0.025])
                ax.plot(*mark, color=INK.light, linewidth=0.8, transform=ax.get_xaxis_transform(), clip_on=False)

    def _ticks(self) -> list[float]:
        positive = [value for value in self.strengths if value > 0]
        if len(positive) > 5 or self.high - self.low > 5:
            # Proposed rather than listed strengths: whole decades, every second or third where they are many.
            step = max(1, math.ceil((self.high - self.low) / 5))
            decades = [10.0**power for power in range(math.ceil(self.low), math.floor(self.high) + 1, step)]
            positive = decades or [positive[0], positive[-1]]
        return [0.0] * (self.strengths[0] == 0) + positive


def _apart(places: Sequence[float], labels: Sequence[str], least: float) -> list[str]:
    """The labels of an axis, without those that stand nearer than `least` to the last one kept."""
    kept: list[str] = []
    at = -math.inf
    for place, label in zip(places, labels, strict=True):
        near = place - at < least
        kept.append("" if near else label)
        at = at if near else place
    return kept
