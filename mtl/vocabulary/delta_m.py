"""Δm: how much better a model is, on average over its tasks, than dense single-task models of the same seed."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mtl.vocabulary.metric import Metric

Floats = NDArray[np.float64]
NO_RETRAINING = "none"


def relative_change(values: Any, reference: Any, maximize: bool) -> Floats:
    """The relative change s (m - r) / |r|, a fraction, with s = 1 if more is better, else -1.

    Args:
        values, reference: numbers or arrays that broadcast.

    Returns:
        An array of that shape; better is positive. NaN if the reference is 0 or one of the two is NaN.
    """
    values, reference = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = (1 if maximize else -1) * (values - reference) / np.abs(reference)
    return np.where(reference == 0, np.nan, change)


def is_own(results: pd.DataFrame) -> "pd.Series[bool]":
    """Which trials have the recipe's own settings: not retrained, and with no setting that a search chose."""
    return (results["settings"] == "") & (results["retraining"] == NO_RETRAINING)


def references(results: pd.DataFrame, task: str, column: str) -> pd.Series:
    """The dense single-task models' values of a column, by setup and seed.

    They are the task's done single-task trials at λ = 0 with the recipe's own settings. At λ = 0 the penalty has no
    effect.

    Args:
        results: a row for each trial: `setup`, `status`, `tasks`, `lambda`, `seed`, `settings`, `retraining`, column.
    """
    dense = results[(results["lambda"] == 0) & (results["status"] == "done") & is_own(results)]
    return dense[dense["tasks"] == task].groupby(["setup", "seed"])[column].mean()


def delta_m(results: pd.DataFrame, split: str, metrics: Mapping[str, Sequence[Metric]]) -> pd.Series:
    """Δm of each row: the mean over its tasks of the mean relative change of each task's metrics.

    With one metric for each task this is eq. 7 of Maninis et al. 2019; with all metrics that a task reports it is the
    measure of Liu et al. 2019 (MTAN) and LibMTL. NaN if a reference is missing. A metric whose reference is 0 does not
    count, and gives NaN if it is its task's only metric.

    Args:
        results: see `references`.
        split: val or test.
        metrics: the metrics of each task that count.
    """
    keys = pd.MultiIndex.from_frame(results[["setup", "seed"]])
    combinations = {one: str(one).split("+") for one in results["tasks"].unique()}
    total, number = np.zeros(len(results)), np.zeros(len(results))
    for task, counted in metrics.items():
        having = [one for one, tasks in combinations.items() if task in tasks]
        rows = results["tasks"].isin(having).to_numpy()
        changes = []
        for metric in counted:
            column = f"{split}_{metric.name}"
            if rows.any() and column in results:
                reference = references(results, task, column).reindex(keys[rows])
                changes.append(relative_change(results[column][rows], reference, metric.maximize))
        if changes:
            total[rows] += _mean_of_known(np.array(changes))
            number[rows] += 1
    with np.errstate(invalid="ignore"):
        return pd.Series(total / number, index=results.index, dtype="float64")


def constant_delta_m(
    results: pd.DataFrame, split: str, metrics: Mapping[str, Metric], constants: Mapping[str, float]
) -> float:
    """The mean Δm of the constant predictor over the setups and seeds whose dense single-task models are known.

    Args:
        results, split: see `delta_m`.
        metrics: the primary metric of each task of the combination.
        constants: the constant predictor's metrics on this split.

    Returns:
        A fraction; NaN if it is not known for every task.
    """
    changes = []
    for task, metric in metrics.items():
        column = f"{split}_{metric.name}"
        reference = references(results, task, column) if column in results else pd.Series(dtype=float)
        constant = constants.get(metric.name, np.nan)
        changes.append(pd.Series(relative_change(constant, reference, metric.maximize), reference.index))
    return float(pd.concat(changes, axis=1).mean(axis=1, skipna=False).mean())


def _mean_of_known(changes: Floats) -> Floats:
    """(metrics, rows) to (rows,)"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # for a row without any
        return np.nanmean(changes, axis=0)
