"""What the figures share: their style, a finished drawing, and the sheet of panels that it is drawn on."""

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figures.palette import GRID, GROUND, INK, SOFT

DPI = 150
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
Line = Literal["-", "--", "-.", ":"]
LINES: tuple[Line, ...] = ("-", "--", "-.", ":")

Floats = NDArray[np.float64]


# Of every panel, in inches: right of it, and the height of a legend's entry.
RIGHT, ENTRY = 0.15, 0.22


class Box(NamedTuple):
    """A part of a drawing, in points from its left upper corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Drawing:
    """A finished figure in both formats, with the words that stand beside it and the numbers it shows.

    `panels` and `entries` are where the SVG's groups `panel-0`, ... and (of the legend) `entry-0`, ... lie, so that a
    page can lay them out anew in its own width; `columns` is how many panels stand side by side on paper.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    png: bytes
    svg: str
    panels: tuple[Box, ...]
    entries: tuple[Box, ...]
    columns: int


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


@dataclass(frozen=True)
class Sheet:
    """A figure of like panels in rows, with a legend and a note below: its axes are to be drawn on, then `finish`."""

    figure: Figure
    axes: tuple[Axes, ...]
    panels: tuple[Box, ...]
    entries: tuple[Box, ...]
    columns: int

    def finish(self, name: str, title: str, caption: str, data: pd.DataFrame) -> Drawing:
        """Both file formats, the same bytes for the same numbers."""
        FigureCanvasAgg(self.figure)
        png, svg = io.BytesIO(), io.BytesIO()
        self.figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
        with matplotlib.rc_context({"svg.hashsalt": name}):
            nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
            self.figure.savefig(svg, format="svg", metadata=nothing)
        drawn = png.getvalue(), svg.getvalue().decode()
        return Drawing(name, title, caption, data, *drawn, self.panels, self.entries, self.columns)


def sheet(
    titles: list[str],
    handles: Sequence[Artist],
    note: str,
    *,
    columns: int = 4,
    size: tuple[float, float] | None = None,
    heights: Sequence[float] = (),
    left: float = 0.82,
    below: float = 0.5,
) -> Sheet:
    """A sheet with a panel for each title, of `size` inches without its labels.

    Where no size is asked for, one or two panels are larger than many; `heights` are those of panels that differ.
    `left` is what the y labels need, `below` what the x labels do, in inches. The margins are reckoned rather than
    found by a layout engine, which would draw everything several times; and a panel has all of its labels, so that it
    can stand alone.
    """
    rows = math.ceil(len(titles) / columns)
    columns = math.ceil(len(titles) / rows)
    size = size or ((3.7, 2.7) if len(titles) <= 2 else (2.15, 1.9))
    top = 0.2 + 0.17 * max(title.count("\n") + 1 for title in titles)
    heights = heights or [size[1]] * len(titles)
    of_rows = [max(heights[row * columns : (row + 1) * columns]) + top + below for row in range(rows)]
    cell = left + size[0] + RIGHT
    width = max(columns * cell, 3.5)
    lines = _lines([0.072 * len(str(handle.get_label())) + 0.6 for handle in handles], width)
    height = sum(of_rows) + 0.1 + ENTRY * len(lines) + 0.3
    figure = Figure(figsize=(width, height))
    axes, panels = [], []
    for place, panel in enumerate(heights):
        row, column = divmod(place, columns)
        x, y = column * cell, sum(of_rows[:row])
        bottom = height - y - top - panel
        axes.append(figure.add_axes(((x + left) / width, bottom / height, size[0] / width, panel / height)))
        axes[-1].set_gid(f"panel-{place}")
        panels.append(Box(*(72 * inches for inches in (x, y, cell, top + panel + below))))
    entries: list[Box] = []
    for number, line in enumerate(lines):
        x, y = (width - sum(line)) / 2, sum(of_rows) + 0.1 + number * ENTRY
        for entry in line:
            # A legend for each entry, as one for all could not be laid out anew.
            legend = figure.legend(
                handles=[handles[len(entries)]],
                loc="upper left",
                bbox_to_anchor=(x / width, 1 - y / height),
                borderaxespad=0,
                borderpad=0.2,
            )
            legend.set_gid(f"entry-{len(entries)}")
            entries.append(Box(*(72 * inches for inches in (x, y, entry, ENTRY))))
            x += entry
    figure.text(0.5, 0.1 / height, note, ha="center", va="bottom", fontsize=8, color=SOFT.light)
    return Sheet(figure, tuple(axes), tuple(panels), tuple(entries), columns)


def share_y(axes: Sequence[Axes]) -> None:
    """Gives panels that show the same quantity the same y limits."""
    low = min(ax.get_ylim()[0] for ax in axes)
    high = max(ax.get_ylim()[1] for ax in axes)
    for ax in axes:
        ax.set_ylim(low, high)


def _lines(widths: list[float], most: float) -> list[list[float]]:
    """The widths in lines of at most `most` inches."""
    lines: list[list[float]] = []
    for width in widths:
        if not lines or sum(lines[-1]) + width > most:
            lines.append([])
        lines[-1].append(width)
    return lines
