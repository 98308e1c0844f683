"""The paper's claims as a forest plot: each unit's effect with its interval, the mean below, the verdict above."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.compute.claims import Claim
from analysis.figures.drawing import Drawing, Floats, sheet
from analysis.figures.palette import GREY, INK, SERIES

OVER_ALL = "mean of all"
TITLE_LETTERS = 52  # that fit above a panel and its labels


@dataclass(frozen=True)
class ForestPanel:
    """One claim or part of one: (n,) effects and ends of intervals in %, that of all units labelled `OVER_ALL`."""

    title: str
    labels: tuple[str, ...]
    effect: Floats
    low: Floats
    high: Floats
    margin: float  # %

    @property
    def height(self) -> float:
        """Inches: rows are as far apart in every panel."""
        return 0.2 * len(self.labels) + 0.15


def forest_panels(claims: Sequence[Claim]) -> list[ForestPanel]:
    """A panel for each claim with an effect, and for each part of it."""
    panels = []
    for claim in claims:
        if math.isnan(claim.effect.mean):
            continue
        parts = claim.data.groupby("part", sort=False)
        # The effect of a claim with several parts is that of the weaker one, so the mean of all stands there.
        own = min(parts.groups, key=lambda part: abs(parts.get_group(part)["effect"].mean() - claim.effect.mean))
        for part, rows in parts:
            panels.append(_panel(claim, str(part), rows, own == part))
    return panels


def draw_forest(panel: ForestPanel, ax: Axes, labels: float) -> None:
    """Squares with intervals, top to bottom; a diamond for the mean; the dashed line is what the claim must exceed.

    `labels` is the room left of the axes, in inches, where the title begins as there is more of it than of the panel.
    """
    heights = np.arange(len(panel.labels))[::-1].astype(float)
    ax.axvline(panel.margin, color=GREY.light, linewidth=1.1, linestyle="--", zorder=1)
    for place, height in enumerate(heights):
        last = panel.labels[place] == OVER_ALL
        color = INK.light if last else SERIES[0].light
        if math.isfinite(panel.low[place]):
            ax.plot([panel.low[place], panel.high[place]], [height, height], color=color, linewidth=1.4)
        marker, size = ("D", 6.0) if last else ("s", 4.5)
        ax.plot([panel.effect[place]], [height], linestyle="", color=color, marker=marker, markersize=size)
    ax.set_yticks(heights, panel.labels)
    ax.set_ylim(-0.6, len(heights) - 0.4)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("effect [%], better to the right")
    ax.annotate(
        panel.title, (0, 1), (-72 * labels, 5), xycoords="axes fraction", textcoords="offset points", fontsize=9
    )


def claims_figure(claims: Sequence[Claim]) -> Drawing | str:
    """The forest plot, or why there is none."""
    panels = forest_panels(claims)
    if not panels:
        return "No claim could be tested with the trials that are done, so there is no forest plot."
    known = any(np.isfinite(panel.low).any() for panel in panels)
    note = "Bars: 95 % confidence interval over seeds" if known else "One seed a setting, so no intervals"
    square = Line2D([], [], color=SERIES[0].light, marker="s", markersize=4.5, linewidth=1.4 if known else 0)
    square.set_label("a combination")
    diamond = Line2D([], [], color=INK.light, marker="D", markersize=6, linewidth=1.4 if known else 0, label=OVER_ALL)
    margin = Line2D([], [], color=GREY.light, linewidth=1.1, linestyle="--", label="what it must exceed")
    labels = 0.077 * max(len(label) for panel in panels for label in panel.labels)
    page = sheet(
        [panel.title for panel in panels],
        [square, diamond, margin],
        note,
        columns=2,
        size=(2.3, panels[0].height),
        heights=[panel.height for panel in panels],
        left=labels + 0.1,
    )
    for panel, ax in zip(panels, page.axes, strict=True):
        draw_forest(panel, ax, labels)
    caption = f"The paper's claims: each combination's mean effect over seeds, and the mean of all. {note}."
    return page.finish("claims", "The paper's claims, tested", caption, _data(claims))


def _panel(claim: Claim, part: str, rows: pd.DataFrame, with_mean: bool) -> ForestPanel:
    keys = ["tasks", *(key for key in ("penalty", "setup") if claim.data[key].nunique() > 1)]
    labels = [", ".join(str(row[key]) for key in keys) for row in rows.to_dict("records")]
    values = {end: 100 * rows[end].to_numpy(float) for end in ("effect", "low", "high")}
    if with_mean:
        labels.append(OVER_ALL)
        whole = {"effect": claim.effect.mean, "low": claim.effect.low, "high": claim.effect.high}
        values = {end: np.append(values[end], 100 * whole[end]) for end in values}
    title = [
        *textwrap.wrap(claim.statement, TITLE_LETTERS),
        f"{part.capitalize()}. " * bool(part) + f"Verdict: {claim.verdict}",
    ]
    return ForestPanel(title="\n".join(title), labels=tuple(labels), margin=100 * claim.margin, **values)


def _data(claims: Sequence[Claim]) -> pd.DataFrame:
    tables = []
    for claim in claims:
        whole = claim.effect
        row = {"tasks": OVER_ALL, "effect": whole.mean, "low": whole.low, "high": whole.high, "seeds": whole.number}
        over_all = pd.DataFrame([row | {"p_value": whole.p_value, "adjusted_p": claim.adjusted_p}])
        parts = [part for part in (claim.data, over_all) if len(part)]
        tables.append(pd.concat(parts, ignore_index=True).assign(margin=claim.margin, verdict=claim.verdict))
        tables[-1].insert(0, "claim", claim.name)
    return pd.concat(tables, ignore_index=True)
