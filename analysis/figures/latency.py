"""Figure 3(d) of arXiv 2308.12114: how long the backbone takes against λ, once its zero channels are removed."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.curves import Curve, draw_curve, handle, spread_note, wrapped
from analysis.figures.drawing import Drawing, share_y, sheet
from analysis.figures.palette import GREY, SERIES
from analysis.figures.strength_axis import StrengthAxis
from analysis.load import Sweep


@dataclass(frozen=True)
class LatencyPanel:
    """One combination: measured milliseconds, and those that the multiplications left would take at the dense rate."""

    combination: str
    measured: Curve
    proportional: Curve | None  # None without `macs` or without a dense model


def latency_panels(sweep: Sweep) -> list[LatencyPanel]:
    """The panels of figure 3(d), over done trials; none without a column `latency_ms`."""
    done = sweep.trials("done")
    if "latency_ms" not in done or done["latency_ms"].isna().all():
        return []
    panels = []
    for combination, rows in done[done["latency_ms"].notna()].groupby("tasks", sort=False):
        by_strength = rows.groupby("lambda")
        latency, spread = by_strength["latency_ms"].mean(), by_strength["latency_ms"].std(ddof=1)
        strengths = latency.index.to_numpy(float)
        measured = Curve("measured", strengths, _array(latency), _array(spread), SERIES[0].light, "o", "-")
        proportional = None
        if "macs" in rows and rows["macs"].notna().all() and 0.0 in latency.index:
            share = by_strength["macs"].mean() / by_strength["macs"].mean().loc[0.0]
            expected, unknown = _array(share * latency.loc[0.0]), np.full(len(strengths), np.nan)
            label = "in proportion to multiplications (MACs)"
            proportional = Curve(label, strengths, expected, unknown, GREY.light, "x", "--")
        panels.append(LatencyPanel(str(combination), measured, proportional))
    return panels


def draw_latency(panel: LatencyPanel, ax: Axes, axis: StrengthAxis) -> None:
    """Milliseconds from 0."""
    for curve in (panel.proportional, panel.measured):
        if curve is not None:
            draw_curve(curve, ax, axis)
    ax.set_title(wrapped(panel.combination), loc="left")
    ax.set_ylim(bottom=0)
    ax.set_ylabel("backbone latency [ms]")
    axis.prepare(ax)


def latency_figure(sweep: Sweep, marked: pd.DataFrame) -> Drawing | str:
    """Figure 3(d), or why there is none."""
    panels = latency_panels(sweep)
    if not panels:
        return "The results have no column latency_ms, so there is no figure of latency."
    axis = StrengthAxis(marked["lambda"].tolist())
    curves = {curve.label: curve for panel in panels for curve in (panel.measured, panel.proportional) if curve}
    note = spread_note(marked)
    page = sheet([wrapped(panel.combination) for panel in panels], [handle(curve) for curve in curves.values()], note)
    for panel, ax in zip(panels, page.axes, strict=True):
        draw_latency(panel, ax, axis)
    share_y(page.axes)
    caption = "Time of the shared backbone for one batch against λ, its zero channels removed."
    return page.finish("fig3d", "Backbone latency against λ", f"{caption} {note}.", _data(panels))


def _data(panels: list[LatencyPanel]) -> pd.DataFrame:
    tables = []
    for panel in panels:
        table = panel.measured.table("latency_ms").assign(tasks=panel.combination)
        if panel.proportional is not None:
            table["proportional_to_macs_ms"] = panel.proportional.mean
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    return table[["tasks", *(column for column in table if column != "tasks")]]


def _array(column: "pd.Series[float]") -> np.ndarray:
    return column.to_numpy(float)
