"""Empirical attainment surfaces: what a share of the seeds attains, instead of a mean of fronts.

A point is attained by a seed if the seed's front has a point at least as good in every objective. The surface of level
p is the front of the points that at least p % of the seeds attain (Grunert da Fonseca et al. 2001): 50 is the median
front, 25 and 75 its quartiles, of which 25 is the better one. The algorithm is moocore's (Fonseca et al. 2011).
"""

from collections.abc import Sequence

import moocore
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.compute.runs import direction_of, seed_fronts
from analysis.read.load import Sweep, reported_column

LEVELS = (25, 50, 75)


def attainment_surface(
    points: ArrayLike, runs: ArrayLike, maximize: Sequence[bool]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The corners of the attainment surfaces.

    Args:
        points: (n, m), one row per point, m = 2 or 3 objectives; n may be 0.
        runs: (n,) which run, a seed, each point is of.
        maximize: m booleans, True where more is better.

    Returns:
        (k, m) corners in the objectives' own directions, each surface sorted by its first objective, and the (k,)
        level of each.
    """
    values, numbers = np.asarray(points, dtype=float), np.asarray(runs)
    if len(values) == 0:
        return np.empty((0, values.shape[1])), np.empty(0)
    signs = np.where(maximize, -1.0, 1.0)
    # moocore reads the points of a run one after the other.
    order = np.argsort(numbers, kind="stable")
    _, places = np.unique(numbers[order], return_inverse=True)
    surfaces = moocore.eaf((values * signs)[order], places, percentiles=LEVELS)
    corners, attained = surfaces[:, :-1] * signs, surfaces[:, -1]
    sorted_by = np.lexsort((*corners.T[::-1], attained))
    return corners[sorted_by] + 0.0, attained[sorted_by]  # + 0.0: no negative zeros


def attainment_table(sweep: Sweep, runs: pd.DataFrame) -> pd.DataFrame:
    """The surfaces over seeds of each combination, on the test split.

    A seed's front is chosen on the validation split. Combinations with one objective, or with more than three, have no
    surface here. Seeds that have not run the same λ weigh the same nevertheless: `points` tells them apart.

    Args:
        runs: of `analysis.compute.runs.run_table`.

    Returns:
        `tasks`, `level` (%), `seeds`, `points` (the fewest and the most trials of a seed,
        such as "4-5"), `objectives` (reported columns joined by "+"), and one column for each of them.
    """
    judged = runs[runs["judged"]]
    tables = []
    for tasks, rows in judged.groupby("tasks", sort=False):
        chosen_by = str(rows["objectives"].iloc[0]).split("+")
        if len(chosen_by) not in (2, 3):
            continue
        maximize = [direction_of(sweep, column) for column in chosen_by]
        columns = [reported_column(column) for column in chosen_by]
        front = rows.iloc[np.concatenate([places for _, places in seed_fronts(rows, chosen_by, maximize)])]
        corners, levels = attainment_surface(front[columns].to_numpy(dtype=float), front["seed"].to_numpy(), maximize)
        sizes = rows.groupby("seed").size()
        points = str(sizes.min()) if sizes.nunique() == 1 else f"{sizes.min()}-{sizes.max()}"
        about = {"tasks": tasks, "level": levels, "seeds": len(sizes), "points": points}
        about["objectives"] = "+".join(columns)
        tables.append(pd.DataFrame(about | dict(zip(columns, corners.T, strict=True))))
    if not tables:
        return pd.DataFrame(columns=["tasks", "level", "seeds", "points", "objectives"])
    return pd.concat(tables, ignore_index=True)
