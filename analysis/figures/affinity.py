"""Which tasks help which: what each task gains from being trained with others."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from numpy.typing import NDArray

from analysis import text
from analysis.figures.drawing import Drawing, Floats, sheet
from analysis.figures.heat import draw_cells

GAIN = "RdBu"  # red is worse, blue is better
MOST_PANELS = 6
SURE = 0.05


@dataclass(frozen=True)
class AffinityPanel:
    """One λ: gains in % (r, c), a row a set of partners, a column a task; NaN where they were not trained together."""

    title: str
    tasks: tuple[str, ...]
    partners: tuple[str, ...]
    gain: Floats
    sure: NDArray[np.bool_]  # whether the gain differs from 0, after Holm's correction


def affinity_panels(affinity: pd.DataFrame, tasks: list[str]) -> list[AffinityPanel]:
    """A panel for each λ (and method and setup, where there are several), at most `MOST_PANELS` of them."""
    telling = [*(key for key in ("setup", "method") if affinity[key].nunique() > 1), "lambda"]
    known = affinity[affinity["gain"].notna()]
    partners = sorted(known["partners"].unique(), key=lambda some: (some.count("+"), _places(some, tasks)))
    present = [task for task in tasks if task in set(known["task"])]
    groups = list(known.groupby(telling, sort=False, dropna=False))
    kept = np.unique(np.linspace(0, len(groups) - 1, min(MOST_PANELS, len(groups))).round().astype(int))
    panels = []
    for key, rows in (groups[place] for place in kept):
        gain = rows.pivot_table(index="partners", columns="task", values="gain").reindex(partners, columns=present)
        sure = rows.assign(sure=rows["adjusted_p"] < SURE).pivot_table(
            index="partners", columns="task", values="sure", aggfunc="max"
        )
        sure = sure.reindex(partners, columns=present)
        title = ", ".join([*(str(part) for part in key[:-1]), f"λ = {text.strength(float(key[-1]))}"])
        certain = np.nan_to_num(sure.to_numpy(float)) > 0
        panels.append(AffinityPanel(title, tuple(present), tuple(partners), 100 * gain.to_numpy(float), certain))
    return panels


def draw_affinity(panel: AffinityPanel, ax: Axes, largest: float) -> None:
    """Cells coloured from -`largest` to `largest` %, with their numbers; * where the gain is surely not 0."""
    labels = [
        [f"{value:+.1f}{'*' if sure else ''}".replace("-", text.MINUS) for value, sure in zip(*row, strict=True)]
        for row in zip(panel.gain, panel.sure, strict=True)
    ]
    draw_cells(ax, panel.gain, [f"with {some}" for some in panel.partners], (-largest, largest), GAIN, labels)
    ax.set_xticks(np.arange(len(panel.tasks)) + 0.5, panel.tasks)
    ax.set_title(panel.title, loc="left")


def affinity_figure(affinity: pd.DataFrame, tasks: list[str]) -> Drawing | str:
    """The matrices, or why there are none."""
    panels = affinity_panels(affinity, tasks)
    if not panels:
        return "No task was trained both alone and with others at the same λ and seed, so no affinity can be shown."
    largest = max(float(np.nanmax(np.abs(panel.gain))) for panel in panels) or 1.0
    scale = [
        Patch(
            color=colormaps[GAIN](0.5 + share / 2),
            label=f"{share * largest:+.1f} %".replace("-", text.MINUS) if share else "0 %",
        )
        for share in (-1, 0, 1)
    ]
    shown = panels[0]
    size = (max(0.55, 0.075 * max(len(task) for task in shown.tasks)) * len(shown.tasks), 0.27 * len(shown.partners))
    labels = 0.077 * max(len(f"with {some}") for some in shown.partners) + 0.2
    note = f"* differs from 0 over seeds (t-test, Holm's correction, p < {SURE:g})"
    titles = [panel.title for panel in panels]
    page = sheet(
        titles,
        scale,
        note,
        columns=3,
        size=size,
        left=labels,
        below=0.35,
    )
    for panel, ax in zip(panels, page.axes, strict=True):
        draw_affinity(panel, ax, largest)
    known = len(affinity.groupby(["setup", "method", "lambda"], dropna=False))
    some = f" {len(panels)} of {known} λ are shown." if known > len(panels) else ""
    caption = (
        "What a task (column) gains when it is trained with others (row), against the single-task model of the same λ "
        f"and seed: relative change of its primary metric on the test split, in %; + is better.{some} {note}."
    )
    return page.finish("affinity", "What a task gains from others", caption, affinity)


def _places(partners: str, tasks: list[str]) -> list[int]:
    return [tasks.index(task) for task in partners.split("+")]
