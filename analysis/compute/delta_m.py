"""Δm: how much better a model is, on average over its tasks, than dense single-task models of the same seed."""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.read.load import Metric, is_own

Floats = NDArray[np.float64]


def relative_gain(values: Floats, reference: Floats, maximize: bool) -> Floats:
    """(n,) the relative change, a fraction, better is positive; NaN where the reference is 0 or either is NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        change = (values - reference) / np.abs(reference)
    return np.where(reference == 0, np.nan, change if maximize else -change)


def delta_m(results: pd.DataFrame, split: str, metrics: Mapping[str, Sequence[Metric]]) -> pd.Series:
    """Of each row: the mean over its tasks of the mean relative change of each task's metrics.

    With one metric a task it is eq. 7 of Maninis et al. 2019; with all that a task reports it is how Liu et al. 2019
    (MTAN) and LibMTL are compared. The reference of a task is its done single-task trial at λ = 0 of the same setup and
    seed with the recipe's own settings, whatever the penalty, as at λ = 0 there is none. NaN where a reference is
    missing; a metric whose reference is 0 counts nowhere, and is NaN where it is a task's only one.

    Args:
        results: one row a trial: `setup`, `status`, `tasks`, `lambda`, `seed` and the metrics.
        split: val or test.
        metrics: of each task those that count.
    """
    keys = pd.MultiIndex.from_frame(results[["setup", "seed"]])
    combinations = {one: str(one).split("+") for one in results["tasks"].unique()}
    total, number = np.zeros(len(results)), np.zeros(len(results))
    for task, counted in metrics.items():
        having = [one for one, tasks in combinations.items() if task in tasks]
        rows = results["tasks"].isin(having).to_numpy()
        gains = []
        for metric in counted:
            column = f"{split}_{metric.name}"
            if rows.any() and column in results:
                reference = _references(results, task, column).reindex(keys[rows]).to_numpy(dtype=float)
                gains.append(relative_gain(results[column].to_numpy(dtype=float)[rows], reference, metric.maximize))
        if gains:
            total[rows] += _mean_of_known(np.array(gains))
            number[rows] += 1
    with np.errstate(invalid="ignore"):
        return pd.Series(total / number, index=results.index)


def constant_delta_m(
    results: pd.DataFrame, split: str, metrics: Mapping[str, Metric], constants: Mapping[str, float]
) -> float:
    """Δm of the constant predictor for these tasks, over the setups and seeds whose dense single-task models are known.

    Args:
        results, split: as of `delta_m`.
        metrics: of each task of the combination its primary metric.
        constants: the constant predictor's metrics on this split.

    Returns:
        A fraction; NaN where it is not known of every task.
    """
    gains = []
    for task, metric in metrics.items():
        column = f"{split}_{metric.name}"
        reference = _references(results, task, column) if column in results else pd.Series(dtype=float)
        values = np.full(len(reference), constants.get(metric.name, np.nan))
        gains.append(
            pd.Series(relative_gain(values, reference.to_numpy(dtype=float), metric.maximize), reference.index)
        )
    return float(pd.concat(gains, axis=1).mean(axis=1, skipna=False).mean())


def _references(results: pd.DataFrame, task: str, column: str) -> pd.Series:
    """By setup and seed."""
    dense = results[(results["lambda"] == 0) & (results["status"] == "done") & is_own(results)]
    return dense[dense["tasks"] == task].groupby(["setup", "seed"])[column].mean()


def _mean_of_known(gains: Floats) -> Floats:
    """(metrics, rows) to (rows,)"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a row with none
        return np.nanmean(gains, axis=0)
