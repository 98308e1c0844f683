"""Empirical attainment surfaces: what a quarter, half and three quarters of the seeds reach or exceed."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.figures.curves import colors_of, floats, wrapped
from analysis.figures.drawing import Drawing, Floats, share_y, sheet
from analysis.figures.fronts import measure
from analysis.figures.palette import INK, PALE
from analysis.read.load import Sweep

LEVELS = (25, 50, 75)


@dataclass(frozen=True)
class Staircase:
    """A surface's corners by rising group sparsity: up to `x[i]` and beyond `x[i - 1]`, `y[i]` is attained."""

    x: Floats  # %
    y: Floats  # Δm in %, a metric in its own unit

    def at(self, places: Floats) -> Floats:
        """The best value attained at each of `places`, (n,); NaN beyond the last corner."""
        corner = np.searchsorted(self.x, places, side="left")
        return np.append(self.y, np.nan)[np.minimum(corner, len(self.y))]


@dataclass(frozen=True)
class AttainmentPanel:
    """One combination's surfaces by level; a level that too few seeds attain anywhere is not there."""

    combination: str
    y_label: str
    seeds: int
    surfaces: dict[int, Staircase]
    color: str


def attainment_panels(sweep: Sweep, marked: pd.DataFrame, attainment: pd.DataFrame) -> list[AttainmentPanel]:
    """A panel for each combination whose front trades group sparsity against one other objective."""
    colors, panels = colors_of(marked), []
    of_tasks = dict(list(attainment.groupby("tasks")))
    for combination in (tasks for tasks in colors if tasks in of_tasks):
        rows = of_tasks[combination]
        columns = str(rows["objectives"].iloc[0]).split("+")
        others = [column for column in columns if column != "group_sparsity"]
        if len(columns) != 2 or len(others) != 1:
            continue
        label, scale = measure(sweep, others[0])
        surfaces = {}
        for level, corners in rows.groupby("level"):
            ordered = corners.sort_values("group_sparsity")
            surfaces[int(float(str(level)))] = Staircase(
                100 * floats(ordered["group_sparsity"]), scale * floats(ordered[others[0]])
            )
        seeds = int(rows["seeds"].max())
        panels.append(AttainmentPanel(combination, label, seeds, surfaces, colors[combination]))
    return panels


def draw_attainment(panel: AttainmentPanel, ax: Axes) -> None:
    """The median surface as a line, the quartiles as a band, which goes on down where the worse one has ended."""
    corners = np.concatenate([surface.x for surface in panel.surfaces.values()])
    places = np.unique(np.concatenate([[0.0], corners]))
    heights = np.concatenate([surface.y for surface in panel.surfaces.values()])
    floor = heights.min() - 0.08 * max(np.ptp(heights), 1e-9)
    if {25, 75} <= set(panel.surfaces):
        best, worst = panel.surfaces[25].at(places), panel.surfaces[75].at(places)
        low = np.where(np.isnan(worst), floor, worst)
        ax.fill_between(places, low, best, step="pre", color=panel.color, alpha=0.25, linewidth=0)
    if 50 in panel.surfaces:
        middle = panel.surfaces[50]
        x, y = np.concatenate([[0.0], middle.x, middle.x[-1:]]), np.concatenate([middle.y[:1], middle.y, [floor]])
        ax.step(x, y, where="pre", color=panel.color, linewidth=1.4)
    ax.set_title(wrapped(panel.combination), loc="left")
    ax.set_xlim(-5, 105)
    ax.set_xticks([0, 25, 50, 75, 100])
    ax.set_xlabel("group sparsity [%]")
    ax.set_ylabel(panel.y_label)


def attainment_figure(sweep: Sweep, marked: pd.DataFrame, attainment: pd.DataFrame) -> Drawing | str:
    """The surfaces, or why there are none."""
    panels = attainment_panels(sweep, marked, attainment)
    if not panels:
        return "No front trades group sparsity against one other objective, so there is no attainment surface to draw."
    if max(panel.seeds for panel in panels) == 1:
        return "There is one seed, so an attainment surface would be that seed's front."
    handles = [
        Line2D([], [], color=INK.light, linewidth=1.4, label="attained by half of the seeds"),
        Patch(color=PALE.light, label="between a quarter and three quarters of them"),
    ]
    titles = [wrapped(panel.combination) for panel in panels]
    seeds = sorted({panel.seeds for panel in panels})
    note = f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"
    labels = {panel.y_label for panel in panels}
    page = sheet(titles, handles, note)
    for panel, ax in zip(panels, page.axes, strict=True):
        draw_attainment(panel, ax)
    if len(labels) == 1:
        share_y(page.axes)
    caption = (
        "Empirical attainment surfaces: what that share of the seeds reaches or exceeds in both directions at once, "
        f"each seed by its own front chosen on validation, test split. {note}."
    )
    return page.finish("attainment", "How sure the fronts are", caption, _data(panels))


def _data(panels: list[AttainmentPanel]) -> pd.DataFrame:
    tables = [
        pd.DataFrame(
            {
                "tasks": panel.combination,
                "attained_by_percent_of_seeds": level,
                "seeds": panel.seeds,
                "groups_gone_percent": surface.x,
                "measure": surface.y,
            }
        )
        for panel in panels
        for level, surface in panel.surfaces.items()
    ]
    return pd.concat(tables, ignore_index=True)
