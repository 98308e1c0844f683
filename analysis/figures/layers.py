"""Where channels survive: groups of each layer before and after, and heat maps by layer and by stage."""

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from analysis import text
from analysis.compute.layers import stage_of
from analysis.compute.settings import KEYS
from analysis.figures.curves import evenly, joined, several, spread_note
from analysis.figures.drawing import Drawing, Layout, Panel, Words, draw_sheet
from analysis.figures.heat import draw_cells, mark_stages
from analysis.figures.palette import PALE, SERIES

ABSENT = "The sweep has no layers.parquet, so nothing is known of single layers."
SURVIVAL = "cividis"  # even in lightness, and the same to people with any colour blindness
MOST_ROWS = 12


def groups_panels(marked: pd.DataFrame, survival: pd.DataFrame) -> list[Panel]:
    """A panel for each combination's best model, or for its smallest λ > 0 where that is dense.

    Rows, a layer of the backbone each, in its order: `setting`, `stage`, `layer`, `groups`, and how many are left, as
    `left_mean` and `left_std`.
    """
    panels = []
    for combination, settings in marked.groupby("tasks", sort=False):
        sparse = settings[settings["lambda"] > 0]
        chosen = sparse[sparse["best"]] if sparse["best"].any() else sparse.head(1)
        layers = chosen[KEYS].merge(survival, on=KEYS).sort_values("position")
        if len(layers):
            title = f"{combination}, λ = {text.strength(chosen['lambda'].iloc[0])}"
            groups = layers["groups"].astype(float)
            rows = layers[["stage", "layer"]].assign(
                groups=groups, left_mean=groups * layers["alive_mean"], left_std=groups * layers["alive_std"]
            )
            rows.insert(0, "setting", title)
            panels.append(Panel(title, rows, "channel groups"))
    return panels


def survival_panels(marked: pd.DataFrame, survival: pd.DataFrame, unit: str) -> list[Panel]:
    """A panel for each combination (and method and setup, where there are several).

    Rows: `tasks` (the panel's label), `lambda`, `unit` (the name of a layer, or of a stage), and `alive_percent` of its
    groups; by unit, then by λ, of which there are at most `MOST_ROWS`.
    """
    column = "layer" if "layer" in survival else "stage"
    labels = joined(survival, ["tasks", *several(survival)])
    order = {str(tasks): place for place, tasks in enumerate(marked["tasks"].unique())}
    ordered = survival.assign(label=labels, place=survival["tasks"].map(order))
    ordered = ordered.sort_values(["place", "lambda"], kind="stable")
    panels = []
    for label, rows in ordered.groupby("label", sort=False):
        first = rows[rows["lambda"] == rows["lambda"].iloc[0]]
        names = (first.sort_values("position") if "position" in first else first)[column].unique()
        table = rows.pivot_table(index="lambda", columns=column, values="alive_mean").reindex(columns=names)
        shown = 100 * table.iloc[evenly(len(table), MOST_ROWS)]
        long = shown.reset_index().melt("lambda", var_name=unit, value_name="alive_percent")
        long.insert(0, "tasks", label)
        panels.append(Panel(str(label), long, "λ", height=0.2 * len(shown) + 0.1))
    return panels


def draw_groups(rows: pd.DataFrame, ax: Axes) -> None:
    """A bar for each layer: all of its groups pale, those that are left in colour."""
    places = np.arange(len(rows)) + 0.5
    ax.bar(places, rows["groups"], width=0.8, color=PALE.light)
    ax.bar(places, rows["left_mean"], width=0.8, color=SERIES[0].light)
    known = rows["left_std"].notna().to_numpy()
    if known.any():
        left = rows[known]
        ax.errorbar(places[known], left["left_mean"], left["left_std"], fmt="none", ecolor=SERIES[6].light)
    ax.set_xlim(0, len(rows))
    ax.set_ylim(bottom=0)
    mark_stages(ax, rows["stage"].tolist())
    ax.grid(visible=False, axis="x")
    ax.set_xlabel("convolution, from the image to the heads")


def draw_survival(rows: pd.DataFrame, ax: Axes, unit: str, *, written: bool) -> None:
    """Cells from 0 (dark) to 100 % (light) alive, with their numbers if `written`."""
    table = rows.pivot(index="lambda", columns=unit, values="alive_percent")[rows[unit].unique()]
    alive = table.to_numpy(float)
    labels = [["" if np.isnan(value) else f"{value:.0f}" for value in row] for row in alive] if written else None
    draw_cells(ax, alive, [text.strength(value) for value in table.index], (0, 100), SURVIVAL, labels)
    mark_stages(ax, [stage_of(str(name)) for name in table])


def groups_figure(marked: pd.DataFrame, survival: pd.DataFrame) -> Drawing | str:
    """A figure like figure 1 of the paper, or why there is none."""
    panels = groups_panels(marked, survival)
    if not panels:
        return ABSENT
    caption = (
        "Channel groups of each convolution of the backbone, all of them and those left at the combination's best "
        "model, or at its smallest λ > 0 where that is the dense model."
    )
    words = Words("groups_by_layer", "Groups of each layer, before and after", caption, spread_note(marked))
    handles = [Patch(color=PALE.light, label="zero"), Patch(color=SERIES[0].light, label="left")]
    return draw_sheet(words, panels, draw_groups, handles, Layout(columns=3, size=(3.1, 1.6), letters=44))


def survival_figure(marked: pd.DataFrame, survival: pd.DataFrame, name: str) -> Drawing | str:
    """The heat map called `name`, layers or stages, or why there is none."""
    if survival.empty:
        return ABSENT
    unit, kind = ("convolution", "layer") if name == "layers" else ("stage", "stage")
    panels = survival_panels(marked, survival, unit)
    rows = max(panel.rows["lambda"].nunique() for panel in panels)
    columns, width = (3, 3.1) if name == "layers" else (4, 2.15)
    layout = Layout(columns=columns, size=(width, 0.2 * rows + 0.3), letters=40)
    caption = f"The share of each {unit}'s channel groups that is not zero, in %, for each λ."
    words = Words(name, f"Where channels survive, by {kind}", caption, "Means over seeds")
    scale = [Patch(color=colormaps[SURVIVAL](share / 100), label=f"{share} % alive") for share in (0, 25, 50, 75, 100)]

    def draw(rows: pd.DataFrame, ax: Axes) -> None:
        draw_survival(rows, ax, unit, written=name == "stages")

    return draw_sheet(words, panels, draw, scale, layout)
