"""Which tasks gain from which: each task trained jointly against the same task alone.

The relative change of a task's primary metric against its single-task model is the affinity of Standley et al. 2020,
*Which Tasks Should Be Learned Together in Multi-task Learning?*; both models have the same λ and seed here.
"""

import math

import pandas as pd

from analysis.compute.intervals import holm, t_interval
from analysis.compute.paired import row_gains
from analysis.compute.settings import seed_means
from analysis.read.load import Sweep

COLUMNS = [
    *("setup", "method", "lambda", "task", "partners"),
    *("gain", "low", "high", "p_value", "adjusted_p", "seeds"),
]


def affinity_table(sweep: Sweep) -> pd.DataFrame:
    """One row per setup, method, λ, task and set of partners: what the task gains, paired over seeds.

    Columns: `setup`, `method`, `lambda`, `task`; `partners`, the other tasks joined by "+"; `gain`, the mean relative
    change of the task's primary metric on the test split, a fraction, better is positive; `low`, `high`, Student's
    95 % interval, NaN for one seed; `p_value`; `adjusted_p`, by Holm over the rows of the same setup, penalty and λ;
    `seeds`. Combinations whose tasks have no single-task model of the same λ and seed have no row.
    """
    rows: list[tuple[object, ...]] = []
    seeds = seed_means(sweep)
    for (setup, method), some in seeds.groupby(["setup", "method"], sort=True):
        for task in sweep.tasks:
            alone = some[some["tasks"] == task]
            for joint in some["tasks"].unique():
                partners = [other for other in sweep.tasks_of(str(joint)) if other != task]
                if not partners or task not in sweep.tasks_of(str(joint)):
                    continue
                mine = some[some["tasks"] == joint]
                gains = row_gains(sweep, [task], mine, alone, "test", ["lambda", "seed"]).dropna()
                for strength, values in gains.groupby(mine["lambda"]):
                    one = t_interval(values.to_numpy())
                    found = (one.mean, one.low, one.high, one.p_value, math.nan, one.number)
                    rows.append((setup, method, strength, task, "+".join(partners), *found))
    table = pd.DataFrame(rows, columns=COLUMNS).sort_values(
        ["setup", "method", "lambda"], kind="stable", ignore_index=True
    )
    for _, tests in table.groupby(["setup", "method", "lambda"]):
        table.loc[tests.index, "adjusted_p"] = holm(tests["p_value"].tolist())
    return table
