"""Fronts over single runs: each trial beside all others, without means over seeds."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.compute.fronts import directions, joined, objectives_of
from analysis.compute.settings import OF_METHOD
from analysis.pareto import hypervolume, pareto_front
from analysis.read.load import Sweep, reported_column

IDENTITY = ["trial_id", "sweep", "setup", "status", "tasks", "method", *OF_METHOD, "lambda", "seed"]


def run_table(sweep: Sweep, marked: pd.DataFrame) -> pd.DataFrame:
    """One row per trial, whatever its status, in the order of the results.

    Columns: the trial's identity; `objectives`, those of its combination (see `fronts.objectives_of`), joined
    by "+"; `judged`; `why_not`, empty for judged trials, else the status or the objectives that have no number;
    `on_front`, among the judged trials of the combination; and the value of each of these objectives on both splits.
    """
    by_combination = {str(tasks): objectives_of(sweep, rows) for tasks, rows in marked.groupby("tasks", sort=False)}
    results = sweep.results
    columns = [one.column for objectives in by_combination.values() for one in objectives]
    columns = list(dict.fromkeys([*columns, *(reported_column(column) for column in columns)]))
    runs = results[[*IDENTITY, *(column for column in columns if column not in IDENTITY)]].copy()
    done = (results["status"] == "done").to_numpy()
    why_not = np.full(len(runs), "", dtype=object)
    why_not[~done] = results["status"].to_numpy(dtype=object)[~done]
    judged, on_front = done.copy(), np.zeros(len(runs), bool)
    names = np.full(len(runs), "", dtype=object)
    places, combinations = pd.factorize(results["tasks"])
    for place, tasks in enumerate(combinations):
        objectives = by_combination.get(str(tasks), ())
        mine = done & (places == place)
        names[places == place] = joined(objectives)
        for column in dict.fromkeys(one for pair in objectives for one in (pair.column, reported_column(pair.column))):
            absent = mine & np.isnan(results[column].to_numpy(dtype=float))
            why_not[absent] = [f"{why}, {column}" if why else f"no {column}" for why in why_not[absent]]
            judged[absent] = False
        mine &= judged
        if objectives:
            points = results.loc[mine, [one.column for one in objectives]].to_numpy(dtype=float)
            on_front[mine] = pareto_front(points, directions(objectives))
    runs.insert(len(IDENTITY), "objectives", names)
    return runs.assign(judged=judged, why_not=why_not, on_front=on_front)


def torch_versions(sweep: Sweep) -> list[str]:
    """Those that done trials ran with; empty where the sweep is from before trials told."""
    done = sweep.trials("done")
    told = done["torch_version"].dropna().tolist() if "torch_version" in done else []
    return sorted({version for one in told for version in str(one).split(", ")})


def run_volumes(sweep: Sweep, runs: pd.DataFrame, volumes: pd.DataFrame) -> pd.DataFrame:
    """The hypervolume of each seed's own front, test values of what was chosen on validation.

    Args:
        runs: of `run_table`.
        volumes: of `analysis.compute.fronts.hypervolume_table`; each combination's reference is the one stated there.

    Columns: `tasks`, `seed`, `objectives` (reported), `hypervolume`, `runs` (judged ones of
    the seed) and `reference_<column>` for each objective.
    """
    judged = runs[runs["judged"]]
    rows = []
    for volume in volumes.to_dict("records"):
        columns = str(volume["objectives"]).split("+")
        some = judged[judged["tasks"] == volume["tasks"]]
        if some.empty:
            continue
        chosen_by = str(some["objectives"].iloc[0]).split("+")
        maximize = [direction_of(sweep, column) for column in chosen_by]
        corner = {column: float(volume[f"reference_{column}"]) for column in columns}
        values, sizes = some[columns].to_numpy(dtype=float), some.groupby("seed").size()
        for seed, front in seed_fronts(some, chosen_by, maximize):
            size = hypervolume(values[front], list(corner.values()), maximize)
            rows.append(
                {"tasks": volume["tasks"], "seed": seed, "objectives": volume["objectives"], "hypervolume": size}
                | {"runs": int(sizes[seed])}
                | {f"reference_{column}": value for column, value in corner.items()}
            )
    return pd.DataFrame(rows, columns=None if rows else ["tasks", "seed", "objectives", "hypervolume", "runs"])


def seed_fronts(
    rows: pd.DataFrame, columns: list[str], maximize: list[bool]
) -> Iterator[tuple[float, NDArray[np.intp]]]:
    """Of each seed, in order: the places in `rows` of the seed's own front over `columns`."""
    points, seeds = rows[columns].to_numpy(dtype=float), rows["seed"].to_numpy(dtype=float)
    order = np.argsort(seeds, kind="stable")
    for places in np.split(order, np.flatnonzero(np.diff(seeds[order])) + 1):
        yield float(seeds[places[0]]), places[pareto_front(points[places], maximize)]


def direction_of(sweep: Sweep, column: str) -> bool:
    """Whether more is better: of one of the sweep's objectives, or of a metric on the validation split."""
    for objective in sweep.objectives:
        if objective.column == column:
            return objective.maximize
    return sweep.metrics[column.removeprefix("val_")].maximize
