"""The λ axis, on which the dense model has a place."""

import math
from collections.abc import Iterable

from matplotlib.axes import Axes

from analysis import text
from analysis.figures.palette import INK


def strength_axis(ax: Axes, strengths: Iterable[float]) -> None:
    """Makes the x axis a logarithmic one of λ, on which λ = 0 has a place of its own, left of a break.

    Between 0 and the smallest λ > 0 the axis is linear (matplotlib's symlog), but nothing is drawn there.
    """
    known = sorted(set(strengths))
    logs = [math.log10(value) for value in known if value > 0] or [0.0]
    low, high = logs[0], logs[-1]
    smallest = 10.0**low
    gap = max(0.5, 0.28 * (high - low))  # decades from 0 to the smallest λ > 0
    zero = low - gap
    first = zero if known[0] == 0 else low
    last = high if known[-1] > 0 else first
    margin = 0.06 * (last - first) + 0.05
    if known[0] == 0:
        # symlog makes the linear part 1 / 0.9 times as wide as `linscale` decades.
        ax.set_xscale("symlog", linthresh=smallest, linscale=0.9 * gap)
        left = -margin / gap * smallest
    else:
        ax.set_xscale("log")
        left = 10 ** (low - margin)
    ax.set_xlim(left, 10 ** (high + margin) if known[-1] > 0 else -left)
    ax.set_xlabel("λ")

    positive = [value for value in known if value > 0]
    if len(positive) > 5 or high - low > 5:
        # Proposed rather than listed strengths: whole decades, every second or third where they are many.
        step = max(1, math.ceil((high - low) / 5))
        decades = [10.0**power for power in range(math.ceil(low), math.floor(high) + 1, step)]
        positive = decades or [positive[0], positive[-1]]
    ticks = [0.0] * (known[0] == 0) + positive
    labels, free = [], -math.inf
    for value in ticks:
        place = math.log10(value) if value > 0 else zero
        labels.append(text.strength(value) if place >= free else "")
        free = place + 0.17 * (last - first) if place >= free else free
    ax.set_xticks(ticks, labels)
    ax.set_xticks([], minor=True)
    if known[0] == 0 and last > first:
        lean = 0.012 * (last - first)
        for middle in (gap / 2 - lean, gap / 2 + lean):
            mark = [smallest * (middle - lean) / gap, smallest * (middle + lean) / gap], [-0.025, 0.025]
            ax.plot(*mark, color=INK.light, linewidth=0.8, transform=ax.get_xaxis_transform(), clip_on=False)
