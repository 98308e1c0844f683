"""Empirical attainment surfaces: what a quarter, half and three quarters of the seeds reach or exceed."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.figures.curves import colors_of, measure, sparsity_axis
from analysis.figures.drawing import Drawing, Floats, Layout, Panel, Words, draw_sheet
from analysis.figures.palette import INK, PALE
from analysis.read.load import Sweep


def attainment_panels(sweep: Sweep, marked: pd.DataFrame, attainment: pd.DataFrame) -> list[Panel]:
    """A panel for each combination whose front trades group sparsity against one other objective.

    Rows, a corner each: `tasks`, `attained_by_percent_of_seeds` (a level that too few seeds attain anywhere is not
    there), `seeds`, `groups_gone_percent`, and `measure` (Δm in %, a metric in its own unit).
    """
    panels = []
    of_tasks = dict(list(attainment.groupby("tasks")))
    for combination in (tasks for tasks in marked["tasks"].unique() if tasks in of_tasks):
        columns = str(of_tasks[combination]["objectives"].iloc[0]).split("+")
        others = [column for column in columns if column != "group_sparsity"]
        if len(columns) == 2 and len(others) == 1:
            corners = of_tasks[combination].sort_values(["level", "group_sparsity"])
            label, scale = measure(sweep, others[0])
            about = {
                "tasks": combination,
                "attained_by_percent_of_seeds": corners["level"].astype(int),
                "seeds": corners["seeds"].max(),
                "groups_gone_percent": 100 * corners["group_sparsity"],
                "measure": scale * corners[others[0]],
            }
            panels.append(Panel(combination, pd.DataFrame(about), label))
    return panels


def attained(corners: pd.DataFrame, places: Floats) -> Floats:
    """(n,) the best value attained by a surface at each of `places`, (n,) in %; NaN beyond its last corner.

    Up to a corner's group sparsity, and beyond that of the one before, the corner's measure is attained.
    """
    corner = np.searchsorted(corners["groups_gone_percent"], places, side="left")
    return np.append(corners["measure"], np.nan)[corner]


def draw_attainment(rows: pd.DataFrame, ax: Axes, color: str) -> None:
    """The median surface as a line, the quartiles as a band, which goes on down where the worse one has ended."""
    floor = rows["measure"].min() - 0.08 * max(np.ptp(rows["measure"]), 1e-9)
    surfaces = dict(list(rows.groupby("attained_by_percent_of_seeds")))
    if {25, 75} <= set(surfaces):
        places = np.unique([0.0, *rows["groups_gone_percent"]])
        best, worst = attained(surfaces[25], places), attained(surfaces[75], places)
        low = np.where(np.isnan(worst), floor, worst)
        ax.fill_between(places, low, best, step="pre", color=color, alpha=0.25, linewidth=0)
    if 50 in surfaces:
        x, y = surfaces[50]["groups_gone_percent"].tolist(), surfaces[50]["measure"].tolist()
        ax.step([0, *x, x[-1]], [y[0], *y, floor], where="pre", color=color, linewidth=1.4)
    sparsity_axis(ax)


def attainment_figure(sweep: Sweep, marked: pd.DataFrame, attainment: pd.DataFrame) -> Drawing | str:
    """The surfaces, or why there are none."""
    panels, colors = attainment_panels(sweep, marked, attainment), colors_of(marked)
    if not panels:
        return "No front trades group sparsity against one other objective, so there is no attainment surface to draw."
    seeds = sorted({int(panel.rows["seeds"].iloc[0]) for panel in panels})
    if seeds[-1] == 1:
        return "There is one seed, so an attainment surface would be that seed's front."
    handles = [
        Line2D([], [], color=INK.light, linewidth=1.4, label="attained by half of the seeds"),
        Patch(color=PALE.light, label="between a quarter and three quarters of them"),
    ]
    caption = (
        "Empirical attainment surfaces: what that share of the seeds reaches or exceeds in both directions at once, "
        "each seed by its own front chosen on validation, test split."
    )
    note = f"{seeds[0]} seeds" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]} seeds"

    def draw(rows: pd.DataFrame, ax: Axes) -> None:
        draw_attainment(rows, ax, colors[rows["tasks"].iloc[0]])

    words = Words("attainment", "How sure the fronts are", caption, note)
    return draw_sheet(words, panels, draw, handles, Layout(share_y=True))
