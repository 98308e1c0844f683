"""A value of each task combination against λ: the curve, computed and drawn, looking the same in every figure."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.figures.drawing import LINES, MARKERS, Floats, Line
from analysis.figures.palette import SERIES
from analysis.figures.strength_axis import StrengthAxis
from mtl.vocabulary.metric import Metric


@dataclass(frozen=True)
class Curve:
    """A value against λ: (n,) each, by increasing λ."""

    label: str
    strengths: Floats
    mean: Floats
    std: Floats  # NaN for one trial
    color: str
    marker: str
    line: Line

    def table(self, value: str) -> pd.DataFrame:
        """The curve's numbers, a row a λ, under the names `<value>_mean` and `<value>_std`."""
        return pd.DataFrame({"lambda": self.strengths, f"{value}_mean": self.mean, f"{value}_std": self.std})


def curves_of(everything: pd.DataFrame, rows: pd.DataFrame, column: str) -> list[Curve]:
    """A curve for each combination in `rows` (and method and setup, where `everything` has several).

    `everything` decides on colours and markers, so that a combination keeps its own where others are not shown.
    """
    colors, order = colors_of(everything), list(dict.fromkeys(everything["tasks"]))
    telling = ["tasks", *(key for key in ("method", "setup") if everything[key].nunique() > 1)]
    curves = []
    for key, some in rows.groupby(telling, sort=False, dropna=False):
        combination = str(key[0])
        place = order.index(combination)
        curves.append(
            Curve(
                label=", ".join(str(part) for part in key),
                strengths=floats(some["lambda"]),
                mean=floats(some[f"{column}_mean"]),
                std=floats(some[f"{column}_std"]),
                color=colors[combination],
                marker=MARKERS[place % len(MARKERS)],
                line=LINES[(place // len(SERIES)) % len(LINES)],
            )
        )
    return curves


def draw_curve(curve: Curve, ax: Axes, axis: StrengthAxis) -> None:
    """Markers with error bars, joined except across the break of the axis."""
    x = axis.positions(curve.strengths)
    error_bars(ax, x, curve.mean, curve.color, np.full_like(x, np.nan), curve.std)
    # No line across the break: nothing is known of what lies between 0 and the smallest λ.
    positive = curve.strengths > 0
    ax.plot(x[positive], curve.mean[positive], color=curve.color, linestyle=curve.line, linewidth=1.2)
    ax.plot(x, curve.mean, color=curve.color, linestyle="", marker=curve.marker, markersize=4.5)


def error_bars(ax: Axes, x: Floats, y: Floats, color: str, x_std: Floats, y_std: Floats) -> None:
    """One deviation each way; a deviation that is not known (NaN) has no bar."""
    wide, high = np.isfinite(x_std), np.isfinite(y_std)
    if wide.any():
        ax.errorbar(x[wide], y[wide], xerr=x_std[wide], fmt="none", ecolor=color, elinewidth=1.0, alpha=0.7)
    if high.any():
        ax.errorbar(x[high], y[high], yerr=y_std[high], fmt="none", ecolor=color, elinewidth=1.0, alpha=0.7)


def handle(curve: Curve) -> Line2D:
    """The curve's entry in a legend."""
    line = Line2D([], [], color=curve.color, marker=curve.marker, linestyle=curve.line, markersize=4.5, linewidth=1.2)
    line.set_label(curve.label)
    return line


def colors_of(marked: pd.DataFrame) -> dict[str, str]:
    """Each combination's colour."""
    order = dict.fromkeys(marked["tasks"])
    return {str(tasks): SERIES[place % len(SERIES)].light for place, tasks in enumerate(order)}


def axis_label(metric: Metric) -> str:
    """The metric, its unit and its better direction."""
    unit = f" [{metric.unit}]" if metric.unit else ""
    label, hint = f"{metric.label}{unit}", f"{'higher' if metric.maximize else 'lower'} is better"
    # A panel is two inches high and has room for about thirty letters.
    return f"{label},\n{hint}" if len(label) + len(hint) > 30 else f"{label}, {hint}"


def spread_note(marked: pd.DataFrame, ways: str = "") -> str:
    """What the error bars are."""
    if (marked["trials"] == 1).all():
        return "One seed a setting, so no error bars"
    most = int(marked["trials"].max())
    over = f"up to {most}" if (marked["trials"] < most).any() else f"{most}"
    return f"Error bars{ways}: ± sample standard deviation over {over} seeds"


def floats(column: pd.Series) -> Floats:
    """(n,) the column as an array of floats."""
    return column.to_numpy(dtype=float)


def wrapped(combination: str, width: int = 28) -> str:
    """Breaks a long combination after a "+"."""
    lines = [""]
    for part in combination.replace("+", "+\n").split("\n"):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)
