"""What the figures share: their style, panels with a legend and a note on one sheet, and the finished drawing."""

import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figures.labels import SMALL, place_labels
from analysis.figures.palette import GRID, GROUND, INK, SOFT

DPI = 150
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
Line = Literal["-", "--", "-.", ":"]
LINES: tuple[Line, ...] = ("-", "--", "-.", ":")

Floats = NDArray[np.float64]


# Of every panel, in inches: right of it, and the height of a legend's entry.
RIGHT, ENTRY = 0.15, 0.22
# Of the columns and of the text of a two-column journal, in inches.
COLUMN, PAGE = 3.3, 6.9
LETTER = 0.065  # inches, of a title on paper
NARROWEST = 1.2  # inches that a panel keeps beside its labels, before fewer stand side by side


class Type(NamedTuple):
    """Sizes of letters, in points."""

    text: float
    title: float
    note: float


SCREEN, PAPER = Type(9, 9.5, 8), Type(8, 8, 7)


class Box(NamedTuple):
    """A part of a drawing, in points from its left upper corner."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Print:
    """A figure for print, in the two formats that scale."""

    name: str
    figure: Figure

    @property
    def svg(self) -> str:
        with style():
            return _svg(self.figure, self.name)

    @property
    def pdf(self) -> bytes:
        with style():
            return _pdf(self.figure)


@dataclass(frozen=True)
class Drawing:
    """A finished figure, with the words that stand beside it and the numbers it shows.

    `png` and `svg` are for screens; `paper` draws the same for print. `panels` and `entries` are where the SVG's groups
    `panel-0`, ... and (of the legend) `entry-0`, ... lie, so that a page can lay them out anew in its own width;
    `columns` is how many panels stand side by side.
    """

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    png: bytes
    svg: str
    compose: Callable[[float], Figure] = field(repr=False, compare=False)
    panels: tuple[Box, ...]
    entries: tuple[Box, ...]
    columns: int

    def paper(self, inches: float = PAGE) -> "Print":
        """Drawn anew so wide, with letters of 7 and 8 points: `COLUMN`, 3.3 in, or `PAGE`, 6.9 in, need no
        scaling. A figure whose labels leave no room in a column is drawn for the page."""
        with style(), matplotlib.rc_context({"font.size": PAPER.text, "axes.titlesize": PAPER.title}):
            return Print(self.name, self.compose(inches))

    def __repr__(self) -> str:
        """Short: a notebook keeps it beside the picture."""
        return f"Drawing({self.name!r}, {self.title!r})"

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return self.png


def style() -> AbstractContextManager[None]:
    """The look of all figures, within the block."""
    return matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "pdf.fonttype": 42,  # letters that a publisher's check accepts and a reader can select
            "font.size": SCREEN.text,
            "axes.titlesize": SCREEN.title,
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


class Words(NamedTuple):
    """What stands beside a drawing: its name in file names, title, caption, and the note below its legend."""

    name: str
    title: str
    caption: str  # the note is added to it
    note: str


@dataclass(frozen=True)
class Panel:
    """One panel of a figure: what it shows, as rows of the figure's data."""

    title: str
    rows: pd.DataFrame
    y_label: str = ""
    height: float | None = None  # inches, where it differs from the layout's


@dataclass(frozen=True)
class Layout:
    """How panels are laid out, in inches; a panel has all of its labels, so that it can stand alone.

    Attributes:
        columns: at most so many panels stand side by side.
        size: of a panel without its labels; where it is None, one or two panels are larger than many.
        left, below: what the y labels and the x labels need.
        letters: after so many, a title is broken at a "+".
        title_left: how far left of its panel a title begins.
        share_y: whether panels with the same y label have the same y limits.
    """

    columns: int = 4
    size: tuple[float, float] | None = None
    left: float = 0.82
    below: float = 0.5
    letters: int = 28
    title_left: float = 0.0
    share_y: bool = False


def draw_sheet(
    words: Words,
    panels: Sequence[Panel],
    draw: Callable[[pd.DataFrame, Axes], None],
    handles: Sequence[Artist],
    layout: Layout | None = None,
    data: pd.DataFrame | None = None,
) -> Drawing:
    """The panels, each drawn from its rows, with a legend and the note below: the same bytes for the same numbers.

    The margins are calculated rather than found by a layout engine, which would draw everything several times.

    Args:
        words: what stands beside it.
        panels: at least one.
        draw: draws a panel's rows.
        handles: the entries of the legend.
        layout: the default one where it is None.
        data: the numbers of the figure; the rows of all panels where it is None.
    """
    layout = layout or Layout()
    handles = list(handles)

    def compose(inches: float | None) -> _Sheet:
        return _composed(words, panels, draw, handles, layout, inches)

    sheet = compose(None)
    data = pd.concat([panel.rows for panel in panels], ignore_index=True) if data is None else data
    png = _png(sheet.figure)
    return Drawing(
        words.name,
        words.title,
        f"{words.caption} {words.note}.",
        data,
        png,
        _svg(sheet.figure, words.name),
        lambda inches: compose(inches).figure,
        tuple(sheet.panels),
        tuple(sheet.entries),
        sheet.columns,
    )


class _Sheet(NamedTuple):
    figure: Figure
    panels: list[Box]
    entries: list[Box]
    columns: int


def _composed(
    words: Words,
    panels: Sequence[Panel],
    draw: Callable[[pd.DataFrame, Axes], None],
    handles: Sequence[Artist],
    layout: Layout,
    inches: float | None,
    more_left: float = 0.0,
) -> _Sheet:
    """The sheet, so wide on paper, or as wide as its panels need on a screen."""
    kind = SCREEN if inches is None else PAPER
    shrink = kind.text / SCREEN.text
    # Numbers may have a digit more than usual, and paper has no room beside it: what is left of a panel stays as wide.
    left = layout.left + more_left
    below, title_left = shrink * layout.below, shrink * layout.title_left
    if inches is not None and inches - left - RIGHT < NARROWEST:
        inches = PAGE  # its labels alone fill a column
    size = layout.size or ((3.7, 2.7) if len(panels) <= 2 else (2.15, 1.9))
    most = layout.columns
    if inches is not None:
        most = max(1, min(most, int(inches / (left + max(NARROWEST, 0.6 * size[0] * bool(layout.size)) + RIGHT))))
    rows = math.ceil(len(panels) / most)
    columns = math.ceil(len(panels) / rows)
    if inches is not None:
        across = inches / columns - left - RIGHT
        # Of panels whose height is not that of their rows, the shape is kept, within what suits a column of text.
        high = size[1] if layout.size else min(max(0.72 * across, 1.3), 2.4)
        size = (across, high)
    letters = layout.letters if inches is None else int((title_left + size[0] + RIGHT) / LETTER)
    titles = [wrapped(panel.title, letters) for panel in panels]
    top = 0.2 + 0.17 * shrink * max(title.count("\n") + 1 for title in titles)
    heights = [panel.height or size[1] for panel in panels]
    of_rows = [max(heights[row * columns : (row + 1) * columns]) + top + below for row in range(rows)]
    cell = left + size[0] + RIGHT
    width = max(columns * cell, 3.5) if inches is None else inches
    lines = _lines([shrink * (0.072 * len(str(handle.get_label())) + 0.6) for handle in handles], width)
    entry_height = shrink * ENTRY
    note = words.note if inches is None else "\n".join(textwrap.wrap(words.note, int(inches / 0.052)))
    height = sum(of_rows) + 0.1 + entry_height * len(lines) + 0.3 + 0.12 * note.count("\n")
    figure = Figure(figsize=(width, height))
    axes, boxes = [], []
    for place, (panel, title, inner) in enumerate(zip(panels, titles, heights, strict=True)):
        row, column = divmod(place, columns)
        x, y = column * cell, sum(of_rows[:row])
        bottom = height - y - top - inner
        ax = figure.add_axes(((x + left) / width, bottom / height, size[0] / width, inner / height))
        ax.set_gid(f"panel-{place}")
        draw(panel.rows, ax)
        ax.set_title(title, loc="left", x=-title_left / size[0])
        if panel.y_label:
            # A long label would be taller than a low panel.
            tall = inches is not None and "\n" not in panel.y_label and 0.058 * len(panel.y_label) > inner
            ax.set_ylabel(",\n".join(panel.y_label.rsplit(", ", 1)) if tall else panel.y_label)
        axes.append(ax)
        boxes.append(Box(*(72 * part for part in (x, y, cell, top + inner + below))))
    if layout.share_y:
        for label in {panel.y_label for panel in panels}:
            alike = [ax for panel, ax in zip(panels, axes, strict=True) if panel.y_label == label]
            limits = [ax.get_ylim() for ax in alike]
            for ax in alike:
                ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    canvas = FigureCanvasAgg(figure)
    if inches is not None and not more_left:
        # Numbers may have more digits than usual, and paper has no room beside them.
        extents = [ax.yaxis.get_tightbbox(canvas.get_renderer()) for ax in axes]
        beyond = max(box.x / 72 - one.x0 / figure.dpi for box, one in zip(boxes, extents, strict=True) if one)
        if beyond > 0:
            return _composed(words, panels, draw, handles, layout, inches, beyond + 0.03)
    for ax in axes:
        place_labels(ax, SMALL * shrink)
    entries: list[Box] = []
    for number, line in enumerate(lines):
        x, y = (width - sum(line)) / 2, sum(of_rows) + 0.1 + number * entry_height
        for entry in line:
            # Each entry is a legend of its own, so that a page can lay the entries out anew.
            legend = figure.legend(
                handles=[handles[len(entries)]],
                loc="upper left",
                bbox_to_anchor=(x / width, 1 - y / height),
                borderaxespad=0,
                borderpad=0.2,
            )
            legend.set_gid(f"entry-{len(entries)}")
            entries.append(Box(*(72 * part for part in (x, y, entry, entry_height))))
            x += entry
    figure.text(0.5, 0.1 / height, note, ha="center", va="bottom", fontsize=kind.note, color=SOFT.light)
    return _Sheet(figure, boxes, entries, columns)


def _png(figure: Figure) -> bytes:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    return png.getvalue()


def _svg(figure: Figure, name: str) -> str:
    svg = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return svg.getvalue().decode()


def _pdf(figure: Figure) -> bytes:
    pdf = io.BytesIO()
    figure.savefig(pdf, format="pdf", metadata={"Creator": None, "Producer": None, "CreationDate": None})
    return pdf.getvalue()


def _lines(widths: list[float], most: float) -> list[list[float]]:
    """The widths in lines of at most `most` inches."""
    lines: list[list[float]] = []
    for width in widths:
        if not lines or sum(lines[-1]) + width > most:
            lines.append([])
        lines[-1].append(width)
    return lines


def wrapped(title: str, letters: int) -> str:
    """Breaks a line that is too long after a "+" or a comma."""
    lines: list[str] = []
    for part in re.split(r"(?<=[+\n])|(?<=, )", title):
        if not lines or lines[-1].endswith("\n") or len(lines[-1]) + len(part.rstrip()) > letters:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)
