"""Δm: how much better a model is, on average over its tasks, than dense single-task models of the same seed."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.load import Metric, is_own


def relative_gain(values: NDArray[np.float64], reference: NDArray[np.float64], maximize: bool) -> NDArray[np.float64]:
    """(n,) the relative change, a fraction, better is positive; NaN where the reference is 0 or either is NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        change = (values - reference) / np.abs(reference)
    return np.where(reference == 0, np.nan, change if maximize else -change)


def delta_m(results: pd.DataFrame, split: str, tasks: dict[str, str], metrics: dict[str, Metric]) -> pd.Series:
    """Of each row: the mean over its tasks of the primary metric's relative change (Maninis et al. 2019, eq. 7).

    The reference of a task is its done single-task trial at λ = 0 of the same setup and seed with the recipe's own
    settings, whatever the penalty, as at λ = 0 there is none; NaN where a reference is missing or 0.

    Args:
        results: one row a trial: `setup`, `status`, `tasks`, `lambda`, `seed` and the tasks' primary metrics.
        split: val or test.
        tasks: the primary metric of each task.
        metrics: the metrics by name.
    """
    dense = results[(results["lambda"] == 0) & (results["status"] == "done") & is_own(results)]
    keys = pd.MultiIndex.from_frame(results[["setup", "seed"]])
    total, number = np.zeros(len(results)), np.zeros(len(results))
    for task, primary in tasks.items():
        column = f"{split}_{primary}"
        having = np.array([task in str(one).split("+") for one in results["tasks"].unique()])
        rows = results["tasks"].isin(results["tasks"].unique()[having]).to_numpy()
        if not rows.any() or column not in results:
            continue
        base = dense[dense["tasks"] == task].groupby(["setup", "seed"])[column].mean()
        reference = base.reindex(keys[rows]).to_numpy(dtype=float)
        values = results[column].to_numpy(dtype=float)[rows]
        total[rows] += relative_gain(values, reference, metrics[primary].maximize)
        number[rows] += 1
    with np.errstate(invalid="ignore"):
        return pd.Series(total / number, index=results.index)
