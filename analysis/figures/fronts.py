"""The fronts: performance against group sparsity, dominated settings kept and told apart."""

from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis import text
from analysis.compute.costs import DENSE as DENSE_MODEL
from analysis.figures.curves import (
    CONSTANT_LINE,
    Look,
    colors_of,
    constant_handle,
    draw_error_bars,
    measure,
    sparsity_axis,
    spread_note,
)
from analysis.figures.drawing import Drawing, Layout, Line, Panel, Words, draw_sheet
from analysis.figures.labels import label_points
from analysis.figures.looks import strategy_looks
from analysis.figures.palette import GREY, GROUND, INK
from analysis.read.load import Sweep, reported_column

# A ring around the point, which stays visible within.
BEST: dict[str, Any] = {
    "linestyle": "",
    "marker": "o",
    "markersize": 10,
    "markerfacecolor": "none",
    "markeredgecolor": INK.light,
}
DENSE: dict[str, Any] = {"color": GREY.light, "linewidth": 0.9, "linestyle": "--"}


def front_panels(sweep: Sweep, marked: pd.DataFrame) -> list[Panel]:
    """A panel for each combination, or for each of its metrics where its own metrics decided, on the test split.

    Rows, by group sparsity: `tasks`, `strategy`, `lambda`, `groups_gone_percent_mean`, `groups_gone_percent_std`,
    `measure` (a column of the results, as reported), `measure_mean`, `measure_std` (Δm in %, a metric in its own unit),
    `on_front` and `best` (at most one, see `analysis.compute.best`).
    """
    panels = []
    for combination, settings in marked.groupby("tasks", sort=False):
        settings = settings.sort_values("group_sparsity_mean")
        objectives = settings["objectives"].iloc[0].split("+")
        for column in [column for column in objectives if column != "group_sparsity"] or objectives:
            label, scale = measure(sweep, column)
            reported = reported_column(column)
            rows = settings[["tasks", "strategy", "lambda"]].assign(
                groups_gone_percent_mean=100 * settings["group_sparsity_mean"],
                groups_gone_percent_std=100 * settings["group_sparsity_std"],
                measure=reported,
                measure_mean=scale * settings[f"{reported}_mean"],
                measure_std=scale * settings[f"{reported}_std"],
                on_front=settings["on_front"],
                best=settings["best"],
            )
            panels.append(Panel(str(combination), rows, label))
    return panels


def draw_front(
    rows: pd.DataFrame,
    ax: Axes,
    look: Look,
    constant: float | None,
    *,
    joined: bool,
    looks: Mapping[str, Look] | None = None,
) -> None:
    """Filled and joined by steps: on the front, with its λ. Hollow: dominated. Ringed: the model to use.

    look: of the line and, where there are no `looks` by strategy, of all points.
    `joined` is False where more objectives than these two decided the front, so that a line would mislead; `constant`
    is the constant predictor's value of the measure, where it is known.
    """
    if rows["measure"].iloc[0] == "test_delta_m":
        ax.axhline(0, **DENSE, zorder=1)
    if constant is not None:
        ax.axhline(constant, **CONSTANT_LINE, zorder=1)
    front = rows[rows["on_front"].astype(bool)]
    line = look.line if joined else ""
    places = front["groups_gone_percent_mean"], front["measure_mean"]
    # Up to a point's group sparsity its performance is attained, beyond that the next one's.
    ax.plot(*places, color=look.color, linewidth=1.2, linestyle=line, drawstyle="steps-pre")
    write_strengths(ax, front)
    for name, of_strategy in rows.groupby("strategy", sort=False) if looks else [("", rows)]:
        own = looks[str(name)] if looks else look
        draw_error_bars(ax, of_strategy, "groups_gone_percent", "measure", own.color)
        for kind, some in of_strategy.groupby(of_strategy["on_front"].astype(bool)):
            x, y = some["groups_gone_percent_mean"], some["measure_mean"]
            ground = own.color if kind else GROUND.light
            style: dict[str, Any] = {"marker": own.marker, "markersize": 5 if kind else 4.5}
            ax.plot(x, y, linestyle="", color=own.color, mfc=ground, **style)
    best = rows[rows["best"]]
    ax.plot(best["groups_gone_percent_mean"], best["measure_mean"], **BEST)
    sparsity_axis(ax)


def write_strengths(ax: Axes, front: pd.DataFrame, x: str = "groups_gone_percent_mean") -> None:
    """λ beside the points of a front, each where there is room for it."""
    # λ = 0 is the dense model, or has no penalty.
    shown = front[front["lambda"] > 0]
    places = list(zip(shown[x], shown["measure_mean"], strict=True))
    label_points(ax, places, [f"λ={text.strength(value)}" for value in shown["lambda"]])


def front_figure(sweep: Sweep, marked: pd.DataFrame) -> Drawing:
    """Every combination's front; where models are made smaller in several ways, each in its own colour."""
    panels, colors = front_panels(sweep, marked), colors_of(marked)
    looks = strategy_looks(marked)
    several = len([name for name in looks if name != DENSE_MODEL]) > 1
    pairs = {tasks for tasks, one in zip(marked["tasks"], marked["objectives"], strict=True) if _is_pair(one)}
    constants = {
        name: sweep.constant_predictor.get(name.removeprefix("test_"))
        for name in (panel.rows["measure"].iloc[0] for panel in panels)
    }
    ink = INK.light
    line: Line | Literal[""] = "-" if pairs else ""
    front = Line2D([], [], color=ink, marker="o", markersize=5, linewidth=1.2, linestyle=line)
    front.set_label("on the front (chosen on validation)")
    hollow = Line2D([], [], color=ink, marker="o", markersize=4.5, linestyle="", markerfacecolor=GROUND.light)
    hollow.set_label("dominated")
    handles = [front, hollow, *(looks[name].points(name) for name in looks if several)]
    if any(panel.rows["best"].any() for panel in panels):
        handles.append(Line2D([], [], label="the model to use", **BEST))
    if "test_delta_m" in constants:
        handles.append(Line2D([], [], label="dense single-task", **DENSE))
    if any(constant is not None for constant in constants.values()):
        handles.append(constant_handle())

    def draw(rows: pd.DataFrame, ax: Axes) -> None:
        tasks, name = rows[["tasks", "measure"]].iloc[0]
        look = Look(INK.light if several else colors[tasks], "o")
        draw_front(rows, ax, look, constants[name], joined=tasks in pairs, looks=looks if several else None)

    caption = "Performance against group sparsity on the test split; each point is one setting, its mean over seeds."
    words = Words("front", "The front", caption, spread_note(marked, "Error bars both ways"))
    return draw_sheet(words, panels, draw, handles, Layout(share_y=True))


def _is_pair(objectives: str) -> bool:
    """Whether group sparsity and one other objective decided the front."""
    names = objectives.split("+")
    return len(names) == 2 and "group_sparsity" in names
