"""The fronts: performance against group sparsity, dominated settings kept and told apart."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.figures.curves import axis_label, colors_of, error_bars, floats, spread_note, wrapped
from analysis.figures.drawing import Drawing, Floats, Line, share_y, sheet
from analysis.figures.lambda_curves import constant_handle, draw_constant
from analysis.figures.palette import GREY, GROUND, INK
from analysis.read.load import Sweep, reported_column

# A ring around the point, which stays visible within.
BEST: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 10, "markerfacecolor": "none"}


@dataclass(frozen=True)
class FrontPanel:
    """One combination's settings: group sparsity against a measure of performance, (n,) each, on the test split.

    `joined` is False where more objectives than these two decided the front, so that a line would mislead.
    """

    combination: str
    measure: str  # the column of the results that `performance` is, as reported
    y_label: str
    strengths: Floats
    groups_gone: Floats  # %
    groups_gone_std: Floats  # %, NaN for one trial
    performance: Floats  # Δm in %, a metric in its own unit
    performance_std: Floats
    on_front: NDArray[np.bool_]
    best: NDArray[np.bool_]  # at most one, see `analysis.compute.best`
    joined: bool
    dense: float | None  # where the dense single-task models lie on the y axis
    constant: float | None  # the constant predictor's, where `performance` is a metric
    color: str


def front_panels(sweep: Sweep, marked: pd.DataFrame) -> list[FrontPanel]:
    """The panels of the front: one a combination, or one for each of its metrics where its own metrics decided."""
    colors = colors_of(marked)
    panels = []
    for combination, settings in marked.groupby("tasks", sort=False):
        rows = settings.sort_values("group_sparsity_mean")
        objectives = rows["objectives"].iloc[0].split("+")
        measures = [column for column in objectives if column != "group_sparsity"] or objectives
        for column in measures:
            label, scale = measure(sweep, column)
            reported = reported_column(column)
            joined = len(objectives) == 2 and "group_sparsity" in objectives
            panels.append(
                FrontPanel(
                    combination=str(combination),
                    measure=reported,
                    y_label=label,
                    strengths=floats(rows["lambda"]),
                    groups_gone=100 * floats(rows["group_sparsity_mean"]),
                    groups_gone_std=100 * floats(rows["group_sparsity_std"]),
                    performance=scale * floats(rows[f"{reported}_mean"]),
                    performance_std=scale * floats(rows[f"{reported}_std"]),
                    on_front=rows["on_front"].to_numpy(dtype=bool),
                    best=rows["best"].to_numpy(dtype=bool),
                    joined=joined,
                    dense=0.0 if column == "delta_m" else None,
                    constant=sweep.constant_predictor.get(column.removeprefix("val_")),
                    color=colors[str(combination)],
                )
            )
    return panels


def draw_front(panel: FrontPanel, ax: Axes) -> None:
    """Filled and joined: on the front. Hollow: dominated. Ringed: the model to use."""
    if panel.dense is not None:
        ax.axhline(panel.dense, color=GREY.light, linewidth=0.9, linestyle="--", zorder=1)
    draw_constant(panel.constant, ax)
    x, y, front = panel.groups_gone, panel.performance, panel.on_front
    error_bars(ax, x, y, panel.color, panel.groups_gone_std, panel.performance_std)
    if panel.joined:
        ax.plot(x[front], y[front], color=panel.color, linewidth=1.2)
    ax.plot(x[~front], y[~front], linestyle="", marker="o", markersize=4.5, color=panel.color, mfc=GROUND.light)
    ax.plot(x[front], y[front], linestyle="", marker="o", markersize=5, color=panel.color)
    ax.plot(x[panel.best], y[panel.best], markeredgecolor=INK.light, **BEST)
    ax.set_title(wrapped(panel.combination), loc="left")
    ax.set_xlim(-5, 105)
    ax.set_xticks([0, 25, 50, 75, 100])
    ax.set_xlabel("group sparsity [%]")
    ax.set_ylabel(panel.y_label)


def front_figure(sweep: Sweep, marked: pd.DataFrame) -> Drawing:
    """Every combination's front."""
    panels, note = front_panels(sweep, marked), spread_note(marked, " both ways")
    line: Line | Literal[""] = "-" if any(panel.joined for panel in panels) else ""
    ink = INK.light
    point = Line2D([], [], color=ink, marker="o", markersize=5, linewidth=1.2, linestyle=line)
    point.set_label("on the front (chosen on validation)")
    hollow = Line2D([], [], color=ink, marker="o", markersize=4.5, linestyle="", markerfacecolor=GROUND.light)
    hollow.set_label("dominated")
    handles: list[Artist] = [point, hollow]
    if any(panel.best.any() for panel in panels):
        handles.append(Line2D([], [], markeredgecolor=ink, label="the model to use", **BEST))
    if any(panel.dense is not None for panel in panels):
        handles.append(Line2D([], [], color=GREY.light, linestyle="--", linewidth=0.9, label="dense single-task"))
    if any(panel.constant is not None for panel in panels):
        handles.append(constant_handle())
    labels = {panel.y_label for panel in panels}
    titles = [wrapped(panel.combination) for panel in panels]
    page = sheet(titles, handles, note)
    for panel, ax in zip(panels, page.axes, strict=True):
        draw_front(panel, ax)
    for label in labels:
        share_y([ax for panel, ax in zip(panels, page.axes, strict=True) if panel.y_label == label])
    caption = "Performance against group sparsity on the test split; each point is one λ, its mean over seeds."
    return page.finish("front", "The front", f"{caption} {note}.", _front_data(panels))


def _front_data(panels: list[FrontPanel]) -> pd.DataFrame:
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "tasks": panel.combination,
                    "lambda": panel.strengths,
                    "groups_gone_percent_mean": panel.groups_gone,
                    "groups_gone_percent_std": panel.groups_gone_std,
                    "measure": panel.measure,
                    "measure_mean": panel.performance,
                    "measure_std": panel.performance_std,
                    "on_front": panel.on_front,
                    "best": panel.best,
                }
            )
            for panel in panels
        ],
        ignore_index=True,
    )


def measure(sweep: Sweep, column: str) -> tuple[str, float]:
    """The y label of an objective or of its reported column, and what its values are multiplied by."""
    if column in ("delta_m", "test_delta_m"):
        return "test Δm [%], higher is better", 100.0
    metric = sweep.metrics.get(column.removeprefix("val_").removeprefix("test_"))
    return (axis_label(metric), 1.0) if metric else (column, 1.0)
