"""Performance against what the whole model costs: every way to a small model, and the front over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.compute.cost_fronts import cost_front, quality_of
from analysis.compute.costs import SHARES
from analysis.figures.curves import Look, draw_error_bars, spread_note
from analysis.figures.drawing import Drawing, Panel, Words, draw_sheet
from analysis.figures.fronts import BEST, write_strengths
from analysis.figures.fronts import DENSE as ZERO
from analysis.figures.looks import strategy_looks
from analysis.figures.palette import GROUND, PALE
from analysis.read.load import reported_column
from mtl.vocabulary.objective import MODEL_MACS

ABSENT = (
    "The trials do not say what their whole models cost (model_macs), or neither dense single-task models nor a dense "
    "model of the same tasks is known to compare with, so there is no figure of performance against cost."
)
NO_LATENCY = (
    "No whole model's latency was measured, so there is no figure of performance against it: run the recipe with "
    "--set measure_latency=true."
)
FRONT: dict[str, Any] = {"color": PALE.light, "linewidth": 3.0, "solid_capstyle": "butt", "drawstyle": "steps-post"}
THIN: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.6}
LABELS = {
    "delta_m": "test Δm [%], higher is better",
    "over_dense": "test Δm over the dense\nmodel [%], higher is better",
}


@dataclass(frozen=True)
class Cost:
    """A cost of the whole model as an axis: `column` of the settings times `scale`."""

    name: str  # of the figure
    column: str
    words: str
    label: str
    scale: float = 1.0


MACS = Cost("cost", SHARES[MODEL_MACS], "multiply-accumulates", "MACs [% of dense]", 100)
PARAMETERS = Cost("cost_parameters", SHARES["model_parameters"], "parameters", "parameters [% of dense]", 100)
LATENCY = Cost("cost_latency", "model_latency_ms", "latency for one image", "latency [ms]")


def cost_panels(marked: pd.DataFrame, cost: Cost = MACS) -> list[Panel]:
    """A panel for each combination whose costs and performance are known, on the test split.

    Rows, means over seeds, by strategy and cost: `tasks`, `method`, `lambda`, `settings`; `strategy` and `side` (see
    `analysis.compute.costs`); `cost_mean` and `cost_std`, in the axis' unit; `measure`, test_delta_m or
    test_over_dense, with `measure_mean` and `measure_std` in %; `on_front`, over performance and this cost among all
    methods, chosen on validation; and `best`.
    """
    panels: list[Panel] = []
    for combination, settings in marked.groupby("tasks", sort=False):
        quality = quality_of(settings)
        if quality is None or f"{cost.column}_mean" not in settings:
            continue
        settings = settings[settings[f"{cost.column}_mean"] > 0]
        if settings.empty:
            continue
        measure = reported_column(quality)
        rows = settings[["tasks", "method", "lambda", "settings", "strategy", "side"]].assign(
            cost_mean=cost.scale * settings[f"{cost.column}_mean"],
            cost_std=cost.scale * settings[f"{cost.column}_std"],
            measure=measure,
            measure_mean=100 * settings[f"{measure}_mean"],
            measure_std=100 * settings[f"{measure}_std"],
            on_front=cost_front(settings, quality, cost.column),
            best=settings["best"],
        )
        rows = rows.sort_values(["strategy", "cost_mean"], kind="stable", ignore_index=True)
        panels.append(Panel(str(combination), rows, LABELS[quality]))
    return panels


def cost_figure(marked: pd.DataFrame, cost: Cost = MACS) -> Drawing | str:
    """Performance against a cost, the points of each strategy and the front over all; or why there is none."""
    panels = cost_panels(marked, cost)
    if not panels:
        return NO_LATENCY if cost is LATENCY else ABSENT
    looks = strategy_looks(marked)

    def draw(rows: pd.DataFrame, ax: Axes) -> None:
        ax.axhline(0, **ZERO, zorder=1)
        front = rows[rows["on_front"]].sort_values("cost_mean")
        ax.plot(front["cost_mean"], front["measure_mean"], zorder=1.5, **FRONT)
        for name, some in rows.groupby("strategy", sort=False):
            look = looks[str(name)]
            draw_error_bars(ax, some, "cost", "measure", look.color)
            # A thin line shows which points are one method's; what is attained between them is the front's steps.
            ax.plot(some["cost_mean"], some["measure_mean"], linestyle=look.line, color=look.color, **THIN)
            filled = look.color if look.line != "--" else GROUND.light
            ax.plot(
                some["cost_mean"],
                some["measure_mean"],
                linestyle="",
                color=look.color,
                marker=look.marker,
                markersize=4.5,
                markerfacecolor=filled,
            )
        write_strengths(ax, front, "cost_mean")
        best = rows[rows["best"]]
        ax.plot(best["cost_mean"], best["measure_mean"], **BEST)
        log_axis(ax, cost.label)

    handles = [_handle(looks[name], name) for name in looks if any((p.rows["strategy"] == name).any() for p in panels)]
    front = Line2D([], [], label="the front over all (chosen on validation)", **{**FRONT, "drawstyle": "default"})
    handles += [front, Line2D([], [], label="the model to use", **BEST)]
    words = Words(
        cost.name,
        f"Performance against the whole model's {cost.words}",
        f"Performance on the test split against the {cost.words} of the whole compacted model, heads included; each "
        "point is one setting, its mean over seeds. Left is cheaper, up is better. Filled, with solid lines: "
        "ours; hollow, with broken lines: what a user would do instead. The grey steps are the settings that no other "
        f"beats in both, of all methods; the broken grey line is {_zero(panels)}.",
        spread_note(marked, "Error bars both ways"),
    )
    return draw_sheet(words, panels, draw, handles)


def _handle(look: Look, name: str) -> Line2D:
    """As `Look.handle`; hollow where the line is broken."""
    handle = look.handle(name)
    handle.set_markerfacecolor(look.color if look.line != "--" else GROUND.light)
    handle.set_linewidth(THIN["linewidth"])
    return handle


def log_axis(ax: Axes, label: str) -> None:
    """A logarithmic x axis with at least two labelled ticks however short it is."""
    ax.set(xscale="log", xlabel=label)
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(FixedLocator(log_ticks(low, high)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def log_ticks(low: float, high: float, fewest: int = 2, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`, both above 0: 1, 2 and 5 times powers of ten, more or fewer of them where
    the axis is short or long, and even steps on one that is shorter still."""
    exponents = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)

    def within(steps: Sequence[float]) -> list[float]:
        return [tick for exponent in exponents for step in steps if low <= (tick := step * 10.0**exponent) <= high]

    for steps in ((1, 2, 5), (1, 3), (1,)):
        if fewest <= len(found := within(steps)) <= most:
            return found
    if len(within((1,))) > most:
        return within((1,))[:: len(within((1,))) // most + 1]
    for count in (4, 5, 10, 20, 50, 100):
        step = 10.0 ** np.floor(np.log10(high - low)) * 10 / count
        even = [float(f"{tick:.6g}") for tick in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]
        if len(even) >= fewest:
            return even[:: len(even) // most + 1]
    return [low, high]


def _zero(panels: Sequence[Panel]) -> str:
    """What stands at 0 %."""
    measures = {str(panel.rows["measure"].iloc[0]) for panel in panels}
    names = {
        "test_delta_m": "the dense single-task models",
        "test_over_dense": "the dense model of the same tasks",
    }
    return " or ".join(name for measure, name in names.items() if measure in measures)
