"""Figure 3(c) of arXiv 2308.12114: group sparsity while a model trains, a curve for each λ."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from analysis import text
from analysis.figures.curves import Look, evenly, spread_note
from analysis.figures.drawing import LINES, Drawing, Panel, Words, draw_sheet
from analysis.figures.palette import ORDER
from analysis.read.load import Sweep

MOST = len(ORDER)  # as many λ as have a colour of their own


def shown_strengths(strengths: list[float]) -> list[float]:
    """At most `MOST` of the positive λ, evenly chosen from the first to the last; a dense model has no dynamics."""
    positive = sorted({value for value in strengths if value > 0})
    return [positive[place] for place in evenly(len(positive), MOST)] if positive else []


def dynamics_panels(sweep: Sweep, marked: pd.DataFrame) -> list[Panel]:
    """A panel for each combination; none where the history holds no sparsity or no trial has λ > 0.

    A trial that ended before the last epoch of its setting keeps its last value, so that a mean does not jump where
    trials end. Rows: `tasks`, `lambda`, `epoch`, `group_sparsity_percent_mean` and `…_std` over the done trials.
    """
    strengths = shown_strengths(marked["lambda"].tolist())
    if sweep.history is None or "group_sparsity" not in sweep.history or not strengths:
        return []
    done = sweep.trials("done")
    done = done.loc[done["lambda"].isin(strengths), ["trial_id", "tasks", "lambda"]]
    history = sweep.history[["trial_id", "epoch", "group_sparsity"]].merge(done, on="trial_id")
    panels = []
    for combination in marked["tasks"].unique():
        curves = []
        for strength, some in history[history["tasks"] == combination].groupby("lambda"):
            by_trial = 100 * some.pivot_table(index="epoch", columns="trial_id", values="group_sparsity").ffill()
            about = {"tasks": combination, "lambda": strength, "epoch": by_trial.index.astype(int)}
            curve = pd.DataFrame(about, index=by_trial.index)
            curve["group_sparsity_percent_mean"] = by_trial.mean(axis=1)
            curve["group_sparsity_percent_std"] = by_trial.std(axis=1)
            curves.append(curve)
        if curves:
            panels.append(Panel(str(combination), pd.concat(curves, ignore_index=True), "group sparsity [%]"))
    return panels


def draw_dynamics(rows: pd.DataFrame, ax: Axes, looks: dict[float, Look]) -> None:
    """A line for each λ in an order of colours; the band is one deviation each way."""
    for strength, curve in rows.groupby("lambda"):
        look = looks[float(strength)]  # type: ignore[arg-type]
        mean, std = curve["group_sparsity_percent_mean"], curve["group_sparsity_percent_std"]
        ax.plot(curve["epoch"], mean, linewidth=1.4, color=look.color, linestyle=look.line)
        if std.notna().any():
            ax.fill_between(curve["epoch"], mean - std, mean + std, color=look.color, alpha=0.2, linewidth=0)
    ax.set(ylim=(-4, 104), xlabel="epoch")
    ax.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))


def dynamics_figure(sweep: Sweep, marked: pd.DataFrame) -> Drawing | str:
    """Figure 3(c), or why there is none."""
    panels = dynamics_panels(sweep, marked)
    if not panels:
        return "The sweep has no history of a trial with λ > 0, so there are no curves of sparsity against epochs."
    strengths = shown_strengths(marked["lambda"].tolist())
    looks = strength_looks(strengths)
    known = len({value for value in marked["lambda"] if value > 0})
    left_out = f" {len(strengths)} of {known} λ are shown." if known > len(strengths) else ""
    caption = f"Group sparsity after each epoch: when groups become zero.{left_out}"
    words = Words("sparsity_while_training", "Sparsity over epochs", caption, spread_note(marked, "Bands"))
    handles = [look.handle(f"λ = {text.strength(value)}") for value, look in looks.items()]
    return draw_sheet(words, panels, lambda rows, ax: draw_dynamics(rows, ax, looks), handles)


def strength_looks(strengths: list[float]) -> dict[float, Look]:
    """Few λ take colours that are far apart; neighbours differ in their line as well."""
    places = evenly(MOST, len(strengths)) if len(strengths) > 1 else [MOST - 1]
    return {
        value: Look(ORDER[place].light, line=LINES[number % len(LINES)])
        for number, (value, place) in enumerate(zip(strengths, places, strict=True))
    }
