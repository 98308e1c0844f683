"""Figure 3(d) of arXiv 2308.12114: how long the backbone takes once its zero channels are removed.

Against λ, as the paper has it, and against the share of groups that are zero.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.curves import Curve, draw_curve, error_bars, handle, spread_note, wrapped
from analysis.figures.drawing import Drawing, share_y, sheet
from analysis.figures.palette import GREY, SERIES
from analysis.figures.strength_axis import StrengthAxis
from analysis.read.load import LONGER, Sweep

ABSENT = "No trial's latency was measured, so there is no figure of it: run the recipe with --set measure_latency=true."
MEASURED, PROPORTIONAL = "measured", "in proportion to multiplications (MACs)"


@dataclass(frozen=True)
class LatencyPanel:
    """One combination, and one method where there are several; one element a λ in all arrays, means over seeds.

    measured: milliseconds of the compacted backbone for one image. proportional: those that the multiplications left
    would take at the dense model's rate; None without `macs` or without a dense model. sparsity: percent of the groups
    that are zero, with its deviation.
    """

    combination: str
    method: str
    title: str
    measured: Curve
    proportional: Curve | None
    sparsity: np.ndarray
    sparsity_std: np.ndarray


def latency_panels(sweep: Sweep) -> list[LatencyPanel]:
    """The panels of figure 3(d), over done trials; none without a column `latency_ms`."""
    done = sweep.trials("done")
    if "latency_ms" not in done or done["latency_ms"].isna().all():
        return []
    timed = done[done["latency_ms"].notna()]
    methods = list(dict.fromkeys(timed["method"][timed["lambda"] > 0])) or [timed["method"].iloc[0]]
    panels = []
    for combination, some in timed.groupby("tasks", sort=False):
        for method in methods:
            # At λ = 0 there is no penalty, so the dense model belongs to each; one trained longer is as fast.
            rows = some[(some["method"] == method) | ((some["lambda"] == 0) & (some["retraining"] != LONGER))]
            if (rows["method"] == method).any():
                title = f"{combination}, {method}" if len(methods) > 1 else str(combination)
                panels.append(_panel(str(combination), str(method), title, rows))
    return panels


def _panel(combination: str, method: str, title: str, rows: pd.DataFrame) -> LatencyPanel:
    by_strength = rows.groupby("lambda")
    latency, spread = by_strength["latency_ms"].mean(), by_strength["latency_ms"].std(ddof=1)
    strengths = latency.index.to_numpy(float)
    measured = Curve(MEASURED, strengths, _array(latency), _array(spread), SERIES[0].light, "o", "-")
    proportional = None
    if "macs" in rows and rows["macs"].notna().all() and 0.0 in latency.index:
        share = by_strength["macs"].mean() / by_strength["macs"].mean().loc[0.0]
        expected, unknown = _array(share * latency.loc[0.0]), np.full(len(strengths), np.nan)
        proportional = Curve(PROPORTIONAL, strengths, expected, unknown, GREY.light, "x", "--")
    sparsity = 100 * by_strength["group_sparsity"].mean(), 100 * by_strength["group_sparsity"].std(ddof=1)
    return LatencyPanel(combination, method, title, measured, proportional, *map(_array, sparsity))


def draw_latency(panel: LatencyPanel, ax: Axes, axis: StrengthAxis) -> None:
    """Milliseconds from 0, against λ."""
    for curve in (panel.proportional, panel.measured):
        if curve is not None:
            draw_curve(curve, ax, axis)
    axis.prepare(ax)
    _label(panel, ax)


def draw_against_sparsity(panel: LatencyPanel, ax: Axes) -> None:
    """Milliseconds from 0, against the percentage of groups that are zero."""
    order = np.argsort(panel.sparsity, kind="stable")
    for curve in (panel.proportional, panel.measured):
        if curve is not None:
            x, y = panel.sparsity[order], curve.mean[order]
            error_bars(ax, x, y, curve.color, panel.sparsity_std[order], curve.std[order])
            ax.plot(x, y, color=curve.color, marker=curve.marker, linestyle=curve.line, markersize=4.5, linewidth=1.2)
    ax.set_xlim(-3, 103)
    ax.set_xlabel("group sparsity [%]")
    _label(panel, ax)


def latency_figure(sweep: Sweep, marked: pd.DataFrame) -> Drawing | str:
    """Figure 3(d), or why there is none."""
    return _figure(sweep, marked, by_sparsity=False)


def latency_sparsity_figure(sweep: Sweep, marked: pd.DataFrame) -> Drawing | str:
    """The same against group sparsity."""
    return _figure(sweep, marked, by_sparsity=True)


def _figure(sweep: Sweep, marked: pd.DataFrame, *, by_sparsity: bool) -> Drawing | str:
    panels = latency_panels(sweep)
    if not panels:
        return ABSENT
    axis = StrengthAxis(marked["lambda"].tolist())
    curves = {curve.label: curve for panel in panels for curve in (panel.measured, panel.proportional) if curve}
    note = spread_note(marked)
    page = sheet([wrapped(panel.title) for panel in panels], [handle(curve) for curve in curves.values()], note)
    for panel, ax in zip(panels, page.axes, strict=True):
        if by_sparsity:
            draw_against_sparsity(panel, ax)
        else:
            draw_latency(panel, ax, axis)
    share_y(page.axes)
    against = "group sparsity" if by_sparsity else "λ"
    caption = f"Time of the shared backbone for one image against {against}, its zero channels removed."
    name = "fig3d_sparsity" if by_sparsity else "fig3d"
    return page.finish(name, f"Backbone latency against {against}", f"{caption} {note}.", _data(panels))


def _label(panel: LatencyPanel, ax: Axes) -> None:
    ax.set_title(wrapped(panel.title), loc="left")
    ax.set_ylim(bottom=0)
    ax.set_ylabel("backbone latency [ms]")


def _data(panels: list[LatencyPanel]) -> pd.DataFrame:
    tables = []
    for panel in panels:
        table = panel.measured.table("latency_ms").assign(tasks=panel.combination, method=panel.method)
        table["group_sparsity_mean"] = panel.sparsity / 100
        if panel.proportional is not None:
            table["proportional_to_macs_ms"] = panel.proportional.mean
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    return table[["tasks", "method", *(column for column in table if column not in ("tasks", "method"))]]


def _array(column: "pd.Series[float]") -> np.ndarray:
    return column.to_numpy(float)
