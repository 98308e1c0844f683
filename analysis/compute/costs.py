"""What a model costs and gains beside the dense model of the same tasks, and by which strategy it was made small."""

from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.compute.paired import row_gains
from analysis.read.load import COMPRESSED, LONGER, LONGER_NAME, Sweep, method_name
from mtl.vocabulary.compressors import PENALTY, side_of
from mtl.vocabulary.delta_m import is_own
from mtl.vocabulary.objective import WHOLE_COSTS

DENSE, OTHER_DENSE = "dense", "dense, other settings"
# For each cost of the whole model the column with its share of the dense model's.
SHARES = {cost: f"{cost.removesuffix('_ms')}_share" for cost in WHOLE_COSTS}
# The mean relative change of the tasks' primary metrics over the dense model, by its split.
OVER_DENSE = {"over_dense": "val", "test_over_dense": "test"}
_COMPRESSOR = rf"(?:^|\s){COMPRESSED}(\w+)"
_TARGET = r"(?:^|\s)target_macs=([\d.e+-]+)"


def with_costs(sweep: Sweep) -> Sweep:
    """The sweep with what each done trial costs and gains beside the dense model of the same tasks and setup.

    The results get the columns

    - `over_dense` and `test_over_dense`: the mean relative change of the tasks' primary metrics over the dense model of
      the same seed, a fraction, better is positive (Δm is over dense single-task models);
    - `model_macs_share`, `model_parameters_share` and `model_latency_share`: what the whole compacted model costs as a
      fraction of the dense model's mean over seeds; the costs that no trial knows are left out.

    All are NaN where there is no such dense model.
    """
    results = sweep.results
    done = results[results["status"] == "done"]
    dense = done[_is_dense(done)]
    columns = {}
    for column, split in OVER_DENSE.items():
        gains = [
            row_gains(sweep, sweep.tasks_of(str(tasks)), rows, dense[dense["tasks"] == tasks], split, ["setup", "seed"])
            for tasks, rows in done.groupby("tasks", sort=False)
        ]
        columns[column] = pd.concat(gains).reindex(results.index) if gains else np.nan
    keys = pd.MultiIndex.from_frame(results[["setup", "tasks"]])
    for cost, share in SHARES.items():
        if cost in results and results[cost].notna().any():
            full = dense.groupby(["setup", "tasks"])[cost].mean().reindex(keys).to_numpy(dtype=float)
            columns[share] = results[cost].to_numpy(dtype=float) / np.where(full > 0, full, np.nan)
    return replace(sweep, results=results.assign(**columns))


def strategies(rows: pd.DataFrame) -> "pd.Series[str]":
    """(rows,) of settings or trials: what made each small: a compressor's name; the penalty, with the second training;
    "dense" for the dense model with the recipe's own settings, and other names for other dense models."""
    compressors = _compressors(rows)
    penalised = [method_name(*pair, "") for pair in zip(rows["penalty"], rows["retraining"], strict=True)]
    found = pd.Series(penalised, rows.index, dtype=object).where(compressors == PENALTY, compressors)
    unpenalised = (rows["lambda"] == 0) & (compressors == PENALTY)
    found = found.mask(unpenalised & (rows["retraining"] != LONGER), OTHER_DENSE)
    found = found.mask(unpenalised & (rows["retraining"] == LONGER), LONGER_NAME)
    return found.mask(_is_dense(rows), DENSE)


def sides(rows: pd.DataFrame) -> "pd.Series[str]":
    """(rows,) of settings or trials: "dense", "ours", or "alternative" for what a user would do instead, which a dense
    network of other settings is too. Compressors are told apart by `mtl.vocabulary.compressors`."""
    found = _compressors(rows).map(side_of)
    found = found.mask((rows["lambda"] == 0) & (_compressors(rows) == PENALTY), "alternative")
    return found.mask(_is_dense(rows), "dense")


def targets(rows: pd.DataFrame) -> "pd.Series[float]":
    """(rows,) the share of the dense model's MACs that each was to keep; NaN without a target."""
    return rows["settings"].str.extract(_TARGET)[0].astype(float)


def known(rows: pd.DataFrame, column: str) -> bool:
    """Whether all of these settings, or trials, have a number in this column."""
    name = column if column in rows else f"{column}_mean"
    return name in rows and bool(rows[name].notna().all())


def _compressors(rows: pd.DataFrame) -> "pd.Series[str]":
    return rows["settings"].str.extract(_COMPRESSOR)[0].fillna(PENALTY)


def _is_dense(rows: pd.DataFrame) -> "pd.Series[bool]":
    return (rows["lambda"] == 0) & is_own(rows)
