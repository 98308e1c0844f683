"""Figures 3(a) and 3(b) of arXiv 2308.12114: task metrics, and group and parameter sparsity, against λ."""

from dataclasses import dataclass, replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.compute.text_table import shown_metrics
from analysis.figures.curves import Curve, axis_label, curves_of, draw_curve, handle, spread_note, wrapped
from analysis.figures.drawing import Drawing, sheet
from analysis.figures.palette import GREY, SERIES
from analysis.figures.strength_axis import StrengthAxis
from analysis.read.load import Sweep


@dataclass(frozen=True)
class MetricPanel:
    """Figure 3(a), one metric: a curve for each combination that has the task; `constant` is the constant predictor."""

    name: str
    title: str
    y_label: str
    curves: tuple[Curve, ...]
    constant: float | None


@dataclass(frozen=True)
class SparsityPanel:
    """Figure 3(b), one combination (and method): what share of groups and of parameters is exactly zero, in %."""

    label: str
    groups: Curve
    parameters: Curve


def metric_panels(sweep: Sweep, marked: pd.DataFrame) -> list[MetricPanel]:
    """The panels of figure 3(a): each task's primary metric, and the paper's for that task, on the test split."""
    panels = []
    for metric in shown_metrics(sweep):
        mine = marked[marked[f"test_{metric.name}_mean"].notna()]
        if mine.empty:
            continue
        panels.append(
            MetricPanel(
                name=metric.name,
                title=metric.label,
                y_label=axis_label(metric),
                curves=tuple(curves_of(marked, mine, f"test_{metric.name}")),
                constant=sweep.constant_predictor.get(metric.name),
            )
        )
    return panels


def sparsity_panels(marked: pd.DataFrame) -> list[SparsityPanel]:
    """The panels of figure 3(b): one a combination (and method, where there are several), in %."""
    pairs = zip(
        curves_of(marked, marked, "group_sparsity"), curves_of(marked, marked, "parameter_sparsity"), strict=True
    )
    return [
        SparsityPanel(
            label=groups.label,
            groups=replace(_percent(groups), label="channel groups", color=SERIES[0].light, marker="o", line="-"),
            parameters=replace(_percent(weights), label="parameters", color=SERIES[1].light, marker="s", line="--"),
        )
        for groups, weights in pairs
    ]


def draw_metric(panel: MetricPanel, ax: Axes, axis: StrengthAxis) -> None:
    """One curve a combination; the dashed line is the constant predictor."""
    draw_constant(panel.constant, ax)
    for curve in panel.curves:
        draw_curve(curve, ax, axis)
    ax.set_title(panel.title, loc="left")
    ax.set_ylabel(panel.y_label)
    axis.prepare(ax)


def draw_constant(constant: float | None, ax: Axes) -> None:
    """The constant predictor's line, where it is known."""
    if constant is not None:
        ax.axhline(constant, color=GREY.light, linewidth=1.1, linestyle="--", zorder=1)


def constant_handle() -> Line2D:
    """The constant predictor's entry in a legend."""
    return Line2D([], [], color=GREY.light, linewidth=1.1, linestyle="--", label="constant predictor")


def draw_sparsity(panel: SparsityPanel, ax: Axes, axis: StrengthAxis) -> None:
    """Both sparsities from 0 to 100 %."""
    for curve in (panel.groups, panel.parameters):
        draw_curve(curve, ax, axis)
    ax.set_title(wrapped(panel.label), loc="left")
    ax.set_ylim(-4, 104)
    ax.set_ylabel("exactly zero [%]")
    axis.prepare(ax)


def metrics_figure(sweep: Sweep, marked: pd.DataFrame) -> Drawing:
    """Figure 3(a)."""
    panels = metric_panels(sweep, marked)
    axis = StrengthAxis(marked["lambda"].tolist())
    handles = [handle(curve) for curve in curves_of(marked, marked, "group_sparsity")]
    if any(panel.constant is not None for panel in panels):
        handles.append(constant_handle())
    titles, note = [panel.title for panel in panels], spread_note(marked)
    page = sheet(titles, handles, note)
    for panel, ax in zip(panels, page.axes, strict=True):
        draw_metric(panel, ax, axis)
    caption = (
        "Each task's metrics on the test split against λ; the dense model, λ = 0, is left of the break. "
        "The constant predictor ignores the image: a model that does not beat it has learnt nothing of that task."
    )
    return page.finish("fig3a", "Task metrics", f"{caption} {note}.", _metrics_data(panels))


def sparsity_figure(marked: pd.DataFrame) -> Drawing:
    """Figure 3(b)."""
    panels = sparsity_panels(marked)
    axis = StrengthAxis(marked["lambda"].tolist())
    handles = [handle(curve) for curve in (panels[0].groups, panels[0].parameters)]
    page = sheet([wrapped(panel.label) for panel in panels], handles, spread_note(marked))
    for panel, ax in zip(panels, page.axes, strict=True):
        draw_sparsity(panel, ax, axis)
    caption = "The share of the backbone's channel groups, and of its convolution weights, that is exactly zero."
    return page.finish("fig3b", "Sparsity against λ", f"{caption} {spread_note(marked)}.", _sparsity_data(panels))


def _metrics_data(panels: list[MetricPanel]) -> pd.DataFrame:
    tables = [
        curve.table("test").assign(metric=panel.name, tasks=curve.label, constant_predictor=panel.constant)
        for panel in panels
        for curve in panel.curves
    ]
    columns = ["metric", "tasks", "lambda", "test_mean", "test_std", "constant_predictor"]
    return pd.concat(tables, ignore_index=True)[columns]


def _sparsity_data(panels: list[SparsityPanel]) -> pd.DataFrame:
    tables = []
    for panel in panels:
        groups, parameters = panel.groups.table("groups_gone_percent"), panel.parameters.table("weights_gone_percent")
        tables.append(groups.join(parameters.drop(columns="lambda")).assign(tasks=panel.label))
    table = pd.concat(tables, ignore_index=True)
    return table[["tasks", *(column for column in table if column != "tasks")]]


def _percent(curve: Curve) -> Curve:
    return replace(curve, mean=100 * curve.mean, std=100 * curve.std)
