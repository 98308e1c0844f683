"""The front over all methods in performance and in what the whole model costs, and its hypervolume.

As all fronts it is chosen on the validation split and reported on the test split.
"""

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.compute.costs import known
from analysis.pareto import hypervolume, pareto_front
from analysis.read.load import Sweep, reported_column
from mtl.vocabulary.delta_m import constant_delta_m, is_own, relative_change
from mtl.vocabulary.objective import MODEL_MACS

COLUMNS = [
    *("cost_objectives", "cost_hypervolume", "cost_reference", "cost_reference_value", "cost_reference_model_macs"),
    "points_on_cost_front",
]


def quality_of(rows: pd.DataFrame) -> str | None:
    """The column of the performance of these settings, of one combination: Δm over dense single-task models where all
    have it, else `over_dense`; None where neither is known."""
    for column in ("delta_m", "over_dense"):
        if known(rows, column) and known(rows, reported_column(column)):
            return column
    return None


def cost_front(rows: pd.DataFrame, quality: str, cost: str) -> NDArray[np.bool_]:
    """(rows,) which settings no other one beats in one of the two without losing in the other; never one whose cost is
    not known."""
    points = rows[[f"{quality}_mean", f"{cost}_mean"]].to_numpy(dtype=float)
    there = ~np.isnan(points).any(axis=1)
    front = np.zeros(len(rows), bool)
    front[there] = pareto_front(points[there], [True, False])
    return front


def with_cost_fronts(marked: pd.DataFrame) -> pd.DataFrame:
    """The settings with `on_cost_front`, among all methods of their combination, and `cost_objectives`, what decided:
    delta_m+model_macs, over_dense+model_macs, or nothing where costs or performance are not known."""
    marked = marked.assign(cost_objectives="", on_cost_front=False)
    for _, rows in marked.groupby("tasks", sort=False):
        quality = quality_of(rows)
        if quality is not None and f"{MODEL_MACS}_mean" in rows and rows[f"{MODEL_MACS}_mean"].notna().any():
            marked.loc[rows.index, "cost_objectives"] = f"{quality}+{MODEL_MACS}"
            marked.loc[rows.index, "on_cost_front"] = cost_front(rows, quality, MODEL_MACS)
    return marked


def cost_volumes(sweep: Sweep, marked: pd.DataFrame) -> pd.DataFrame:
    """One row per combination, in the order of `marked`: the hypervolume of its front over performance and log2 MACs.

    Performance is the test value of what was chosen on validation, a fraction. Cost counts in halvings: the base-2
    logarithm of how many times cheaper the model is than the reference. So a front that halves the cost once more and
    keeps Δm 0.1 above the constant predictor's has 0.1 more. The reference point is the MACs of the dense model with
    the recipe's own settings, and the performance of the constant predictor: neither moves when somebody adds a
    stronger λ.
    Where the constant predictor is not known it is the worst performance observed, and the volume compares with nothing
    else.

    Columns: `tasks`; `cost_objectives` (as reported); `cost_hypervolume`, NaN without a dense model; `cost_reference`
    ("constant predictor" or "worst observed"); `cost_reference_value`; `cost_reference_model_macs`, of several setups
    the largest; `points_on_cost_front`.
    """
    rows = []
    for tasks, some in marked.groupby("tasks", sort=False):
        row: dict[str, object] = {"tasks": tasks, **dict.fromkeys(COLUMNS)}
        row |= {"points_on_cost_front": int(some["on_cost_front"].sum()), "cost_hypervolume": math.nan}
        decided = some["cost_objectives"].iloc[0]
        if decided:
            column = reported_column(decided.split("+")[0])
            full = some.loc[(some["lambda"] == 0) & is_own(some), f"{MODEL_MACS}_mean"].max()
            value = _constant(sweep, str(tasks), column)
            row["cost_reference"] = "worst observed" if math.isnan(value) else "constant predictor"
            value = float(some[f"{column}_mean"].min()) if math.isnan(value) else value
            row |= {"cost_objectives": f"{column}+{MODEL_MACS}", "cost_reference_value": value}
            if full > 0:
                front = some.loc[some["on_cost_front"], [f"{column}_mean", f"{MODEL_MACS}_mean"]].to_numpy(dtype=float)
                points = np.column_stack([front[:, 0], np.log2(full / front[:, 1])])
                row["cost_reference_model_macs"] = float(full)
                row["cost_hypervolume"] = hypervolume(points, [value, 0.0], [True, True])
        rows.append(row)
    return pd.DataFrame(rows, columns=["tasks", *COLUMNS])


def _constant(sweep: Sweep, tasks: str, column: str) -> float:
    """What the constant predictor's performance is on the test split, a fraction; NaN where it is not known."""
    primaries = {task: sweep.metrics[sweep.tasks[task]] for task in sweep.tasks_of(tasks)}
    constants = sweep.constants("test")
    if column == "test_delta_m":
        return constant_delta_m(sweep.results, "test", primaries, constants)
    done = sweep.trials("done")
    dense = done[(done["tasks"] == tasks) & (done["lambda"] == 0) & is_own(done)]
    changes = [
        relative_change(constants.get(one.name, math.nan), dense[f"test_{one.name}"], one.maximize)
        for one in primaries.values()
    ]
    return float(np.mean(changes)) if len(dense) else math.nan
