"""Performance against what the whole model costs: every way to a small model on one axis."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis.compute.paired import row_gains
from analysis.compute.settings import KEYS
from analysis.figures.curves import Look, draw_curve, spread_note
from analysis.figures.drawing import LINES, MARKERS, Drawing, Layout, Panel, Words, draw_sheet
from analysis.figures.fronts import DENSE
from analysis.figures.palette import SERIES
from analysis.read.load import LONGER, Sweep
from mtl.vocabulary.delta_m import is_own

ABSENT = (
    "The trials do not say what their whole models cost (model_macs), or there is no dense model of the same tasks to "
    "compare with, so there is no figure of performance against cost."
)
COMPRESSOR = r"compressor=(\w+)"


def cost_panels(sweep: Sweep) -> list[Panel]:
    """A panel for each combination with a dense model whose cost is known, on the test split.

    Rows, means over seeds, by strategy and cost: `strategy`, a compressor's name or the method; `tasks`, `lambda`,
    `settings`; `cost_percent`, the multiply-accumulates of the whole compacted model as a percentage of the dense
    model's; `change_percent_mean` and `…_std`, the mean relative change of the tasks' primary metrics over the dense
    model of the same tasks, setup and seed, better is positive.
    """
    panels: list[Panel] = []
    done = sweep.trials("done")
    if "model_macs" not in done:
        return panels
    done = done[(done["model_macs"] > 0) & (done["retraining"] != LONGER)]
    for combination, trials in done.groupby("tasks", sort=False):
        dense = trials[(trials["lambda"] == 0) & is_own(trials)]
        macs = trials["setup"].map(dense.groupby("setup")["model_macs"].mean())
        gains = row_gains(sweep, sweep.tasks_of(str(combination)), trials, dense, "test", ["setup", "seed"])
        trials = trials.assign(
            strategy=trials["settings"].str.extract(COMPRESSOR)[0].fillna(trials["method"]),
            cost_percent=100 * trials["model_macs"] / macs,
            change_percent=100 * gains,
        ).dropna(subset=["cost_percent", "change_percent"])
        if trials.empty:
            continue
        grouped = trials.groupby([*KEYS, "strategy", "settings"], sort=False)
        rows = pd.DataFrame(
            {
                "cost_percent": grouped["cost_percent"].mean(),
                "change_percent_mean": grouped["change_percent"].mean(),
                "change_percent_std": grouped["change_percent"].std(ddof=1),
            }
        ).reset_index()
        rows = rows.sort_values(["strategy", "cost_percent"], kind="stable", ignore_index=True)
        panels.append(Panel(str(combination), rows, "test Δm over the dense\nmodel [%], higher is better"))
    return panels


def cost_figure(sweep: Sweep, marked: pd.DataFrame) -> Drawing | str:
    """Performance against cost, a curve for each strategy; or why there is none."""
    panels = cost_panels(sweep)
    if not panels:
        return ABSENT
    strategies = dict.fromkeys(name for panel in panels for name in panel.rows["strategy"])
    looks = {
        name: Look(SERIES[place % len(SERIES)].light, MARKERS[place % len(MARKERS)], LINES[place % len(LINES)])
        for place, name in enumerate(strategies)
    }

    def draw(rows: pd.DataFrame, ax: Axes) -> None:
        ax.axhline(0, **DENSE, zorder=1)
        for name, some in rows.groupby("strategy", sort=False):
            draw_curve(ax, some, "change_percent", looks[str(name)], "cost_percent")
        ax.set(xscale="log", xlabel="MACs of the whole model [% of dense]")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))

    caption = (
        "Performance on the test split over the dense model of the same tasks and seed, against the "
        "multiply-accumulates of the whole compacted model, heads included; each point is one setting, its mean over "
        "seeds. Left is cheaper, up is better."
    )
    words = Words("cost", "Performance against cost", caption, spread_note(marked))
    return draw_sheet(words, panels, draw, [look.handle(name) for name, look in looks.items()], Layout(share_y=True))
