"""Which groups tasks share: how far the groups that a joint model keeps are those that a single-task model keeps."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.compute.layers import ALL_STAGES
from analysis.figures.curves import Curve, draw_curve, handle, wrapped
from analysis.figures.drawing import MARKERS, Drawing, sheet
from analysis.figures.layers import ABSENT
from analysis.figures.palette import INK, SERIES
from analysis.figures.strength_axis import StrengthAxis


@dataclass(frozen=True)
class OverlapPanel:
    """One joint model: by task, the share of common groups, in %, found and expected by chance."""

    joint: str
    found: tuple[Curve, ...]
    expected: tuple[Curve, ...]


def overlap_panels(overlap: pd.DataFrame, tasks: list[str]) -> list[OverlapPanel]:
    """A panel for each joint combination, over the whole backbone and all seeds."""
    joint = overlap["other"].str.contains("+", regex=False)
    whole = overlap[joint & (overlap["stage"] == ALL_STAGES) & overlap["jaccard"].notna()]
    telling = ["other", *(key for key in ("method", "setup") if whole[key].nunique() > 1)]
    panels = []
    for key, rows in whole.groupby(telling, sort=False, dropna=False):
        found, expected = [], []
        for task, some in rows.groupby("task", sort=False):
            place = tasks.index(str(task))
            by_strength = some.groupby("lambda")[["jaccard", "expected"]]
            mean, std = 100 * by_strength.mean(), 100 * by_strength.std(ddof=1)
            color, marker = SERIES[place % len(SERIES)].light, MARKERS[place % len(MARKERS)]
            strengths = mean.index.to_numpy(float)
            curve = Curve(
                str(task), strengths, mean["jaccard"].to_numpy(), std["jaccard"].to_numpy(), color, marker, "-"
            )
            found.append(curve)
            unknown = np.full(len(strengths), np.nan)
            expected.append(replace(curve, mean=mean["expected"].to_numpy(), std=unknown, marker="", line=":"))
        panels.append(OverlapPanel(", ".join(str(part) for part in key), tuple(found), tuple(expected)))
    return panels


def draw_overlap(panel: OverlapPanel, ax: Axes, axis: StrengthAxis) -> None:
    """Markers: found. Dotted: expected of two models of these sizes that choose independently."""
    for curve in (*panel.expected, *panel.found):
        draw_curve(curve, ax, axis)
    ax.set_title(wrapped(panel.joint), loc="left")
    ax.set_ylim(-4, 104)
    ax.set_ylabel("common groups [%]")
    axis.prepare(ax)


def overlap_figure(overlap: pd.DataFrame | None, tasks: list[str]) -> Drawing | str:
    """The figure, or why there is none."""
    if overlap is None:
        return ABSENT
    panels = overlap_panels(overlap, tasks)
    if not panels:
        return "No joint model has single-task models of the same λ and seed beside it, so no overlap can be shown."
    axis = StrengthAxis([float(value) for panel in panels for curve in panel.found for value in curve.strengths])
    handles = {curve.label: handle(curve) for panel in panels for curve in panel.found}
    chance = Line2D([], [], color=INK.light, linestyle=":", linewidth=1.2, label="expected by chance")
    seeds = int(overlap["seed"].nunique())
    note = "One seed, so no error bars" if seeds == 1 else f"Error bars: ± sample standard deviation over {seeds} seeds"
    titles = [wrapped(panel.joint) for panel in panels]
    page = sheet(titles, [*handles.values(), chance], note)
    for panel, ax in zip(panels, page.axes, strict=True):
        draw_overlap(panel, ax, axis)
    caption = (
        "Channel groups that both the joint model and a task's single-task model of the same λ and seed keep, as a "
        f"share of those that at least one keeps (Jaccard index); 100 % where both keep all. {note}."
    )
    return page.finish("overlap", "Which groups tasks share", caption, _data(panels))


def _data(panels: list[OverlapPanel]) -> pd.DataFrame:
    tables = []
    for panel in panels:
        for found, expected in zip(panel.found, panel.expected, strict=True):
            table = found.table("common_percent").assign(expected_percent=expected.mean)
            table.insert(0, "task", found.label)
            table.insert(0, "joint", panel.joint)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)
