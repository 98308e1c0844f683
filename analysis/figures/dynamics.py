"""Figure 3(c) of arXiv 2308.12114: group sparsity while a model trains, a curve for each λ."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis import text
from analysis.figures.curves import floats, spread_note, wrapped
from analysis.figures.drawing import LINES, Drawing, Floats, Line, sheet
from analysis.figures.palette import ORDER
from analysis.read.load import Sweep

MOST = len(ORDER)  # as many λ as have a colour of their own


@dataclass(frozen=True)
class EpochCurve:
    """One λ: group sparsity in % after each epoch, (n,), mean and deviation over the done trials."""

    strength: float
    epochs: Floats
    mean: Floats
    std: Floats  # NaN for one trial


@dataclass(frozen=True)
class DynamicsPanel:
    """One combination's curves, by increasing λ."""

    combination: str
    curves: tuple[EpochCurve, ...]


@dataclass(frozen=True)
class Look:
    """How one λ is drawn in every panel."""

    color: str
    line: Line


def shown_strengths(strengths: list[float]) -> list[float]:
    """At most `MOST` of the positive λ, evenly chosen from the first to the last; a dense model has no dynamics."""
    positive = sorted({value for value in strengths if value > 0})
    if len(positive) <= MOST:
        return positive
    places = np.linspace(0, len(positive) - 1, MOST).round().astype(int)
    return [positive[place] for place in places]


def dynamics_panels(sweep: Sweep, marked: pd.DataFrame) -> list[DynamicsPanel]:
    """The panels of figure 3(c); none where the history holds no sparsity or no trial has λ > 0.

    A trial that ended before the last epoch of its setting keeps its last value, so that a mean does not jump where
    trials end.
    """
    strengths = shown_strengths(marked["lambda"].tolist())
    if sweep.history is None or "group_sparsity" not in sweep.history or not strengths:
        return []
    done = sweep.trials("done")
    done = done.loc[done["lambda"].isin(strengths), ["trial_id", "tasks", "lambda"]]
    rows = sweep.history[["trial_id", "epoch", "group_sparsity"]].merge(done, on="trial_id")
    panels = []
    for combination in dict.fromkeys(marked["tasks"]):
        mine = rows[rows["tasks"] == combination]
        curves = tuple(_curve(float(strength), some) for strength, some in mine.groupby("lambda") if len(some))
        if curves:
            panels.append(DynamicsPanel(str(combination), curves))
    return panels


def draw_dynamics(panel: DynamicsPanel, ax: Axes, looks: dict[float, Look]) -> None:
    """A line for each λ in an order of colours; the band is one deviation each way."""
    for curve in panel.curves:
        look = looks[curve.strength]
        ax.plot(curve.epochs, curve.mean, linewidth=1.4, color=look.color, linestyle=look.line)
        if np.isfinite(curve.std).any():
            low, high = curve.mean - curve.std, curve.mean + curve.std
            ax.fill_between(curve.epochs, low, high, color=look.color, alpha=0.2, linewidth=0)
    ax.set_title(wrapped(panel.combination), loc="left")
    ax.set_ylim(-4, 104)
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    ax.set_ylabel("group sparsity [%]")


def dynamics_figure(sweep: Sweep, marked: pd.DataFrame) -> Drawing | str:
    """Figure 3(c), or why there is none."""
    panels = dynamics_panels(sweep, marked)
    if not panels:
        return "The sweep has no history of a trial with λ > 0, so there are no curves of sparsity against epochs."
    strengths = shown_strengths(marked["lambda"].tolist())
    looks = looks_of(strengths)
    handles = []
    for value, look in looks.items():
        line = Line2D([], [], linewidth=1.4, color=look.color, linestyle=look.line)
        line.set_label(f"λ = {text.strength(value)}")
        handles.append(line)
    note = spread_note(marked).replace("Error bars", "Bands").replace("error bars", "bands")
    page = sheet([wrapped(panel.combination) for panel in panels], handles, note)
    for panel, ax in zip(panels, page.axes, strict=True):
        draw_dynamics(panel, ax, looks)
    known = {value for value in marked["lambda"] if value > 0}
    left_out = f" {len(strengths)} of {len(known)} λ are shown." if len(known) > len(strengths) else ""
    caption = f"Group sparsity after each epoch: when groups become zero.{left_out} {note}."
    return page.finish("fig3c", "Sparsity over epochs", caption, _data(panels))


def _curve(strength: float, rows: pd.DataFrame) -> EpochCurve:
    by_trial = rows.pivot_table(index="epoch", columns="trial_id", values="group_sparsity").sort_index().ffill()
    percent = 100 * by_trial
    return EpochCurve(
        strength, by_trial.index.to_numpy(float), floats(percent.mean(axis=1)), floats(percent.std(axis=1))
    )


def looks_of(strengths: list[float]) -> dict[float, Look]:
    """Few λ take colours that are far apart; neighbours differ in their line as well."""
    places = np.linspace(0, MOST - 1, len(strengths)).round().astype(int) if len(strengths) > 1 else [MOST - 1]
    return {
        value: Look(ORDER[place].light, LINES[position % len(LINES)])
        for position, (value, place) in enumerate(zip(strengths, places, strict=True))
    }


def _data(panels: list[DynamicsPanel]) -> pd.DataFrame:
    tables = [
        pd.DataFrame(
            {
                "tasks": panel.combination,
                "lambda": curve.strength,
                "epoch": curve.epochs.astype(int),
                "group_sparsity_percent_mean": curve.mean,
                "group_sparsity_percent_std": curve.std,
            }
        )
        for panel in panels
        for curve in panel.curves
    ]
    return pd.concat(tables, ignore_index=True)
