"""Which settings are worth having: per task combination, the front, its hypervolume and its best trade-off.

Settings are selected on the validation split and reported on the test split. A combination whose objectives are not
all known, as Δm is not without dense single-task baselines, is judged by its own primary metrics instead.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.knee import knee_point
from analysis.load import Objective, Sweep, reported_column
from analysis.pareto import hypervolume, pareto_front

OVERALL = "all"
TOLERANCE = 0.05  # of Δm, a fraction
# Where an objective has a worst value worth naming, that is its reference: a metric gone by 100 %, no group removed.
REFERENCES = {"test_delta_m": -1.0, "group_sparsity": 0.0, "parameter_sparsity": 0.0}


def with_fronts(sweep: Sweep, settings: pd.DataFrame) -> pd.DataFrame:
    """The settings with their place on the fronts.

    Adds `objectives` (the columns that decided, joined by "+"), `on_front` (among the settings of the same
    combination), `on_overall_front` (among the settings of all combinations that the sweep's own objectives could
    judge; False for the others), `best_trade_off` (one row a combination, see `best_trade_off`) and `knee` (the knee
    point of the combination's front, where it has one, see `analysis.knee`).
    """
    marked = settings.assign(objectives="", on_front=False, on_overall_front=False, best_trade_off=False, knee=False)
    for _, rows in settings.groupby("tasks", sort=False):
        objectives = objectives_of(sweep, rows)
        marked.loc[rows.index, "objectives"] = _names(objectives)
        marked.loc[rows.index, "on_front"] = _on_front(rows, objectives)
        if (best := best_trade_off(rows)) is not None:
            marked.loc[best, "best_trade_off"] = True
        columns = [objective.column for objective in objectives]
        if (knee := knee_point(_means(rows, columns), _directions(objectives))) is not None:
            marked.loc[rows.index[knee.row], "knee"] = True
    together = marked[marked["objectives"] == _names(sweep.objectives)]
    if len(together):
        marked.loc[together.index, "on_overall_front"] = _on_front(together, sweep.objectives)
    return marked


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
    return tuple(dict.fromkeys([*(Objective(f"val_{one.name}", one.maximize) for one in primaries), *known]))


def best_trade_off(rows: pd.DataFrame) -> int | None:
    """The index of the sparsest row whose validation Δm is not below -`TOLERANCE`; of equally sparse ones the better.

    Where no row reaches Δm = 0, the best of `rows` takes the place of 0, so that there always is such a row. No other
    row is at least as good in Δm and in group sparsity and better in one, so it lies on their front. None where Δm
    is not known for all rows on both splits.
    """
    delta_m = rows["delta_m_mean"]
    if rows.empty or rows[["delta_m_mean", "test_delta_m_mean"]].isna().any(axis=None):
        return None
    good_enough = rows[delta_m >= min(0.0, delta_m.max()) - TOLERANCE]
    return int(good_enough.sort_values(["group_sparsity_mean", "delta_m_mean"]).index[-1])


def overall_best(marked: pd.DataFrame) -> int | None:
    """The index of the best trade-off over all combinations whose Δm is known."""
    return best_trade_off(marked[marked["delta_m_mean"].notna() & marked["test_delta_m_mean"].notna()])


def reference_point(rows: pd.DataFrame, objectives: tuple[Objective, ...]) -> NDArray[np.float64]:
    """(m,) each objective's reference on the test split: the fixed one, or else the worst mean among `rows`."""
    corner = []
    for objective in objectives:
        column = reported_column(objective.column)
        means = rows[f"{column}_mean"]
        corner.append(REFERENCES.get(column, float(means.min() if objective.maximize else means.max())))
    return np.array(corner)


def hypervolume_table(sweep: Sweep, marked: pd.DataFrame) -> pd.DataFrame:
    """One row a combination, and one, "all", over those that the sweep's own objectives could judge.

    The volume is that of the test values of the settings on the validation front. Columns: `tasks`, `objectives` (the
    test columns, joined by "+"), `hypervolume`, `reference` ("fixed", or "worst observed" where an objective has no
    fixed one), `points_on_front`, `points`, `seeds`, and `reference_<column>` for each objective's reference value.
    """
    rows = [
        _hypervolume_row(str(tasks), some, some["on_front"], objectives_of(sweep, some))
        for tasks, some in marked.groupby("tasks", sort=False)
    ]
    together = marked[marked["objectives"] == _names(sweep.objectives)]
    if len(together):
        rows.append(_hypervolume_row(OVERALL, together, together["on_overall_front"], sweep.objectives))
    return pd.DataFrame(rows)


def knee_table(sweep: Sweep, marked: pd.DataFrame) -> pd.DataFrame:
    """One row a front that has a knee point (see `analysis.knee`), of a combination or over "all".

    Columns: `front` (the combination, or "all"), the setting (`setup`, `tasks`, `method`, `lambda`), `objectives` that
    chose it, `distance`, and `<column>_mean` of each reported objective (NaN where a front has it not).
    """
    fronts = [(str(tasks), rows, objectives_of(sweep, rows)) for tasks, rows in marked.groupby("tasks", sort=False)]
    together = marked[marked["objectives"] == _names(sweep.objectives)]
    if len(together):
        fronts.append((OVERALL, together, sweep.objectives))
    knees = []
    for front, rows, objectives in fronts:
        knee = knee_point(_means(rows, [one.column for one in objectives]), _directions(objectives))
        if knee is not None:
            reported = [f"{reported_column(objective.column)}_mean" for objective in objectives]
            setting = rows.iloc[knee.row]
            chosen = {"front": front} | setting[["setup", "tasks", "method", "lambda"]].to_dict()
            knees.append(
                chosen | {"objectives": _names(objectives), "distance": knee.distance} | setting[reported].to_dict()
            )
    return pd.DataFrame(
        knees, columns=None if knees else ["front", "setup", "tasks", "method", "lambda", "objectives", "distance"]
    )


def _hypervolume_row(
    tasks: str, rows: pd.DataFrame, on_front: pd.Series, objectives: tuple[Objective, ...]
) -> dict[str, object]:
    columns = [reported_column(objective.column) for objective in objectives]
    corner = reference_point(rows, objectives)
    return {
        "tasks": tasks,
        "objectives": "+".join(columns),
        "hypervolume": hypervolume(_means(rows[on_front], columns), corner, _directions(objectives)),
        "reference": "fixed" if all(column in REFERENCES for column in columns) else "worst observed",
        "points_on_front": int(on_front.sum()),
        "points": len(rows),
        "seeds": int(rows["seeds"].max()),
    } | {f"reference_{column}": value for column, value in zip(columns, corner.tolist(), strict=True)}


def _on_front(rows: pd.DataFrame, objectives: tuple[Objective, ...]) -> NDArray[np.bool_]:
    return pareto_front(_means(rows, [objective.column for objective in objectives]), _directions(objectives))


def _means(rows: pd.DataFrame, columns: list[str]) -> NDArray[np.float64]:
    return rows[[f"{column}_mean" for column in columns]].to_numpy(dtype=float)


def _directions(objectives: tuple[Objective, ...]) -> list[bool]:
    return [objective.maximize for objective in objectives]


def _names(objectives: tuple[Objective, ...]) -> str:
    return "+".join(objective.column for objective in objectives)
