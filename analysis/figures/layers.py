"""Where channels survive: groups of each layer before and after, and heat maps by layer and by stage."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from analysis import text
from analysis.figures.curves import floats, spread_note, wrapped
from analysis.figures.drawing import Drawing, Floats, sheet
from analysis.figures.heat import draw_cells, mark_stages
from analysis.figures.palette import PALE, SERIES

ABSENT = "The sweep has no layers.parquet, so nothing is known of single layers."
SURVIVAL = "cividis"  # even in lightness, and the same to people with any colour blindness
MOST_ROWS = 12


@dataclass(frozen=True)
class GroupsPanel:
    """One setting: (n,) groups of each layer of the backbone, in its order, and how many are left."""

    title: str
    layers: tuple[str, ...]
    stages: tuple[str, ...]
    before: Floats
    after: Floats
    after_std: Floats  # NaN for one trial


@dataclass(frozen=True)
class SurvivalPanel:
    """One combination: the share of groups alive, in % (r, c): a row a λ, a column a layer or a stage."""

    title: str
    strengths: tuple[float, ...]
    columns: tuple[str, ...]
    stages: tuple[str, ...]
    alive: Floats


def groups_panels(marked: pd.DataFrame, survival: pd.DataFrame) -> list[GroupsPanel]:
    """A panel for each combination's best model, or for its smallest λ > 0 where that is dense."""
    panels = []
    for combination, settings in marked.groupby("tasks", sort=False):
        sparse = settings[settings["lambda"] > 0]
        chosen = sparse[sparse["best"]] if sparse["best"].any() else sparse.head(1)
        for setting in chosen.to_dict("records"):
            keys = ("setup", "tasks", "method", "lambda")
            same = np.logical_and.reduce([survival[key] == setting[key] for key in keys])
            rows = survival[same].sort_values("position")
            if rows.empty:
                continue
            panels.append(
                GroupsPanel(
                    title=f"{combination}, λ = {text.strength(setting['lambda'])}",
                    layers=tuple(rows["layer"]),
                    stages=tuple(rows["stage"]),
                    before=floats(rows["groups"]),
                    after=floats(rows["groups"] * rows["alive_mean"]),
                    after_std=floats(rows["groups"] * rows["alive_std"]),
                )
            )
    return panels


def survival_panels(marked: pd.DataFrame, survival: pd.DataFrame, column: str) -> list[SurvivalPanel]:
    """A panel for each combination (and method and setup, where there are several); `column` is layer or stage."""
    telling = ["tasks", *(key for key in ("method", "setup") if survival[key].nunique() > 1)]
    order = pd.Categorical(survival["tasks"], list(dict.fromkeys(marked["tasks"])))
    ordered = survival.assign(place=order.codes).sort_values(["place", "lambda"], kind="stable")
    panels = []
    for key, rows in ordered.groupby(telling, sort=False, dropna=False):
        first = rows[rows["lambda"] == rows["lambda"].iloc[0]]
        along = first.sort_values("position") if "position" in first else first
        names = list(dict.fromkeys(along[column]))
        stages = [str(along.loc[along[column] == name, "stage"].iloc[0]) for name in names]
        table = rows.pivot_table(index="lambda", columns=column, values="alive_mean").reindex(columns=names)
        places = np.unique(np.linspace(0, len(table) - 1, min(MOST_ROWS, len(table))).round().astype(int))
        shown = table.iloc[places]
        panels.append(
            SurvivalPanel(
                title=", ".join(str(part) for part in key),
                strengths=tuple(shown.index.tolist()),
                columns=tuple(names),
                stages=tuple(stages),
                alive=100 * shown.to_numpy(float),
            )
        )
    return panels


def draw_groups(panel: GroupsPanel, ax: Axes) -> None:
    """A bar a layer: all of its groups pale, those that are left in colour."""
    places = np.arange(len(panel.layers)) + 0.5
    ax.bar(places, panel.before, width=0.8, color=PALE.light)
    ax.bar(places, panel.after, width=0.8, color=SERIES[0].light)
    known = np.isfinite(panel.after_std)
    if known.any():
        ax.errorbar(places[known], panel.after[known], panel.after_std[known], fmt="none", ecolor=SERIES[6].light)
    ax.set_xlim(0, len(panel.layers))
    ax.set_ylim(bottom=0)
    mark_stages(ax, list(panel.stages))
    ax.grid(visible=False, axis="x")
    ax.set_title(wrapped(panel.title, 44), loc="left")
    ax.set_xlabel("convolution, from the image to the heads")
    ax.set_ylabel("channel groups")


def draw_survival(panel: SurvivalPanel, ax: Axes, *, written: bool) -> None:
    """Cells from 0 (dark) to 100 % (light) alive, with their numbers if `written`."""
    rows = [text.strength(value) for value in panel.strengths]
    labels = [["" if np.isnan(value) else f"{value:.0f}" for value in row] for row in panel.alive] if written else None
    draw_cells(ax, panel.alive, rows, (0, 100), SURVIVAL, labels)
    mark_stages(ax, list(panel.stages))
    ax.set_title(wrapped(panel.title, 40), loc="left")
    ax.set_ylabel("λ")


def groups_figure(marked: pd.DataFrame, survival: pd.DataFrame | None) -> Drawing | str:
    """The figure in the manner of the paper's first, or why there is none."""
    panels = [] if survival is None else groups_panels(marked, survival)
    if not panels:
        return ABSENT
    note = spread_note(marked)
    handles = [Patch(color=PALE.light, label="zero"), Patch(color=SERIES[0].light, label="left")]
    titles = [wrapped(panel.title, 44) for panel in panels]
    page = sheet(titles, handles, note, columns=3, size=(3.1, 1.6))
    for panel, ax in zip(panels, page.axes, strict=True):
        draw_groups(panel, ax)
    caption = (
        "Channel groups of each convolution of the backbone, all of them and those left at the combination's best "
        f"model, or at its smallest λ > 0 where that is the dense model. {note}."
    )
    return page.finish("fig1", "Groups of each layer, before and after", caption, _groups_data(panels))


def layers_figure(marked: pd.DataFrame, survival: pd.DataFrame | None) -> Drawing | str:
    """The heat map by layer, or why there is none."""
    if survival is None or survival.empty:
        return ABSENT
    return _heat_map(
        survival_panels(marked, survival, "layer"), "layers", "Where channels survive, by layer", "convolution"
    )


def stages_figure(marked: pd.DataFrame, survival: pd.DataFrame | None) -> Drawing | str:
    """The heat map by stage, or why there is none."""
    if survival is None or survival.empty:
        return ABSENT
    return _heat_map(survival_panels(marked, survival, "stage"), "stages", "Where channels survive, by stage", "stage")


def _heat_map(panels: list[SurvivalPanel], name: str, title: str, unit: str) -> Drawing:
    rows = max(len(panel.strengths) for panel in panels)
    columns, width = (3, 3.1) if name == "layers" else (4, 2.15)
    titles = [wrapped(panel.title, 40) for panel in panels]
    scale = [Patch(color=colormaps[SURVIVAL](share / 100), label=f"{share} % alive") for share in (0, 25, 50, 75, 100)]
    page = sheet(titles, scale, "Means over seeds", columns=columns, size=(width, 0.2 * rows + 0.3))
    for panel, ax in zip(panels, page.axes, strict=True):
        draw_survival(panel, ax, written=name == "stages")
    caption = f"The share of each {unit}'s channel groups that is not zero, in %, for each λ. Means over seeds."
    return page.finish(name, title, caption, _survival_data(panels, unit))


def _groups_data(panels: list[GroupsPanel]) -> pd.DataFrame:
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "setting": panel.title,
                    "stage": panel.stages,
                    "layer": panel.layers,
                    "groups": panel.before,
                    "left_mean": panel.after,
                    "left_std": panel.after_std,
                }
            )
            for panel in panels
        ],
        ignore_index=True,
    )


def _survival_data(panels: list[SurvivalPanel], unit: str) -> pd.DataFrame:
    tables = []
    for panel in panels:
        table = pd.DataFrame(panel.alive, columns=list(panel.columns))
        table.insert(0, "lambda", panel.strengths)
        long = table.melt("lambda", var_name=unit, value_name="alive_percent")
        long.insert(0, "tasks", panel.title)
        tables.append(long)
    return pd.concat(tables, ignore_index=True)
