"""Which planned trials are not done: failed, stopped or not finished."""

import itertools
from typing import Any

import pandas as pd

from analysis.read.load import COMPRESSED, LONGER, Sweep, is_compressed, method_name
from mtl.vocabulary.delta_m import NO_RETRAINING

COLUMNS = ["sweep", "tasks", "method", "lambda", "seed", "state"]
NOT_FINISHED = "not finished"


def missing_table(sweep: Sweep) -> pd.DataFrame:
    """One row per planned trial that is not done: `sweep`, `tasks`, `method`, `lambda`, `seed`, `state`.

    `state` is failed, stopped or "not finished". Planned is what the recipe of the latest run names; where it leaves λ
    open, failed and stopped trials alone are known by name.
    """
    rows: list[tuple[object, ...]] = []
    for part in sweep.parts or (sweep,):
        ended = part.results[["tasks", "method", "settings", "retraining", "lambda", "seed", "status"]]
        for row in ended[ended["status"] != "done"].to_dict("records"):
            rows.append((part.name, row["tasks"], row["method"], row["lambda"], row["seed"], row["status"]))
        # A compressed trial stands at λ = 0 too, and is not the dense one.
        penalised = ended[~is_compressed(ended)]
        known = set(zip(*(penalised[key] for key in ("tasks", "lambda", "seed", "retraining")), strict=True))
        penalty = str(part.info["recipe"].get("penalty"))
        for tasks, strength, seed in _planned(part, part.info["recipe"]):
            for again in _retrainings(part.info, strength):
                if (tasks, strength, seed, again) not in known:
                    rows.append((part.name, tasks, method_name(penalty, again, ""), strength, seed, NOT_FINISHED))
                    known.add((tasks, strength, seed, again))
        compressed = ended[is_compressed(ended)]
        found = set(zip(*(compressed[key] for key in ("tasks", "settings", "seed")), strict=True))
        for tasks, settings, seed in _planned_compressed(part, part.info["recipe"]):
            if (tasks, settings, seed) not in found:
                rows.append((part.name, tasks, method_name(penalty, NO_RETRAINING, settings), 0.0, seed, NOT_FINISHED))
    return pd.DataFrame(rows, columns=COLUMNS)


def _retrainings(info: dict[str, Any], strength: float) -> list[str]:
    """The retrainings planned for this λ: a dense model is not retrained, but a second one is trained for longer."""
    retraining: list[str] = info["recipe"].get("retraining") or [NO_RETRAINING]
    if strength:
        return retraining
    # Sweeps of the first method, which do not name it, had none.
    longer = retraining != [NO_RETRAINING] and any(info["recipe"]["lambdas"]) and "method_version" in info
    return [NO_RETRAINING, LONGER] if longer else [NO_RETRAINING]


def _planned(sweep: Sweep, recipe: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Combination, λ and seed of each trial with a penalty, and of the dense ones."""
    strengths = recipe.get("lambdas") if "penalty" in recipe.get("compressors", ["penalty"]) else [0.0]
    combinations, seeds = _combinations_and_seeds(sweep, recipe)
    if not isinstance(strengths, list):
        return []
    return [(tasks, float(one), seed) for tasks, one, seed in itertools.product(combinations, strengths, seeds)]


def _planned_compressed(sweep: Sweep, recipe: dict[str, Any]) -> list[tuple[str, str, float]]:
    """Combination, settings and seed of each trial of the other compressors."""
    compressors, targets = recipe.get("compressors"), recipe.get("targets")
    if not (isinstance(compressors, list) and isinstance(targets, list)):
        return []  # of a sweep from before there were any
    targets = sorted(targets, reverse=True)
    settings = []
    for compressor in compressors:
        for place, target in enumerate(targets if compressor != "penalty" else ()):
            before = targets[:place] if compressor == "path" else []
            way = f" via={','.join(f'{one:g}' for one in before)}" if before else ""
            settings.append(f"{COMPRESSED}{compressor} target_macs={target:g}{way}")
    if "penalty_to_target" in compressors and isinstance(sparsities := recipe.get("group_sparsity_targets"), list):
        settings += [f"{COMPRESSED}penalty_to_target target_group_sparsity={one:g}" for one in sparsities]
    combinations, seeds = _combinations_and_seeds(sweep, recipe)
    return list(itertools.product(combinations, settings, seeds))


def _combinations_and_seeds(sweep: Sweep, recipe: dict[str, Any]) -> tuple[list[str], list[float]]:
    """Both empty where they are not known."""
    if "search" in sweep.info:
        return [], []  # it makes its trials as it goes
    combinations, seeds = recipe.get("combinations"), recipe.get("seeds")
    names = list(sweep.tasks)
    if combinations in ("all", "single"):
        sizes = range(1, (len(names) if combinations == "all" else 1) + 1)
        combinations = ["+".join(some) for size in sizes for some in itertools.combinations(names, size)]
    if isinstance(seeds, int):
        seeds = list(range(seeds))
    if not (isinstance(combinations, list) and isinstance(seeds, list)):
        return [], []
    return ["+".join(sweep.tasks_of(tasks)) for tasks in combinations], list(map(float, seeds))
