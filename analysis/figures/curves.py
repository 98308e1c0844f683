"""Curves and points that look the same in every figure: a task combination keeps its colour, marker and line."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.figures.drawing import LINES, MARKERS, Line
from analysis.figures.palette import GREY, SERIES
from analysis.read.load import Sweep
from mtl.vocabulary.metric import Metric

CONSTANT_LINE: dict[str, Any] = {"color": GREY.light, "linewidth": 1.1, "linestyle": "--"}


class Look(NamedTuple):
    """How a curve is drawn."""

    color: str
    marker: str = ""
    line: Line | Literal[""] = "-"

    def handle(self, label: str) -> Line2D:
        """The curve's entry in a legend."""
        style = {"color": self.color, "marker": self.marker, "linestyle": self.line}
        return Line2D([], [], label=label, markersize=4.5, linewidth=1.2, **style)  # type: ignore[arg-type]

    def points(self, label: str) -> Line2D:
        """The entry of points that no line joins."""
        return Line2D([], [], label=label, color=self.color, marker=self.marker, markersize=4.5, linestyle="")


def labelled(marked: pd.DataFrame) -> pd.DataFrame:
    """The settings with `label`, the combination (and method and setup, where there are several), one curve after the
    other."""
    labels = joined(marked, ["tasks", *several(marked)])
    return marked.assign(label=labels).iloc[np.argsort(pd.factorize(labels)[0], kind="stable")]


def looks_of(settings: pd.DataFrame) -> dict[str, Look]:
    """How each curve of `labelled` settings is drawn, by its label: the combination has a colour and a marker, the
    method (and the setup) a style of line."""
    colors = colors_of(settings)
    markers = {tasks: MARKERS[place % len(MARKERS)] for place, tasks in enumerate(colors)}
    kinds = joined(settings, several(settings)) if several(settings) else pd.Series("", settings.index)
    styles = {kind: LINES[place % len(LINES)] for place, kind in enumerate(dict.fromkeys(kinds))}
    # Where there are more combinations than colours, the second round of them is told apart by its lines, too.
    rounds = {tasks: place // len(SERIES) for place, tasks in enumerate(colors)}
    return {
        label: Look(colors[tasks], markers[tasks], LINES[(LINES.index(styles[kind]) + rounds[tasks]) % len(LINES)])
        for label, tasks, kind in zip(settings["label"], settings["tasks"], kinds, strict=True)
    }


def colors_of(marked: pd.DataFrame) -> dict[str, str]:
    """Each combination's colour."""
    return {str(tasks): SERIES[place % len(SERIES)].light for place, tasks in enumerate(marked["tasks"].unique())}


def draw_curve(
    ax: Axes, rows: pd.DataFrame, y: str, look: Look, x: str = "lambda", *, through_zero: bool = False
) -> None:
    """Markers with error bars, joined by a line.

    Without `through_zero` the line begins at x > 0: nothing is known between λ = 0 and the smallest λ.
    """
    draw_error_bars(ax, rows, x, y, look.color)
    xs, ys = mean_of(rows, x), mean_of(rows, y)
    joined = (xs > 0) | through_zero
    ax.plot(xs[joined], ys[joined], color=look.color, linestyle=look.line, linewidth=1.2)
    ax.plot(xs, ys, color=look.color, linestyle="", marker=look.marker, markersize=4.5)


def draw_error_bars(ax: Axes, rows: pd.DataFrame, x: str, y: str, color: str) -> None:
    """Bars of one deviation each way, for x and y; an unknown deviation has no bar."""
    for along, name in (("xerr", x), ("yerr", y)):
        deviations = rows.get(f"{name}_std", pd.Series(np.nan, rows.index))
        known = deviations.notna()
        if known.any():
            at = mean_of(rows, x)[known], mean_of(rows, y)[known]
            bars: dict[str, Any] = {along: deviations[known]}
            ax.errorbar(*at, **bars, fmt="none", ecolor=color, elinewidth=1.0, alpha=0.7)


def mean_of(rows: pd.DataFrame, name: str) -> "pd.Series[float]":
    """The column `<name>_mean`, or `name` itself, such as lambda."""
    return rows[f"{name}_mean" if f"{name}_mean" in rows else name]


def constant_handle() -> Line2D:
    """The constant predictor's entry in a legend."""
    return Line2D([], [], label="constant predictor", **CONSTANT_LINE)


def sparsity_axis(ax: Axes) -> None:
    """An x axis of group sparsity."""
    ax.set(xlim=(-5, 105), xticks=[0, 25, 50, 75, 100], xlabel="group sparsity [%]")


def joined(rows: pd.DataFrame, columns: Sequence[str]) -> "pd.Series[str]":
    """(rows,) the texts of these columns, joined by commas."""
    return pd.Series([", ".join(map(str, row)) for row in rows[list(columns)].to_numpy()], rows.index, dtype=object)


def several(rows: pd.DataFrame) -> list[str]:
    """Which of method and setup a label has to name, because the rows have several."""
    return [key for key in ("method", "setup") if rows[key].nunique() > 1]


def measure(sweep: Sweep, column: str) -> tuple[str, float]:
    """The y label of an objective or of its reported column, and what its values are multiplied by."""
    if column in ("delta_m", "test_delta_m"):
        return "test Δm [%], higher is better", 100.0
    metric = sweep.metrics.get(column.removeprefix("val_").removeprefix("test_"))
    return (axis_label(metric), 1.0) if metric else (column, 1.0)


def axis_label(metric: Metric) -> str:
    """The metric, its unit and its better direction."""
    unit = f" [{metric.unit}]" if metric.unit else ""
    label, hint = f"{metric.label}{unit}", f"{'higher' if metric.maximize else 'lower'} is better"
    # A panel is two inches high and has room for about thirty letters.
    return f"{label},\n{hint}" if len(label) + len(hint) > 30 else f"{label}, {hint}"


def spread_note(marked: pd.DataFrame, bars: str = "Error bars") -> str:
    """What the error bars are."""
    if (marked["trials"] == 1).all():
        return f"One seed per setting, so no {bars.removesuffix(' both ways').lower()}"
    most = int(marked["trials"].max())
    over = f"up to {most}" if (marked["trials"] < most).any() else f"{most}"
    return f"{bars}: ± sample standard deviation over {over} seeds"


def evenly(number: int, most: int) -> NDArray[np.intp]:
    """At most `most` of the places 0 to `number` - 1, evenly chosen, the first and the last among them."""
    return np.unique(np.linspace(0, number - 1, min(most, number)).round().astype(np.intp))
