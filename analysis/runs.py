"""Fronts over single runs: each trial beside all others, without means over seeds."""

import numpy as np
import pandas as pd

from analysis.fronts import OVERALL, objectives_of, reported_column
from analysis.load import Objective, Sweep
from analysis.pareto import hypervolume, pareto_front

IDENTITY = ["trial_id", "sweep", "setup", "status", "tasks", "penalty", "lambda", "seed"]


def run_table(sweep: Sweep, marked: pd.DataFrame) -> pd.DataFrame:
    """One row a trial, whatever its status, in the order of the results.

    Columns: the trial's identity; `objectives`, those of its combination (see `analysis.fronts.objectives_of`), joined
    by "+"; `judged`; `why_not`, empty for judged trials, else the status or the objectives that have no number;
    `on_front`, among the judged trials of the combination; `on_overall_front`, among all trials judged by the sweep's
    own objectives; and the value of each of these objectives on both splits.
    """
    by_combination = {str(tasks): objectives_of(sweep, rows) for tasks, rows in marked.groupby("tasks", sort=False)}
    results = sweep.results
    columns = [one.column for objectives in by_combination.values() for one in objectives]
    columns = list(dict.fromkeys([*columns, *(reported_column(column) for column in columns)]))
    runs = results[[*IDENTITY, *(column for column in columns if column not in IDENTITY)]].copy()
    runs.insert(len(IDENTITY), "objectives", runs["tasks"].map(lambda tasks: _names(by_combination.get(tasks, ()))))
    done = (results["status"] == "done").to_numpy()
    why_not = np.where(done, "", results["status"].astype(object).to_numpy()).astype(object)
    on_front, on_overall_front = np.zeros(len(runs), bool), np.zeros(len(runs), bool)
    judged_by_own = np.zeros(len(runs), bool)
    for tasks, objectives in by_combination.items():
        mine = done & (results["tasks"] == tasks).to_numpy()
        for objective in objectives:
            for column in dict.fromkeys((objective.column, reported_column(objective.column))):
                absent = mine & results[column].isna().to_numpy()
                if absent.any():
                    why_not[absent] = [f"{why}, {column}" if why else f"no {column}" for why in why_not[absent]]
        mine &= why_not == ""
        on_front[mine] = _front(results, mine, objectives)
        if objectives == sweep.objectives:
            judged_by_own |= mine
    on_overall_front[judged_by_own] = _front(results, judged_by_own, sweep.objectives)
    return runs.assign(judged=why_not == "", why_not=why_not, on_front=on_front, on_overall_front=on_overall_front)


def run_volumes(sweep: Sweep, runs: pd.DataFrame, volumes: pd.DataFrame) -> pd.DataFrame:
    """The hypervolume of each seed's own front, test values of what was chosen on validation.

    Args:
        runs: of `run_table`.
        volumes: of `analysis.fronts.hypervolume_table`; each combination's reference is the one stated there.

    Columns: `tasks` (a combination, or "all"), `seed`, `objectives` (reported), `hypervolume`, `runs` (judged ones of
    the seed) and `reference_<column>` for each objective.
    """
    judged = runs[runs["judged"]]
    rows = []
    for volume in volumes.to_dict("records"):
        columns = str(volume["objectives"]).split("+")
        overall = volume["tasks"] == OVERALL
        own = "+".join(one.column for one in sweep.objectives)
        some = judged[judged["objectives"] == own] if overall else judged[judged["tasks"] == volume["tasks"]]
        if some.empty:
            continue
        chosen_by = str(some["objectives"].iloc[0]).split("+")
        maximize = [direction_of(sweep, column) for column in chosen_by]
        corner = {column: float(volume[f"reference_{column}"]) for column in columns}
        for seed, group in some.groupby("seed"):
            front = group[pareto_front(group[chosen_by].to_numpy(dtype=float), maximize)]
            size = hypervolume(front[columns].to_numpy(dtype=float), list(corner.values()), maximize)
            rows.append(
                {"tasks": volume["tasks"], "seed": seed, "objectives": volume["objectives"], "hypervolume": size}
                | {"runs": len(group)}
                | {f"reference_{column}": value for column, value in corner.items()}
            )
    return pd.DataFrame(rows, columns=None if rows else ["tasks", "seed", "objectives", "hypervolume", "runs"])


def direction_of(sweep: Sweep, column: str) -> bool:
    """Whether more is better: of one of the sweep's objectives, or of a metric on the validation split."""
    for objective in sweep.objectives:
        if objective.column == column:
            return objective.maximize
    return sweep.metrics[column.removeprefix("val_")].maximize


def _front(results: pd.DataFrame, rows: np.ndarray, objectives: tuple[Objective, ...]) -> np.ndarray:
    points = results.loc[rows, [one.column for one in objectives]].to_numpy(dtype=float)
    return pareto_front(points, [one.maximize for one in objectives])


def _names(objectives: tuple[Objective, ...]) -> str:
    return "+".join(objective.column for objective in objectives)
