"""Differences paired over seeds: what one model gains on another of the same seed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.read.load import Sweep
from mtl.vocabulary.delta_m import relative_change


def row_gains(
    sweep: Sweep, tasks: Sequence[str], rows: pd.DataFrame, reference: pd.DataFrame, split: str, keys: Sequence[str]
) -> pd.Series:
    """Of each of `rows`: the mean over `tasks` of the primary metric's relative change, better is positive.

    Args:
        rows, reference: `keys` and the metrics' columns; a row is compared with the mean of the reference's rows that
            have the same values of `keys`.
        split: val or test.

    Returns:
        Fractions, indexed as `rows`; NaN where there is no reference or a number is missing.
    """
    columns = [f"{split}_{sweep.tasks[task]}" for task in tasks]
    means = reference.groupby(list(keys))[columns].mean().reset_index()
    base = rows[list(keys)].merge(means, on=list(keys), how="left")
    changes = [
        relative_change(
            rows[column].to_numpy(dtype=float), base[column].to_numpy(dtype=float), sweep.metrics[name].maximize
        )
        for column, name in zip(columns, (sweep.tasks[task] for task in tasks), strict=True)
    ]
    return pd.Series(np.mean(changes, axis=0), index=rows.index, dtype=float)
