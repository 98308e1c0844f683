"""The figures: one function computes what is shown, as typed data, and another draws it.

Figures are built without pyplot, so nothing is shared between them, and the same sweep gives the same bytes. The
letters of 3(a) and 3(b) are those of figure 3 of arXiv 2308.12114.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.drawing import (
    COLORS,
    GREY,
    LINES,
    MARKERS,
    PALE,
    Drawing,
    Floats,
    Line,
    StrengthAxis,
    finish,
    grid,
    label_left,
    share_y,
    style,
)
from analysis.fronts import reported_column
from analysis.load import Metric, Sweep


@dataclass(frozen=True)
class FrontPanel:
    """One combination's settings: group sparsity against a measure of performance, (n,) each, on the test split.

    `joined` is False where more objectives than these two decided the front, so that a line would mislead.
    """

    title: str
    y_label: str
    groups_gone: Floats  # %
    groups_gone_std: Floats  # %, NaN for one trial
    performance: Floats
    performance_std: Floats
    on_front: NDArray[np.bool_]
    joined: bool
    dense: float | None  # where the dense single-task models lie on the y axis
    overall: tuple[Floats, Floats] | None  # x and y of the front over all combinations, for comparison
    color: str


@dataclass(frozen=True)
class Curve:
    """A value against λ: (n,) each, by increasing λ."""

    label: str
    strengths: Floats
    mean: Floats
    std: Floats  # NaN for one trial
    color: str
    marker: str
    line: Line


@dataclass(frozen=True)
class MetricPanel:
    """Figure 3(a), one metric: a curve for each combination that has the task; `constant` is the constant predictor."""

    title: str
    y_label: str
    curves: tuple[Curve, ...]
    constant: float | None


@dataclass(frozen=True)
class SparsityPanel:
    """Figure 3(b), one combination: what share of groups and of parameters is gone, in %."""

    title: str
    curves: tuple[Curve, ...]


def front_panels(sweep: Sweep, marked: pd.DataFrame) -> list[FrontPanel]:
    """The panels of the front: one a combination, or one for each of its metrics where its own metrics decided."""
    colors = _colors(marked)
    best = marked[marked["on_overall_front"]].sort_values("group_sparsity_mean")
    several = marked["tasks"].nunique() > 1
    panels = []
    for combination, settings in marked.groupby("tasks", sort=False):
        rows = settings.sort_values("group_sparsity_mean")
        objectives = rows["objectives"].iloc[0].split("+")
        measures = [column for column in objectives if column != "group_sparsity"] or objectives
        for column in measures:
            label, scale = _measure(sweep, column)
            reported = f"{reported_column(column)}_mean"
            joined = len(objectives) == 2 and "group_sparsity" in objectives
            overall = None
            if several and joined and column == "delta_m":
                overall = (100 * _floats(best["group_sparsity_mean"]), scale * _floats(best[reported]))
            panels.append(
                FrontPanel(
                    title=_wrapped(str(combination)),
                    y_label=label,
                    groups_gone=100 * _floats(rows["group_sparsity_mean"]),
                    groups_gone_std=100 * _floats(rows["group_sparsity_std"]),
                    performance=scale * _floats(rows[reported]),
                    performance_std=scale * _floats(rows[f"{reported_column(column)}_std"]),
                    on_front=rows["on_front"].to_numpy(dtype=bool),
                    joined=joined,
                    dense=0.0 if column == "delta_m" else None,
                    overall=overall,
                    color=colors[str(combination)],
                )
            )
    return panels


def metric_panels(sweep: Sweep, marked: pd.DataFrame) -> list[MetricPanel]:
    """The panels of figure 3(a): one a task, its primary metric on the test split."""
    panels = []
    for task, primary in sweep.tasks.items():
        mine = marked[[task in combination.split("+") for combination in marked["tasks"]]]
        if mine.empty:
            continue
        metric = sweep.metrics[primary]
        curves = tuple(_curves(marked, mine, f"test_{primary}"))
        panels.append(MetricPanel(task, _axis_label(metric), curves, sweep.constant_predictor.get(primary)))
    return panels


def sparsity_panels(marked: pd.DataFrame) -> list[SparsityPanel]:
    """The panels of figure 3(b): one a combination (and penalty, where there are several), in %."""
    panels = []
    pairs = zip(_curves(marked, marked, "group_sparsity"), _curves(marked, marked, "parameter_sparsity"), strict=True)
    for groups, parameters in pairs:
        curves = (
            _percent(groups, "channel groups", COLORS[0], "o", "-"),
            _percent(parameters, "parameters", COLORS[1], "s", "--"),
        )
        panels.append(SparsityPanel(_wrapped(groups.label), curves))
    return panels


def draw_front(panel: FrontPanel, ax: Axes) -> None:
    """Filled and joined: on the front. Hollow: dominated."""
    if panel.dense is not None:
        ax.axhline(panel.dense, color=GREY, linewidth=0.9, linestyle="--", zorder=1)
    if panel.overall is not None:
        ax.plot(*panel.overall, color=PALE, linewidth=2.5, zorder=1)
    x, y, front = panel.groups_gone, panel.performance, panel.on_front
    _error_bars(ax, x, y, panel.color, panel.groups_gone_std, panel.performance_std)
    if panel.joined:
        ax.plot(x[front], y[front], color=panel.color, linewidth=1.2)
    ax.plot(x[~front], y[~front], linestyle="", marker="o", markersize=4.5, color=panel.color, markerfacecolor="white")
    ax.plot(x[front], y[front], linestyle="", marker="o", markersize=5, color=panel.color)
    ax.set_title(panel.title, loc="left")
    ax.set_xlim(-5, 105)
    ax.set_xticks([0, 25, 50, 75, 100])
    ax.set_xlabel("group sparsity [%]")
    ax.set_ylabel(panel.y_label)


def draw_metric(panel: MetricPanel, ax: Axes, axis: StrengthAxis) -> None:
    """One curve a combination; the dashed line is the constant predictor."""
    if panel.constant is not None:
        ax.axhline(panel.constant, color=GREY, linewidth=0.9, linestyle="--", zorder=1)
        ax.text(
            0.02,
            panel.constant,
            "constant predictor",
            transform=ax.get_yaxis_transform(),
            va="bottom",
            color="#555555",
            fontsize=8,
        )
    for curve in panel.curves:
        _draw_curve(curve, ax, axis)
    ax.set_title(panel.title, loc="left")
    ax.set_ylabel(panel.y_label)
    axis.prepare(ax)


def draw_sparsity(panel: SparsityPanel, ax: Axes, axis: StrengthAxis) -> None:
    """Both sparsities from 0 to 100 %."""
    for curve in panel.curves:
        _draw_curve(curve, ax, axis)
    ax.set_title(panel.title, loc="left")
    ax.set_ylim(-4, 104)
    ax.set_ylabel("exactly zero [%]")
    axis.prepare(ax)


def draw_all(sweep: Sweep, marked: pd.DataFrame) -> list[Drawing]:
    """The three figures: `front`, `fig3a`, `fig3b`."""
    with style():
        return [_front(sweep, marked), _fig3a(sweep, marked), _fig3b(sweep, marked)]


def _front(sweep: Sweep, marked: pd.DataFrame) -> Drawing:
    panels, note = front_panels(sweep, marked), _spread_note(marked, " both ways")
    line: Line | Literal[""] = "-" if any(panel.joined for panel in panels) else ""
    point = Line2D([], [], color="black", marker="o", markersize=5, linewidth=1.2, linestyle=line)
    point.set_label("on the front (chosen on validation)")
    hollow = Line2D([], [], color="black", marker="o", markersize=4.5, linestyle="", markerfacecolor="white")
    hollow.set_label("dominated")
    handles = [point, hollow]
    if any(panel.dense is not None for panel in panels):
        handles.append(Line2D([], [], color=GREY, linestyle="--", linewidth=0.9, label="dense single-task"))
    if any(panel.overall is not None for panel in panels):
        handles.append(Line2D([], [], color=PALE, linewidth=2.5, label="front over all combinations"))
    labels = {panel.y_label for panel in panels}
    figure, axes = grid([panel.title for panel in panels], handles, note, between=0.5 if len(labels) == 1 else 0.95)
    for panel, ax in zip(panels, axes, strict=True):
        draw_front(panel, ax)
    for label in labels:
        share_y([ax for panel, ax in zip(panels, axes, strict=True) if panel.y_label == label])
    if len(labels) == 1:
        label_left(axes)
    caption = "Performance against group sparsity on the test split; each point is one λ, its mean over seeds."
    return finish(figure, "front", "The front", f"{caption} {note}.")


def _fig3a(sweep: Sweep, marked: pd.DataFrame) -> Drawing:
    panels = metric_panels(sweep, marked)
    axis = StrengthAxis(marked["lambda"].tolist())
    handles = [_handle(curve) for curve in _curves(marked, marked, "group_sparsity")]
    figure, axes = grid(
        [panel.title for panel in panels], handles, _spread_note(marked), columns=3, size=(3.0, 2.5), between=0.95
    )
    for panel, ax in zip(panels, axes, strict=True):
        draw_metric(panel, ax, axis)
    caption = "Each task's primary metric on the test split against λ; the dense model, λ = 0, is left of the break."
    return finish(figure, "fig3a", "Metrics against λ", f"{caption} {_spread_note(marked)}.")


def _fig3b(sweep: Sweep, marked: pd.DataFrame) -> Drawing:
    panels = sparsity_panels(marked)
    axis = StrengthAxis(marked["lambda"].tolist())
    handles = [_handle(curve) for curve in panels[0].curves]
    figure, axes = grid([panel.title for panel in panels], handles, _spread_note(marked))
    for panel, ax in zip(panels, axes, strict=True):
        draw_sparsity(panel, ax, axis)
    label_left(axes)
    caption = "The share of the backbone's channel groups, and of its convolution weights, that is exactly zero."
    return finish(figure, "fig3b", "Sparsity against λ", f"{caption} {_spread_note(marked)}.")


def _handle(curve: Curve) -> Line2D:
    return Line2D(
        [],
        [],
        color=curve.color,
        marker=curve.marker,
        linestyle=curve.line,
        markersize=4.5,
        linewidth=1.2,
        label=curve.label,
    )


def _error_bars(ax: Axes, x: Floats, y: Floats, color: str, x_std: Floats, y_std: Floats) -> None:
    """One deviation each way; a deviation that is not known (NaN) has no bar."""
    ax.errorbar(x, y, np.nan_to_num(y_std), np.nan_to_num(x_std), fmt="none", ecolor=color, elinewidth=1.0, alpha=0.7)


def _draw_curve(curve: Curve, ax: Axes, axis: StrengthAxis) -> None:
    x = axis.positions(curve.strengths)
    _error_bars(ax, x, curve.mean, curve.color, np.zeros_like(x), curve.std)
    # No line across the break: nothing is known of what lies between 0 and the smallest λ.
    positive = curve.strengths > 0
    ax.plot(x[positive], curve.mean[positive], color=curve.color, linestyle=curve.line, linewidth=1.2)
    ax.plot(x, curve.mean, color=curve.color, linestyle="", marker=curve.marker, markersize=4.5)


def _curves(everything: pd.DataFrame, rows: pd.DataFrame, column: str) -> list[Curve]:
    """A curve for each combination (and penalty, where the sweep has several), looking the same in every figure."""
    colors, order = _colors(everything), list(dict.fromkeys(everything["tasks"]))
    several = everything["penalty"].nunique() > 1
    curves = []
    for (tasks, penalty), some in rows.groupby(["tasks", "penalty"], sort=False, dropna=False):
        combination = str(tasks)
        place = order.index(combination)
        curves.append(
            Curve(
                label=f"{combination}, {penalty}" if several else combination,
                strengths=_floats(some["lambda"]),
                mean=_floats(some[f"{column}_mean"]),
                std=_floats(some[f"{column}_std"]),
                color=colors[combination],
                marker=MARKERS[place % len(MARKERS)],
                line=LINES[(place // len(COLORS)) % len(LINES)],
            )
        )
    return curves


def _percent(curve: Curve, label: str, color: str, marker: str, line: Line) -> Curve:
    return Curve(label, curve.strengths, 100 * curve.mean, 100 * curve.std, color, marker, line)


def _colors(marked: pd.DataFrame) -> dict[str, str]:
    return {str(tasks): COLORS[place % len(COLORS)] for place, tasks in enumerate(dict.fromkeys(marked["tasks"]))}


def _measure(sweep: Sweep, column: str) -> tuple[str, float]:
    """The y label of an objective, and what its values are multiplied by."""
    if column == "delta_m":
        return "test Δm [%], higher is better", 100.0
    metric = sweep.metrics.get(column.removeprefix("val_"))
    return (_axis_label(metric), 1.0) if metric else (column, 1.0)


def _axis_label(metric: Metric) -> str:
    unit = f" [{metric.unit}]" if metric.unit else ""
    label, hint = f"{metric.label}{unit}", f"{'higher' if metric.maximize else 'lower'} is better"
    # A panel is two inches high and has room for about thirty letters.
    return f"{label},\n{hint}" if len(label) + len(hint) > 30 else f"{label}, {hint}"


def _spread_note(marked: pd.DataFrame, ways: str = "") -> str:
    if (marked["trials"] == 1).all():
        return "One seed a setting, so no error bars"
    most = int(marked["trials"].max())
    over = f"up to {most}" if (marked["trials"] < most).any() else f"{most}"
    return f"Error bars{ways}: ± sample standard deviation over {over} seeds"


def _floats(column: pd.Series) -> Floats:
    return column.to_numpy(dtype=float)


def _wrapped(combination: str, width: int = 28) -> str:
    """Breaks a long combination after a "+"."""
    lines = [""]
    for part in combination.replace("+", "+\n").split("\n"):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)
