"""What the figures share: their style, the λ axis, the grid of panels, and the two file formats."""

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis import text
from analysis.figures.palette import GRID, GROUND, INK, SOFT

DPI = 150
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
Line = Literal["-", "--", "-.", ":"]
LINES: tuple[Line, ...] = ("-", "--", "-.", ":")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Drawing:
    """A finished figure in both formats, with the words that stand beside it and the numbers it shows."""

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    png: bytes
    svg: str


def style() -> AbstractContextManager[None]:
    """The look of all figures, within the block."""
    return matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "font.size": 9,
            "axes.titlesize": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": GRID.light,
            "text.color": INK.light,
            "axes.labelcolor": INK.light,
            "axes.edgecolor": INK.light,
            "xtick.color": INK.light,
            "ytick.color": INK.light,
            "figure.facecolor": GROUND.light,
            "axes.facecolor": GROUND.light,
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "legend.frameon": False,
        }
    )


class StrengthAxis:
    """A logarithmic λ axis on which λ = 0 has a place of its own, left of a break."""

    def __init__(self, strengths: Sequence[float]) -> None:
        self.strengths = sorted(set(strengths))
        logs = [math.log10(value) for value in self.strengths if value > 0]
        self.low, self.high = (min(logs), max(logs)) if logs else (0.0, 0.0)
        self.gap = max(0.5, 0.2 * (self.high - self.low))

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


def grid(
    titles: list[str],
    handles: Sequence[Artist],
    note: str,
    *,
    columns: int = 4,
    size: tuple[float, float] | None = None,
    between: float = 0.5,
    left: float = 0.9,
    below: float = 0.5,
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel of `size` inches for each title, row by row, and a legend and a note below.

    Where no size is asked for, one or two panels are larger than many. `left` and `between` are what the y labels of a
    row's first panel and of the next ones need, `below` what the x labels do, in inches. The margins are reckoned
    rather than found by a layout engine, which would draw everything several times.
    """
    rows = math.ceil(len(titles) / columns)
    columns = math.ceil(len(titles) / rows)
    size = size or ((3.7, 2.7) if len(titles) <= 2 else (2.3, 2.0))
    top = 0.15 + 0.17 * max(title.count("\n") + 1 for title in titles)
    right = 0.15
    between_rows = below + top
    width = left + columns * size[0] + (columns - 1) * between + right
    needed = [0.07 * len(str(handle.get_label())) + 0.65 for handle in handles] or [0.0]
    in_legend = len(handles) if sum(needed) < width - left else max(1, int(width / max(needed)))
    legend = 0.21 * math.ceil(len(handles) / in_legend) + 0.1
    bottom = below + legend + 0.25
    height = top + rows * size[1] + (rows - 1) * between_rows + bottom
    figure = Figure(figsize=(width, height))
    axes = []
    for place in range(len(titles)):
        row, column = divmod(place, columns)
        x = left + column * (size[0] + between)
        y = height - top - (row + 1) * size[1] - row * between_rows
        axes.append(figure.add_axes((x / width, y / height, size[0] / width, size[1] / height)))
    if handles:
        figure.legend(
            handles=handles, loc="lower center", bbox_to_anchor=(0.5, 0.22 / height), ncols=in_legend, borderaxespad=0
        )
    figure.text(0.5, 0.1 / height, note, ha="center", va="bottom", fontsize=8, color=SOFT.light)
    return figure, axes


def share_y(axes: list[Axes]) -> None:
    """Gives panels that show the same quantity the same y limits."""
    low = min(ax.get_ylim()[0] for ax in axes)
    high = max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(low, high)


def label_left(axes: list[Axes]) -> None:
    """Keeps the y label of the leftmost panels only, for panels that all have the same."""
    left = min(ax.get_position().x0 for ax in axes)
    for ax in axes:
        if ax.get_position().x0 > left + 1e-6:
            ax.set_ylabel("")


def finish(figure: Figure, name: str, title: str, caption: str, data: pd.DataFrame) -> Drawing:
    """Both file formats of a figure, the same bytes for the same numbers."""
    FigureCanvasAgg(figure)
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Drawing(name, title, caption, data, png.getvalue(), svg.getvalue().decode())
