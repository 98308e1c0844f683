"""Figures 3(a) and 3(b) of arXiv 2308.12114: task metrics, and group and parameter sparsity, against λ."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.compute.text_table import shown_metrics
from analysis.figures.curves import (
    CONSTANT_LINE,
    Look,
    axis_label,
    constant_handle,
    draw_curve,
    labelled,
    looks_of,
    spread_note,
)
from analysis.figures.drawing import Drawing, Panel, Words, draw_sheet
from analysis.figures.palette import SERIES
from analysis.figures.strength_axis import strength_axis
from analysis.read.load import Sweep, is_compressed

GROUPS, WEIGHTS = Look(SERIES[0].light, "o"), Look(SERIES[1].light, "s", "--")


def of_penalty(marked: pd.DataFrame) -> pd.DataFrame:
    """The settings that λ tells apart; other compressors have costs instead, and stand in the figures against these."""
    kept = marked[~is_compressed(marked)]
    return kept if len(kept) else marked


def metric_panels(sweep: Sweep, marked: pd.DataFrame) -> list[Panel]:
    """Figure 3(a): a panel for each task's primary metric, and the paper's for that task, on the test split.

    Rows: `metric`, `tasks` (the curve's label), `lambda`, `test_mean`, `test_std`, `constant_predictor`.
    """
    panels, settings = [], labelled(of_penalty(marked))
    for metric in shown_metrics(sweep):
        columns = {"label": "tasks", f"test_{metric.name}_mean": "test_mean", f"test_{metric.name}_std": "test_std"}
        rows = settings.rename(columns={"tasks": "", **columns})[["tasks", "lambda", "test_mean", "test_std"]]
        rows = rows[rows["test_mean"].notna()].assign(constant_predictor=sweep.constant_predictor.get(metric.name))
        if len(rows):
            rows.insert(0, "metric", metric.name)
            panels.append(Panel(metric.label, rows, axis_label(metric)))
    return panels


def sparsity_panels(marked: pd.DataFrame) -> list[Panel]:
    """Figure 3(b): a panel for each combination (and method, where there are several), in %.

    Rows: `tasks` (the panel's label), `lambda`, `groups_gone_percent_mean`, …
    """
    settings = labelled(of_penalty(marked))
    rows = pd.DataFrame({"tasks": settings["label"], "lambda": settings["lambda"]})
    for name, column in (("groups_gone", "group_sparsity"), ("weights_gone", "parameter_sparsity")):
        for part in ("mean", "std"):
            rows[f"{name}_percent_{part}"] = 100 * settings[f"{column}_{part}"]
    return [Panel(str(label), some, "exactly zero [%]") for label, some in rows.groupby("tasks", sort=False)]


def draw_metric(rows: pd.DataFrame, ax: Axes, looks: dict[str, Look]) -> None:
    """One curve a combination; the dashed line is the constant predictor."""
    if rows["constant_predictor"].notna().all():
        ax.axhline(rows["constant_predictor"].iloc[0], **CONSTANT_LINE, zorder=1)
    for label, some in rows.groupby("tasks", sort=False):
        draw_curve(ax, some, "test", looks[str(label)])


def draw_sparsity(rows: pd.DataFrame, ax: Axes) -> None:
    """Both sparsities from 0 to 100 %."""
    draw_curve(ax, rows, "groups_gone_percent", GROUPS)
    draw_curve(ax, rows, "weights_gone_percent", WEIGHTS)
    ax.set_ylim(-4, 104)


def metrics_figure(sweep: Sweep, marked: pd.DataFrame) -> Drawing:
    """Figure 3(a)."""
    panels, looks = metric_panels(sweep, marked), looks_of(labelled(of_penalty(marked)))
    handles = [look.handle(label) for label, look in looks.items()]
    if any(panel.rows["constant_predictor"].notna().any() for panel in panels):
        handles.append(constant_handle())
    caption = (
        "Each task's metrics on the test split against λ; the dense model, λ = 0, is left of the break. "
        "The constant predictor ignores the image: a model that does not beat it has learnt nothing of that task."
    )

    def draw(rows: pd.DataFrame, ax: Axes) -> None:
        draw_metric(rows, ax, looks)
        strength_axis(ax, marked["lambda"])

    return draw_sheet(
        Words("performance_against_lambda", "Task metrics", caption, spread_note(marked)), panels, draw, handles
    )


def sparsity_figure(marked: pd.DataFrame) -> Drawing:
    """Figure 3(b)."""
    caption = "The share of the backbone's channel groups, and of its convolution weights, that is exactly zero."
    words = Words("sparsity_against_lambda", "Sparsity against λ", caption, spread_note(marked))

    def draw(rows: pd.DataFrame, ax: Axes) -> None:
        draw_sparsity(rows, ax)
        strength_axis(ax, marked["lambda"])

    handles = [GROUPS.handle("channel groups"), WEIGHTS.handle("parameters")]
    return draw_sheet(words, sparsity_panels(marked), draw, handles)
