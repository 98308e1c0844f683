"""The explorable front of the report: its controls, its table, and the numbers that its script draws."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from analysis import text
from analysis.compute import summary
from analysis.compute.best import asked_for, trials_to_use
from analysis.compute.everything import Computed
from analysis.compute.explore import Axis, cost_axes, first_axes, performance_axes, points
from analysis.compute.setting_names import short_names
from analysis.compute.text_table import (
    DEVIATION_NOTE,
    TextTable,
    cells,
    cost_cells,
    mean_cells,
    metric_header,
    sparsity_cells,
)
from analysis.figures.looks import strategy_looks
from analysis.figures.palette import ALL
from analysis.figures.shapes import SHAPES

DIGITS = 7  # of a number in the page; a screen shows three
MOST_TASKS = 3  # combinations that are shown at first


@dataclass(frozen=True)
class Choice:
    """One entry of a list to choose from; `color` is a CSS colour and `shape` an SVG path of points."""

    name: str
    chosen: bool
    color: str = ""
    shape: str = ""


@dataclass(frozen=True)
class Explorer:
    """All that the template needs: the lists to choose from, the table, and `data`, which the script reads."""

    tasks: tuple[Choice, ...]
    methods: tuple[Choice, ...]
    x: tuple[Axis, ...]
    y: dict[str, list[Axis]]  # by group
    first_x: str
    first_y: str
    table: TextTable
    more: int  # settings that are not shown
    data: str


def explorer(computed: Computed) -> Explorer:
    """The explorable front of a sweep."""
    sweep, marked = computed.sweep, computed.marked
    shown = points(marked)
    x, y = cost_axes(shown), performance_axes(sweep, shown)
    combinations = list(dict.fromkeys(map(str, shown["tasks"])))
    asked = asked_for(combinations)[:MOST_TASKS]
    first_x, first_y = first_axes(shown, asked, x, y)
    variables = {color.light: f"var(--{color.name})" for color in ALL}
    methods = [
        Choice(name, True, variables[look.color], SHAPES[look.marker])
        for name, look in strategy_looks(marked).items()
        if (shown["strategy"] == name).any()
    ]
    trials = trials_to_use(sweep, marked)[shown.index]
    names = short_names(shown)
    rows = [
        {
            "tasks": str(setting["tasks"]),
            "method": setting["strategy"],
            "name": name,
            "best": bool(setting["best"]),
            "command": summary.command(sweep, trial),
            "x": [_numbers(setting, axis) for axis in x],
            "y": [_numbers(setting, axis) for axis in y],
        }
        for setting, name, trial in zip(shown.to_dict("records"), names, trials, strict=True)
    ]
    groups: dict[str, list[Axis]] = {}
    for axis in y:
        groups.setdefault(axis.group, []).append(axis)
    data = {
        "rows": rows,
        "x": [_about(axis) for axis in x],
        "y": [_about(axis) for axis in y],
        "looks": {one.name: [one.color, one.shape] for one in methods},
    }
    return Explorer(
        tasks=tuple(Choice(one, one in asked) for one in combinations),
        methods=tuple(methods),
        x=tuple(x),
        y=groups,
        first_x=first_x,
        first_y=first_y,
        table=_table(computed, shown, names, trials.tolist()),
        more=len(marked) - len(shown),
        data=in_script(data),
    )


def in_script(value: object) -> str:
    """As JSON that a script element of HTML and of XML can hold: nothing in it looks like markup."""
    written = json.dumps(value, separators=(",", ":"))
    return written.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def _about(axis: Axis) -> dict[str, Any]:
    return {
        "key": axis.key,
        "label": axis.label,
        "maximize": axis.maximize,
        "log": axis.log,
        "zero": axis.zero,
    }


def _numbers(setting: dict[Any, Any], axis: Axis) -> list[float | None] | None:
    """The mean, the deviation, and the mean that decides who is on a front, on the axis' scale; None where the mean
    is not known."""
    names = (f"{axis.column}_mean", f"{axis.column}_std", f"{axis.chosen_by}_mean")
    values = [axis.scale * float(setting.get(name, math.nan)) for name in names]
    if math.isnan(values[0]) or math.isnan(values[2]):
        return None
    return [None if math.isnan(value) else float(f"{value:.{DIGITS}g}") for value in values]


def _table(computed: Computed, shown: pd.DataFrame, names: Sequence[str], trials: Sequence[str]) -> TextTable:
    """One row for each point."""
    sweep = computed.sweep
    columns: dict[str, list[str]] = {"setting": list(names), "tasks": cells(shown["tasks"])}
    columns |= cost_cells(shown)
    if f"{(latency := 'model_latency_ms')}_mean" in shown and shown[f"{latency}_mean"].notna().any():
        columns["latency [ms]"] = mean_cells(shown, latency, partial(text.mean_std, decimals=2))
    columns["groups gone [%]"] = sparsity_cells(shown)["groups gone [%]"]
    for header, name in (("Δm [%] ↑", "test_delta_m"), ("Δm over dense [%] ↑", "test_over_dense")):
        if f"{name}_mean" in shown and shown[f"{name}_mean"].notna().any():
            columns[header] = mean_cells(shown, name, partial(text.percent, signed=True))
    for primary in sweep.tasks.values():
        metric, name = sweep.metrics[primary], f"test_{primary}"
        if f"{name}_mean" in shown:
            digits = text.decimals(float(shown[f"{name}_mean"].abs().max()))
            columns[metric_header(metric)] = mean_cells(shown, name, partial(text.mean_std, decimals=digits))
    columns["λ"] = cells(shown["lambda"], text.strength)
    columns["seeds"] = cells(shown["seeds"])
    if shown["method"].nunique() > 1:
        columns["method"] = cells(shown["method"])
    if shown["setup"].nunique() > 1:
        columns["setup"] = cells(shown["setup"])
    columns["trial"] = list(trials)
    note = (
        "One row for each point, means over seeds on the test split; the trial is the best of its seeds on the "
        f"validation split. {DEVIATION_NOTE}"
    )
    return TextTable.of(columns, note, shown["best"])
