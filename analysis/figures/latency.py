"""Figure 3(d) of arXiv 2308.12114: how long the backbone takes once its zero channels are removed.

Against λ, as the paper has it, and against the share of groups that are zero.
"""

import pandas as pd
from matplotlib.axes import Axes

from analysis.figures.curves import Look, draw_curve, sparsity_axis, spread_note
from analysis.figures.drawing import Drawing, Layout, Panel, Words, draw_sheet
from analysis.figures.palette import GREY, SERIES
from analysis.figures.strength_axis import strength_axis
from analysis.read.load import Sweep, is_compressed
from mtl.vocabulary.delta_m import is_own

ABSENT = "No trial's latency was measured, so there is no figure of it: run the recipe with --set measure_latency=true."
PROPORTIONAL = "proportional_to_macs_ms"
LOOKS = {"latency_ms": Look(SERIES[0].light, "o"), PROPORTIONAL: Look(GREY.light, "x", "--")}
LABELS = {"latency_ms": "measured", PROPORTIONAL: "in proportion to multiplications (MACs)"}


def latency_panels(sweep: Sweep) -> list[Panel]:
    """A panel for each combination, and method where there are several, over done trials; none without `latency_ms`.

    Rows, means over seeds: `tasks`, `method`, `lambda`; `latency_ms_mean` and `latency_ms_std`, milliseconds of the
    compacted backbone for one image; `group_sparsity_mean`, a fraction, and `groups_gone_percent_mean` and `…_std`; and
    `proportional_to_macs_ms`, what the multiplications left would take at the dense model's rate: not there without
    `macs` or without a dense model.
    """
    done = sweep.trials("done")
    if "latency_ms" not in done or done["latency_ms"].isna().all():
        return []
    # Other compressors have costs instead of λ: they stand in the figure of performance against cost.
    timed = done[done["latency_ms"].notna() & ~is_compressed(done)]
    methods = timed.loc[timed["lambda"] > 0, "method"].unique().tolist() or [timed["method"].iloc[0]]
    panels = []
    for combination, some in timed.groupby("tasks", sort=False):
        for method in methods:
            # At λ = 0 there is no penalty, so each method shows the dense model; trained longer, it is no faster.
            trials = some[(some["method"] == method) | ((some["lambda"] == 0) & is_own(some))]
            if (trials["method"] == method).any():
                title = f"{combination}, {method}" if len(methods) > 1 else str(combination)
                rows = _means(trials).assign(tasks=combination, method=method)
                panels.append(Panel(title, rows, "backbone latency [ms]"))
    return panels


def _means(trials: pd.DataFrame) -> pd.DataFrame:
    grouped = trials.groupby("lambda")
    latency, sparsity = grouped["latency_ms"], grouped["group_sparsity"]
    rows = pd.DataFrame({"latency_ms_mean": latency.mean(), "latency_ms_std": latency.std(ddof=1)})
    rows["groups_gone_percent_mean"] = 100 * sparsity.mean()
    rows["groups_gone_percent_std"] = 100 * sparsity.std(ddof=1)
    rows["group_sparsity_mean"] = rows["groups_gone_percent_mean"] / 100
    if "macs" in trials and trials["macs"].notna().all() and 0.0 in rows.index:
        macs = grouped["macs"].mean()
        rows[PROPORTIONAL] = macs / macs.loc[0.0] * rows["latency_ms_mean"].loc[0.0]
    return rows.reset_index()


def draw_latency(rows: pd.DataFrame, ax: Axes, *, by_sparsity: bool) -> None:
    """Milliseconds from 0, against λ or against the percentage of groups that are zero."""
    rows = rows.sort_values("groups_gone_percent_mean", kind="stable") if by_sparsity else rows
    for name in (PROPORTIONAL, "latency_ms"):
        if name != PROPORTIONAL or PROPORTIONAL in rows:
            x = "groups_gone_percent" if by_sparsity else "lambda"
            draw_curve(ax, rows, name, LOOKS[name], x, through_zero=by_sparsity)
    ax.set_ylim(bottom=0)


def latency_figure(sweep: Sweep, marked: pd.DataFrame, *, by_sparsity: bool = False) -> Drawing | str:
    """Figure 3(d), or the same against group sparsity; or why there is none."""
    panels = latency_panels(sweep)
    if not panels:
        return ABSENT
    table = pd.concat([panel.rows for panel in panels], ignore_index=True)
    columns = ["tasks", "method", "lambda", "latency_ms_mean", "latency_ms_std", "group_sparsity_mean", PROPORTIONAL]
    against = "group sparsity" if by_sparsity else "λ"
    caption = f"Time of the shared backbone for one image against {against}, its zero channels removed."
    name = "latency_against_sparsity" if by_sparsity else "latency_against_lambda"
    words = Words(name, f"Backbone latency against {against}", caption, spread_note(marked))

    def draw(rows: pd.DataFrame, ax: Axes) -> None:
        draw_latency(rows, ax, by_sparsity=by_sparsity)
        if by_sparsity:
            sparsity_axis(ax)
        else:
            strength_axis(ax, marked["lambda"])

    handles = [look.handle(LABELS[name]) for name, look in LOOKS.items() if name != PROPORTIONAL or name in table]
    data = table[[column for column in columns if column in table]]
    return draw_sheet(words, panels, draw, handles, Layout(share_y=True), data)
