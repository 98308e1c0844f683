"""Means over seeds: the trials of one setup, combination, method and λ become one row."""

import pandas as pd

from analysis.compute.costs import OVER_DENSE, SHARES, sides, strategies
from analysis.read.load import Sweep, reported_column
from mtl.errors import BadInput
from mtl.vocabulary.objective import SIZES

KEYS = ["setup", "tasks", "method", "lambda"]
# The parts of a method: the same in all of its trials.
OF_METHOD = ["penalty", "retraining", "settings"]
ALL_METRICS = ("delta_m_all", "test_delta_m_all")
COST_COLUMNS = (*OVER_DENSE, *SHARES.values())  # see `analysis.compute.costs.with_costs`


def settings_table(sweep: Sweep) -> pd.DataFrame:
    """One row per setting (setup, tasks, method, λ), over its done trials; small combinations first, then by λ.

    Columns: the keys; `penalty`, `retraining` and `settings` of the method; `strategy`, what made its models small, and
    `side`, whether that is ours or an alternative (see `analysis.compute.costs`); `seeds`, how many different ones;
    `trials`, how many were averaged; `delta_m_trials`, in how many trials Δm is known; and for every objective,
    sparsity, cost, Δm and metric `<column>_mean` and `<column>_std`, in the units of the results. The deviation is the
    sample's (ddof 1), so it is NaN for one trial.

    Raises:
        BadInput: no trial is done.
    """
    done = sweep.trials("done")
    if done.empty:
        raise BadInput(f"{sweep.folder}: nothing finished yet: of {sweep.planned} planned trials none is done")
    grouped = done.groupby(KEYS, sort=False, dropna=False)
    columns = _value_columns(sweep)
    table = pd.concat(
        [
            grouped[OF_METHOD].first(),
            grouped["seed"].nunique().rename("seeds"),
            grouped.size().rename("trials"),
            grouped["delta_m"].count().rename("delta_m_trials"),
            grouped[columns].mean().add_suffix("_mean"),
            grouped[columns].std(ddof=1).add_suffix("_std"),
        ],
        axis=1,
    ).reset_index()
    table = table.assign(strategy=strategies(table), side=sides(table))
    places = {task: place for place, task in enumerate(sweep.tasks)}

    def small_first(combination: str) -> tuple[int, list[int]]:
        return combination.count("+"), [places[task] for task in combination.split("+")]

    order = sorted(table["tasks"].unique(), key=small_first)
    table["tasks"] = pd.Categorical(table["tasks"], order)
    table = table.sort_values(["tasks", "method", "lambda"], kind="stable", ignore_index=True)
    table["tasks"] = table["tasks"].astype(str)
    return table


def seed_means(sweep: Sweep) -> pd.DataFrame:
    """One row per setting and seed: the keys, `seed`, what the method is made of, and the values of `settings_table`.

    The done trials of one seed, several where the recipe left other fields open, are averaged, so that differences can
    be paired over seeds. Values keep their columns' names.
    """
    grouped = sweep.trials("done").groupby([*KEYS, "seed"], sort=False, dropna=False)
    columns = [column for column in _value_columns(sweep) if column not in (*KEYS, "seed")]
    return pd.concat([grouped[OF_METHOD].first(), grouped[columns].mean()], axis=1).reset_index()


def _value_columns(sweep: Sweep) -> list[str]:
    metrics = [f"{split}_{name}" for split in ("val", "test") for name in sweep.metrics]
    columns = [
        *(name for one in sweep.objectives for name in (one.column, reported_column(one.column))),
        *("delta_m", "test_delta_m", "group_sparsity", "parameter_sparsity"),
        *(column for column in (*ALL_METRICS, *COST_COLUMNS, *SIZES, *metrics) if column in sweep.results.columns),
    ]
    return list(dict.fromkeys(columns))
