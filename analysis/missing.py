"""Which planned trials are not there: not finished, failed, stopped."""

import itertools
from typing import Any

import pandas as pd

from analysis.load import Sweep

COLUMNS = ["sweep", "tasks", "penalty", "lambda", "seed", "state"]
NOT_FINISHED = "not finished"


def missing_table(sweep: Sweep) -> pd.DataFrame:
    """One row a planned trial that is not done: `sweep`, `tasks`, `penalty`, `lambda`, `seed`, `state`.

    `state` is failed, stopped or "not finished". Planned is what the recipe of the latest run names; where it leaves λ
    open, failed and stopped trials alone are known by name.
    """
    rows: list[tuple[object, ...]] = []
    for part in sweep.parts or (sweep,):
        ended = part.results[["tasks", "penalty", "lambda", "seed", "status"]]
        for row in ended[ended["status"] != "done"].to_dict("records"):
            rows.append((part.name, row["tasks"], row["penalty"], row["lambda"], row["seed"], row["status"]))
        known = set(zip(ended["tasks"], ended["lambda"], ended["seed"], strict=True))
        rows += [
            (part.name, tasks, part.info["recipe"].get("penalty"), strength, seed, NOT_FINISHED)
            for tasks, strength, seed in _planned(part, part.info["recipe"])
            if (tasks, strength, seed) not in known
        ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _planned(sweep: Sweep, recipe: dict[str, Any]) -> list[tuple[str, float, float]]:
    combinations, strengths, seeds = recipe.get("combinations"), recipe.get("lambdas"), recipe.get("seeds")
    names = list(sweep.tasks)
    if combinations in ("all", "single"):
        sizes = range(1, (len(names) if combinations == "all" else 1) + 1)
        combinations = ["+".join(some) for size in sizes for some in itertools.combinations(names, size)]
    if isinstance(seeds, int):
        seeds = list(range(seeds))
    if not (isinstance(combinations, list) and isinstance(strengths, list) and isinstance(seeds, list)):
        return []
    in_order = ["+".join(sweep.tasks_of(tasks)) for tasks in combinations]
    return [(tasks, float(one), float(seed)) for tasks, one, seed in itertools.product(in_order, strengths, seeds)]
