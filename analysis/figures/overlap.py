"""Which groups tasks share: how far the groups that a joint model keeps are those that a single-task model keeps."""

import pandas as pd
from matplotlib.axes import Axes

from analysis.compute.layers import ALL_STAGES
from analysis.figures.curves import Look, draw_curve, joined, several
from analysis.figures.drawing import MARKERS, Drawing, Panel, Words, draw_sheet
from analysis.figures.palette import INK, SERIES
from analysis.figures.strength_axis import strength_axis


def overlap_panels(overlap: pd.DataFrame) -> list[Panel]:
    """A panel for each joint combination, over the whole backbone and all seeds.

    Rows, shares in %: `joint` (the panel's label), `task`, `lambda`, `common_percent_mean` and `…_std` (found), and
    `expected_percent` (of two models of these sizes that choose independently).
    """
    whole = overlap[overlap["other"].str.contains("+", regex=False) & (overlap["stage"] == ALL_STAGES)]
    whole = whole[whole["jaccard"].notna()]
    labels = joined(whole, ["other", *several(whole)])
    panels = []
    for joint, of_joint in whole.groupby(labels, sort=False):
        tables = []
        for task, some in of_joint.groupby("task", sort=False):
            found, expected = some.groupby("lambda")["jaccard"], some.groupby("lambda")["expected"]
            table = pd.DataFrame({"common_percent_mean": 100 * found.mean(), "common_percent_std": 100 * found.std()})
            table = table.assign(expected_percent=100 * expected.mean()).reset_index()
            table.insert(0, "task", task)
            table.insert(0, "joint", joint)
            tables.append(table)
        panels.append(Panel(str(joint), pd.concat(tables, ignore_index=True), "common groups [%]"))
    return panels


def draw_overlap(rows: pd.DataFrame, ax: Axes, looks: dict[str, Look]) -> None:
    """Markers: found. Dotted: expected by chance."""
    curves = [(looks[str(task)], some) for task, some in rows.groupby("task", sort=False)]
    for look, some in curves:
        draw_curve(ax, some, "expected_percent", Look(look.color, line=":"))
    for look, some in curves:
        draw_curve(ax, some, "common_percent", look)
    ax.set_ylim(-4, 104)


def overlap_figure(overlap: pd.DataFrame, tasks: list[str]) -> Drawing | str:
    """The figure, or why there is none."""
    panels = overlap_panels(overlap)
    if not panels:
        return "No joint model has single-task models of the same λ and seed beside it, so no overlap can be shown."
    looks = {
        task: Look(SERIES[place % len(SERIES)].light, MARKERS[place % len(MARKERS)]) for place, task in enumerate(tasks)
    }
    shown = pd.concat([panel.rows for panel in panels])
    handles = [looks[task].handle(task) for task in shown["task"].unique()]
    handles.append(Look(INK.light, line=":").handle("expected by chance"))
    seeds = int(overlap["seed"].nunique())
    note = "One seed, so no error bars" if seeds == 1 else f"Error bars: ± sample standard deviation over {seeds} seeds"
    caption = (
        "Channel groups that both the joint model and a task's single-task model of the same λ and seed keep, as a "
        "share of those that at least one keeps (Jaccard index); 100 % where both keep all."
    )

    def draw(rows: pd.DataFrame, ax: Axes) -> None:
        draw_overlap(rows, ax, looks)
        strength_axis(ax, shown["lambda"])

    return draw_sheet(Words("overlap", "Which groups tasks share", caption, note), panels, draw, handles)
