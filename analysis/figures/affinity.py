"""Which tasks help which: what each task gains from being trained with others."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from analysis import text
from analysis.figures.curves import evenly, several
from analysis.figures.drawing import Drawing, Layout, Panel, Words, draw_sheet
from analysis.figures.heat import draw_cells

GAIN = "RdBu"  # red is worse, blue is better
MOST_PANELS = 6
SURE = 0.05


def affinity_panels(affinity: pd.DataFrame) -> list[Panel]:
    """A panel for each λ (and method and setup, where there are several), at most `MOST_PANELS` of them."""
    known = affinity[affinity["gain"].notna()]
    groups = list(known.groupby([*several(affinity)[::-1], "lambda"], sort=False, dropna=False))
    return [
        Panel(", ".join([*(str(part) for part in key[:-1]), f"λ = {text.strength(float(key[-1]))}"]), rows)
        for key, rows in (groups[place] for place in evenly(len(groups), MOST_PANELS))
    ]


def draw_affinity(rows: pd.DataFrame, ax: Axes, tasks: list[str], partners: list[str], largest: float) -> None:
    """Gains in %, a row per set of partners, a column per task, coloured from -`largest` to `largest`.

    * where the gain differs from 0 after Holm's correction; no cell where tasks were not trained together.
    """
    cells = rows.assign(gain=100 * rows["gain"], sure=(rows["adjusted_p"] < SURE).astype(float))
    gain, sure = (
        cells.pivot_table(index="partners", columns="task", values=name).reindex(partners, columns=tasks).to_numpy()
        for name in ("gain", "sure")
    )
    labels = [
        [_signed(value) + "*" * bool(star > 0) for value, star in zip(*row, strict=True)]
        for row in zip(gain, sure, strict=True)
    ]
    draw_cells(ax, gain, [f"with {some}" for some in partners], (-largest, largest), GAIN, labels)
    ax.set_xticks(np.arange(len(tasks)) + 0.5, tasks)


def affinity_figure(affinity: pd.DataFrame, tasks: list[str]) -> Drawing | str:
    """The matrices, or why there are none."""
    panels = affinity_panels(affinity)
    if not panels:
        return "No task was trained both alone and with others at the same λ and seed, so no affinity can be shown."
    known = affinity[affinity["gain"].notna()]
    present = [task for task in tasks if task in set(known["task"])]
    partners = sorted(
        known["partners"].unique(),
        key=lambda some: (some.count("+"), [tasks.index(task) for task in some.split("+")]),
    )
    largest = 100 * max(float(panel.rows["gain"].abs().max()) for panel in panels) or 1.0
    scale = [
        Patch(color=colormaps[GAIN](0.5 + share / 2), label=f"{_signed(share * largest)} %" if share else "0 %")
        for share in (-1, 0, 1)
    ]
    labels = 0.077 * max(len(f"with {some}") for some in partners)
    layout = Layout(
        columns=3,
        size=(max(0.55, 0.075 * max(map(len, present))) * len(present), 0.27 * len(partners)),
        left=labels + 0.2,
        letters=40,
        title_left=labels + 0.1,
        below=0.35,
    )
    all_panels = len(affinity.groupby(["setup", "method", "lambda"], dropna=False))
    some = f" {len(panels)} of {all_panels} λ are shown." if all_panels > len(panels) else ""
    caption = (
        "What a task (column) gains when it is trained with others (row), against the single-task model of the same λ "
        f"and seed: relative change of its primary metric on the test split, in %; + is better.{some}"
    )
    note = f"* differs from 0 over seeds (t-test, Holm's correction, p < {SURE:g})"
    words = Words("affinity", "What a task gains from others", caption, note)

    def draw(rows: pd.DataFrame, ax: Axes) -> None:
        draw_affinity(rows, ax, present, partners, largest)

    return draw_sheet(words, panels, draw, scale, layout, affinity)


def _signed(percent: float) -> str:
    return f"{percent:+.1f}".replace("-", text.MINUS)
