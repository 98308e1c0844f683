"""Which settings are worth having: of each combination of tasks the front and its hypervolume.

Settings are selected on the validation split and reported on the test split. A combination whose objectives are not
all known, as Δm is not without dense single-task baselines, is judged by its own primary metrics instead.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.compute.cost_fronts import cost_volumes, with_cost_fronts
from analysis.pareto import hypervolume, pareto_front
from analysis.read.load import Sweep, reported_column
from mtl.vocabulary.delta_m import constant_delta_m
from mtl.vocabulary.objective import SPARSITIES, Objective


def with_fronts(sweep: Sweep, settings: pd.DataFrame) -> pd.DataFrame:
    """The settings with their place on the fronts of their combination.

    Adds `objectives` (the columns that decided, joined by "+") and `on_front`, and for the front over all methods in
    performance and cost `cost_objectives` and `on_cost_front` (see `cost_fronts`). There is no front over combinations:
    models of other tasks do other things, and the easiest task would win.
    """
    marked = settings.assign(objectives="", on_front=False)
    for _, rows in settings.groupby("tasks", sort=False):
        objectives = objectives_of(sweep, rows)
        marked.loc[rows.index, "objectives"] = joined(objectives)
        marked.loc[rows.index, "on_front"] = pareto_front(means(rows, objectives), directions(objectives))
    return with_cost_fronts(marked)


def objectives_of(sweep: Sweep, rows: pd.DataFrame) -> tuple[Objective, ...]:
    """The sweep's objectives if all settings of this combination have them on both splits.

    Otherwise those that they do have, after the combination's own primary metrics on the validation split.
    """
    known = tuple(
        objective
        for objective in sweep.objectives
        if rows[[f"{objective.column}_mean", f"{reported_column(objective.column)}_mean"]].notna().all(axis=None)
    )
    if known == sweep.objectives:
        return known
    primaries = [sweep.metrics[sweep.tasks[task]] for task in sweep.tasks_of(str(rows["tasks"].iloc[0]))]
    return tuple(dict.fromkeys([*(one.objective("val") for one in primaries), *known]))


def reference_point(
    sweep: Sweep, tasks: str, rows: pd.DataFrame, objectives: tuple[Objective, ...]
) -> tuple[NDArray[np.float64], bool]:
    """(m,) the worst value of each objective on the test split, and whether it is more than the worst one observed.

    It is what a model is worth that sees nothing of the image: the constant predictor's Δm or metric, and no channel
    removed. Where the constant predictor is not known, and for costs, it is the worst mean among `rows`.
    """
    corner, known = [], True
    for objective in objectives:
        column = reported_column(objective.column)
        value = _blind(sweep, tasks, column)
        if np.isnan(value):
            known, observed = False, rows[f"{column}_mean"]
            value = float(observed.min() if objective.maximize else observed.max())
        corner.append(value)
    return np.array(corner), known


def _blind(sweep: Sweep, tasks: str, column: str) -> float:
    if column in SPARSITIES:
        return 0.0
    if column == "test_delta_m":
        primaries = {task: sweep.metrics[sweep.tasks[task]] for task in sweep.tasks_of(tasks)}
        return constant_delta_m(sweep.results, "test", primaries, sweep.constants("test"))
    return sweep.constants("test").get(column.removeprefix("test_"), np.nan)


def hypervolume_table(sweep: Sweep, marked: pd.DataFrame) -> pd.DataFrame:
    """One row per combination: the volume of the test values of the settings on the validation front.

    Columns: `tasks`, `objectives` (the test columns, joined by "+"), `hypervolume`, `reference` ("constant predictor",
    or "worst observed" where it is not known of every objective), `points_on_front`, `points`, `seeds`, and
    `reference_<column>` for each objective's reference value; and of the front in performance and cost the columns of
    `cost_fronts.cost_volumes`.
    """
    rows = []
    for tasks, some in marked.groupby("tasks", sort=False):
        objectives = objectives_of(sweep, some)
        columns = [reported_column(objective.column) for objective in objectives]
        corner, known = reference_point(sweep, str(tasks), some, objectives)
        values = some.loc[some["on_front"], [f"{column}_mean" for column in columns]].to_numpy(dtype=float)
        row = {
            "tasks": tasks,
            "objectives": "+".join(columns),
            "hypervolume": hypervolume(values, corner, directions(objectives)),
            "reference": "constant predictor" if known else "worst observed",
            "points_on_front": int(some["on_front"].sum()),
            "points": len(some),
            "seeds": int(some["seeds"].max()),
        }
        rows.append(row | {f"reference_{name}": value for name, value in zip(columns, corner.tolist(), strict=True)})
    return pd.DataFrame(rows).merge(cost_volumes(sweep, marked), on="tasks")


def means(rows: pd.DataFrame, objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """(rows, objectives)"""
    return rows[[f"{objective.column}_mean" for objective in objectives]].to_numpy(dtype=float)


def directions(objectives: Sequence[Objective]) -> list[bool]:
    """Of each whether more is better."""
    return [objective.maximize for objective in objectives]


def joined(objectives: Sequence[Objective]) -> str:
    """As tables name them."""
    return "+".join(objective.column for objective in objectives)
