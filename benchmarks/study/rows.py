"""The study's trials as rows: what each model costs and gains beside the dense model of the same tasks and seed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.compute.costs import DENSE, strategies, targets
from analysis.read.load import Sweep
from mtl.vocabulary.delta_m import relative_change


def trials(sweep: Sweep) -> pd.DataFrame:
    """The done trials with the columns of `benchmarks.strategy_tables`, `tasks`, and the results' own."""
    done = sweep.trials("done")
    methods = strategies(done).replace("group_lasso", "penalty")
    rows = done.assign(method=methods, target_macs=targets(done), cost=done["model_macs_share"])
    rows = rows.assign(epochs=done["epochs_in_all"], delta_m=done["test_over_dense"])
    return rows.assign(constant_delta_m=constants(sweep, rows)).reset_index(drop=True)


def constants(sweep: Sweep, rows: pd.DataFrame) -> "pd.Series[float]":
    """Δm of the constant predictor over the dense model of each row's tasks and seed, on the test split."""
    dense = rows[rows["method"] == DENSE].set_index(["tasks", "seed"])
    keys = pd.MultiIndex.from_frame(rows[["tasks", "seed"]])
    gains: dict[str, Sequence[float]] = {}
    for task, name in sweep.tasks.items():
        reference = dense[f"test_{name}"].reindex(keys)
        more = sweep.metrics[name].maximize
        gains[task] = relative_change(sweep.constant_predictor.get(name, np.nan), reference, more).tolist()
    table = pd.DataFrame(gains, index=rows.index)
    having = pd.DataFrame({task: rows["tasks"].str.split("+").map(lambda one, t=task: t in one) for task in gains})
    return table.where(having).mean(axis=1)


def over(rows: pd.DataFrame, dense: pd.DataFrame, sweep: Sweep) -> pd.DataFrame:
    """The rows with `delta_m` over these dense models of the same seed in place of their own sweep's; all of one
    combination."""
    dense = dense.set_index("seed").loc[rows["seed"]].reset_index()
    gains = [
        relative_change(rows[f"test_{name}"].to_numpy(), dense[f"test_{name}"].to_numpy(), sweep.metrics[name].maximize)
        for name in sweep.tasks.values()
    ]
    return rows.assign(delta_m=np.mean(gains, axis=0))
