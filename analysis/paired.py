"""Differences paired over seeds: what one model gains on another of the same seed."""

import numpy as np
import pandas as pd

from analysis.delta_m import relative_gain
from analysis.load import Sweep


def paired_gain(sweep: Sweep, tasks: list[str], values: pd.DataFrame, reference: pd.DataFrame, split: str) -> pd.Series:
    """The mean over `tasks` of the primary metric's relative change, by seed, a fraction, better is positive.

    Args:
        values, reference: one row a seed, `seed` and the metrics' columns; further rows of a seed are averaged.
        split: val or test.

    Returns:
        Indexed by the seeds that both have with a number for every task.
    """
    columns = [f"{split}_{sweep.tasks[task]}" for task in tasks]
    first, second = (rows.groupby("seed")[columns].mean() for rows in (values, reference))
    seeds = first.index.intersection(second.index)
    changes = [
        relative_gain(
            first.loc[seeds, column].to_numpy(dtype=float),
            second.loc[seeds, column].to_numpy(dtype=float),
            sweep.metrics[sweep.tasks[task]].maximize,
        )
        for task, column in zip(tasks, columns, strict=True)
    ]
    return pd.Series(np.mean(changes, axis=0), index=seeds, dtype=float).dropna()
