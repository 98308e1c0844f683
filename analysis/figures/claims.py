"""The paper's claims as a forest plot: each unit's effect with its interval, the mean below, the verdict above."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.compute.claims import Claim
from analysis.figures.curves import joined
from analysis.figures.drawing import Drawing, Layout, Panel, Words, draw_sheet
from analysis.figures.palette import GREY, INK, SERIES

OVER_ALL = "mean of all"
TITLE_LETTERS = 52  # that fit above a panel and its labels
MARGIN_LINE: dict[str, Any] = {"color": GREY.light, "linewidth": 1.1, "linestyle": "--"}


def forest_panels(claims: Sequence[Claim]) -> list[Panel]:
    """A panel for each claim with an effect, and for each part of it.

    Rows, in %: `label` (that of all units is `OVER_ALL`), `effect`, `low`, `high`, `margin`.
    """
    panels = []
    for claim in claims:
        if math.isnan(claim.effect.mean):
            continue
        data = claim.data
        labels = joined(data, ["tasks", *(key for key in ("penalty", "setup") if data[key].nunique() > 1)])
        parts = data.assign(label=labels).groupby("part", sort=False)
        # The effect of a claim with several parts is that of the weaker part, so the mean of all is shown there.
        own = (parts["effect"].mean() - claim.effect.mean).abs().idxmin()
        for part, units in parts:
            rows = units[["label", "effect", "low", "high"]]
            if part == own:
                rows = pd.concat([rows, _over_all(claim)[rows.columns]], ignore_index=True)
            rows = pd.DataFrame(
                {"label": rows["label"], **(100 * rows.drop(columns="label")), "margin": 100 * claim.margin}
            )
            verdict = f"{str(part).capitalize()}. " * bool(part) + f"Verdict: {claim.verdict}"
            title = "\n".join([*textwrap.wrap(claim.statement, TITLE_LETTERS), verdict])
            panels.append(Panel(title, rows, height=0.2 * len(rows) + 0.15))  # rows are as far apart in every panel
    return panels


def draw_forest(rows: pd.DataFrame, ax: Axes) -> None:
    """Squares with intervals, top to bottom; a diamond for the mean; the dashed line is what the claim must exceed."""
    ax.axvline(rows["margin"].iloc[0], **MARGIN_LINE, zorder=1)
    heights = np.arange(len(rows))[::-1].astype(float)
    for height, row in zip(heights, rows.to_dict("records"), strict=True):
        last = row["label"] == OVER_ALL
        color = INK.light if last else SERIES[0].light
        if math.isfinite(row["low"]):
            ax.plot([row["low"], row["high"]], [height, height], color=color, linewidth=1.4)
        marker, size = ("D", 6.0) if last else ("s", 4.5)
        ax.plot([row["effect"]], [height], linestyle="", color=color, marker=marker, markersize=size)
    ax.set_yticks(heights, rows["label"])
    ax.set_ylim(-0.6, len(heights) - 0.4)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("effect [%], better to the right")


def claims_figure(claims: Sequence[Claim]) -> Drawing | str:
    """The forest plot, or why there is none."""
    panels = forest_panels(claims)
    if not panels:
        return "No claim could be tested with the trials that are done, so there is no forest plot."
    known = any(panel.rows["low"].notna().any() for panel in panels)
    width = 1.4 if known else 0
    handles = [
        Line2D([], [], color=SERIES[0].light, marker="s", markersize=4.5, linewidth=width, label="a combination"),
        Line2D([], [], color=INK.light, marker="D", markersize=6, linewidth=width, label=OVER_ALL),
        Line2D([], [], label="what it must exceed", **MARGIN_LINE),
    ]
    labels = 0.077 * max(len(label) for panel in panels for label in panel.rows["label"])
    layout = Layout(columns=2, size=(2.3, 1.0), left=labels + 0.1, title_left=labels)
    words = Words(
        "claims",
        "The paper's claims, tested",
        "The paper's claims: each combination's mean effect over seeds, and the mean of all.",
        "Bars: 95 % confidence interval over seeds" if known else "One seed per setting, so no intervals",
    )
    tables = []
    for claim in claims:
        parts = [part for part in (claim.data, _over_all(claim).drop(columns="label")) if len(part)]
        tables.append(pd.concat(parts, ignore_index=True).assign(margin=claim.margin, verdict=claim.verdict))
        tables[-1].insert(0, "claim", claim.name)
    return draw_sheet(words, panels, draw_forest, handles, layout, pd.concat(tables, ignore_index=True))


def _over_all(claim: Claim) -> pd.DataFrame:
    """One row: the claim's effect over all units."""
    whole = claim.effect
    row = {"tasks": OVER_ALL, "label": OVER_ALL, "effect": whole.mean, "low": whole.low, "high": whole.high}
    return pd.DataFrame([row | {"seeds": whole.number, "p_value": whole.p_value, "adjusted_p": claim.adjusted_p}])
