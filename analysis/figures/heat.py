"""A table of shares or changes as coloured cells, each with its number where there is room for one."""

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

from analysis.figures.drawing import Floats
from analysis.figures.palette import GREY, GROUND

# Not in the palette, so that they stay as they are in the dark: the ground of a cell does as well.
ON_LIGHT, ON_DARK = "#010102", "#fefeff"
CELL = 8 / 9  # letters of cells, as a share of the figure's: 8 points on a screen, and 8 pixels on a phone
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)


def draw_cells(
    ax: Axes,
    values: Floats,
    rows: list[str],
    limits: tuple[float, float],
    colors: str,
    labels: list[list[str]] | None = None,
) -> None:
    """Cells (r, c) from the top down, coloured by matplotlib's map `colors` between `limits`; NaN has no cell.

    Cells are drawn as shapes, not as a picture, so that they stay sharp in print.
    """
    low, high = limits
    places = [(int(row), int(column)) for row, column in np.argwhere(np.isfinite(values))]
    shades = colormaps[colors](np.clip((np.array([values[place] for place in places]) - low) / (high - low), 0, 1))
    corners = [[(x, y), (x + 1, y), (x + 1, y + 1), (x, y + 1)] for y, x in places]
    ax.add_collection(PolyCollection(corners, facecolors=shades, edgecolors=GROUND.light, linewidths=0.5))
    for (row, column), shade in zip(places, shades, strict=True):
        if labels is not None:
            ink = ON_LIGHT if np.dot(shade[:3], LUMINANCE) > 0.5 else ON_DARK
            at = (column + 0.5, row + 0.5)
            ax.text(
                *at, labels[row][column], ha="center", va="center", fontsize=CELL * rcParams["font.size"], color=ink
            )
    ax.set_xlim(0, values.shape[1])
    ax.set_ylim(len(rows), 0)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def mark_stages(ax: Axes, stages: list[str]) -> None:
    """Names each run of equal `stages`, (c,), below its columns, with a line between one and the next."""
    starts = [place for place, stage in enumerate(stages) if place == 0 or stage != stages[place - 1]]
    ends = [*starts[1:], len(stages)]
    for start in starts[1:]:
        ax.axvline(start, color=GREY.light, linewidth=0.8)
    # A stage narrower than its name leaves it to its neighbour.
    width = len(stages) / 34
    names, free = [], 0.0
    for start, end in zip(starts, ends, strict=True):
        middle, half = (start + end) / 2, width * len(stages[start]) / 2
        fits = middle - half >= free
        names.append(stages[start] if fits else "")
        free = middle + half if fits else free
    ax.set_xticks(
        [(start + end) / 2 for start, end in zip(starts, ends, strict=True)],
        names,
        fontsize=CELL * rcParams["font.size"],
    )
