"""Which tasks gain from which: each task trained jointly against the same task alone.

The relative change of a task's primary metric against its single-task model is the affinity of Standley et al. 2020,
*Which Tasks Should Be Learned Together in Multi-task Learning?*; both models have the same λ and seed here.
"""

import pandas as pd

from analysis.intervals import holm, t_interval
from analysis.load import Sweep
from analysis.paired import paired_gain
from analysis.settings import seed_means

COLUMNS = [
    *("setup", "penalty", "lambda", "task", "partners"),
    *("gain", "low", "high", "p_value", "adjusted_p", "seeds"),
]


def affinity_table(sweep: Sweep) -> pd.DataFrame:
    """One row a setup, penalty, λ, task and set of partners: what the task gains, paired over seeds.

    Columns: `setup`, `penalty`, `lambda`, `task`; `partners`, the other tasks joined by "+"; `gain`, the mean relative
    change of the task's primary metric on the test split, a fraction, better is positive; `low`, `high`, Student's
    95 % interval, NaN for one seed; `p_value`; `adjusted_p`, by Holm over the rows of the same setup, penalty and λ;
    `seeds`. Combinations whose tasks have no single-task model of the same λ and seed have no row.
    """
    rows = []
    seeds = seed_means(sweep)
    for (setup, penalty, strength), some in seeds.groupby(["setup", "penalty", "lambda"], sort=True):
        found = []
        for task in sweep.tasks:
            alone = some[some["tasks"] == task]
            for joint in some["tasks"].unique():
                partners = [other for other in sweep.tasks_of(str(joint)) if other != task]
                if not partners or task not in sweep.tasks_of(str(joint)):
                    continue
                gains = paired_gain(sweep, [task], some[some["tasks"] == joint], alone, "test")
                if len(gains):
                    found.append((task, "+".join(partners), t_interval(gains.to_numpy())))
        adjusted = holm([interval.p_value for _, _, interval in found])
        for (task, joined, one), p in zip(found, adjusted, strict=True):
            values = (one.mean, one.low, one.high, one.p_value, p, one.number)
            rows.append((setup, penalty, strength, task, joined, *values))
    return pd.DataFrame(rows, columns=COLUMNS)


def affinity_matrix(table: pd.DataFrame, strength: float = 0.0, value: str = "gain") -> pd.DataFrame:
    """The pairs of one λ as a matrix: what the row's task gains (`value`: gain, low, high, …) from the column's.

    The mean over setups and penalties where there are several; NaN on the diagonal and where a pair was not run.
    """
    pairs = table[(table["lambda"] == strength) & ~table["partners"].str.contains("+", regex=False)]
    order = list(dict.fromkeys([*pairs["task"], *pairs["partners"]]))
    matrix = pairs.pivot_table(index="task", columns="partners", values=value, aggfunc="mean")
    return matrix.reindex(index=order, columns=order)
