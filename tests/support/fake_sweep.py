"""A sweep with made-up numbers, for tests whose answer must be known; others read sweeps that were really run."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TASKS: dict[str, dict[str, str]] = {
    "segmentation": {"kind": "segmentation", "primary": "segmentation_miou"},
    "depth": {"kind": "depth", "primary": "depth_mae"},
    "normals": {"kind": "normals", "primary": "normals_cos"},
}
METRICS: dict[str, dict[str, str]] = {
    "segmentation_miou": {"direction": "maximize", "unit": "", "label": "mean IoU"},
    "segmentation_iou_micro": {"direction": "maximize", "unit": "", "label": "micro IoU"},
    "depth_mae": {"direction": "minimize", "unit": "m", "label": "depth MAE"},
    "depth_rmse": {"direction": "minimize", "unit": "m", "label": "depth RMSE"},
    "normals_cos": {"direction": "maximize", "unit": "", "label": "normals cosine"},
    "normals_mean_angle": {"direction": "minimize", "unit": "°", "label": "normals mean angle"},
}
# Per metric: (a good dense model, the constant predictor); on the way to all-zero a model goes from one to the other.
LEVELS = {
    "segmentation_miou": (0.42, 0.04),
    "segmentation_iou_micro": (0.55, 0.15),
    "depth_mae": (0.38, 0.98),
    "depth_rmse": (0.57, 1.21),
    "normals_cos": (0.89, 0.72),
    "normals_mean_angle": (21.4, 40.2),
    "male_accuracy": (93.1, 58.0),
}
LAMBDAS = [0.0, 1e-6, 1e-5, 1e-4, 1e-3]


def all_combinations(tasks: list[str]) -> list[str]:
    """Every non-empty combination, the small ones first, written as the results write them."""
    return ["+".join(some) for size in range(1, len(tasks) + 1) for some in itertools.combinations(tasks, size)]


def results_table(
    combinations: list[str], lambdas: list[float], seeds: list[int], primary: dict[str, str], metrics: list[str]
) -> pd.DataFrame:
    """One done trial for each combination, λ and seed, with metrics that fall as the groups go."""
    random = np.random.default_rng(0)
    rows = []
    for combination, strength, seed in itertools.product(combinations, lambdas, seeds):
        tasks = combination.split("+")
        groups = 0.0 if strength == 0 else 1 / (1 + np.exp(-2.2 * (np.log10(strength) + 4.6)))
        groups = float(np.clip(groups + random.normal(0, 0.02) * (strength > 0), 0, 1))
        damage = 0.05 * (len(tasks) - 1) - 0.12 * groups * (1 - groups) + 0.9 * groups**6
        row: dict[str, Any] = {
            "trial_id": f"{combination}-{strength:g}-{seed}",
            "status": "done",
            "tasks": combination,
            "penalty": "group_lasso",
            "lambda": strength,
            "seed": seed,
            "epochs_run": 12,
        }
        for name in metrics:
            good, constant = LEVELS[name]
            for split, shift in (("val", 0.0), ("test", 0.02)):
                share = damage + shift + random.normal(0, 0.008)
                present = any(name.startswith(f"{task}_") for task in tasks)
                row[f"{split}_{name}"] = good + (constant - good) * share if present else np.nan
        row |= {"group_sparsity": groups, "parameter_sparsity": groups**0.8, "train_seconds": 3.0, "error": None}
        row |= {"started_at": "2025-01-01T00:00:00+00:00", "ended_at": "2025-01-01T00:00:03+00:00"}
        rows.append(row)
    table = pd.DataFrame(rows)
    for split, column in (("val", "delta_m"), ("test", "test_delta_m")):
        table[column] = [relative_change(table, row, split, primary) for _, row in table.iterrows()]
    return table


def relative_change(table: pd.DataFrame, row: Any, split: str, primary: dict[str, str]) -> float:
    """Δm of one trial against the dense single-task models of its seed; NaN where one of them is not there."""
    changes = []
    for task in row["tasks"].split("+"):
        column = f"{split}_{primary[task]}"
        dense = table[(table["tasks"] == task) & (table["lambda"] == 0) & (table["seed"] == row["seed"])]
        if dense.empty:
            return float("nan")
        sign = 1 if METRICS.get(primary[task], {"direction": "maximize"})["direction"] == "maximize" else -1
        changes.append(sign * (row[column] - dense[column].iloc[0]) / dense[column].iloc[0])
    return float(np.mean(changes))


def write_sweep(
    folder: Path,
    *,
    tasks: dict[str, dict[str, str]] | None = None,
    metrics: dict[str, dict[str, str]] | None = None,
    combinations: list[str] | None = None,
    lambdas: list[float] | None = None,
    seeds: list[int] | None = None,
    results: pd.DataFrame | None = None,
    info: dict[str, Any] | None = None,
) -> Path:
    """Writes sweep.json and results.parquet; `results` and `info` replace what would be made up."""
    tasks = TASKS if tasks is None else tasks
    metrics = METRICS if metrics is None else metrics
    lambdas = LAMBDAS if lambdas is None else lambdas
    seeds = [0, 1] if seeds is None else seeds
    combinations = all_combinations(list(tasks)) if combinations is None else combinations
    primary = {task: about["primary"] for task, about in tasks.items()}
    if results is None:
        results = results_table(combinations, lambdas, seeds, primary, list(metrics))
    recipe = {
        "dataset": "rooms",
        "tasks": list(tasks),
        "combinations": combinations,
        "lambdas": lambdas,
        "seeds": seeds,
        "penalty": "group_lasso",
        "metric": "adaptive",
        "protocol": "standard",
        "epochs": 12,
    }
    varied = ("tasks", "combinations", "lambdas", "seeds", "penalty")
    content = {
        "schema": 1,
        "name": "rooms",
        "setup": repr({name: value for name, value in recipe.items() if name not in varied}),
        "recipe": recipe,
        "versions": {"parsimony": "0.1.0", "torch": "2.11.0"},
        "git_commit": "0123abc",
        "trials_planned": len(combinations) * len(lambdas) * len(seeds),
        "objectives": [
            {"column": "delta_m", "direction": "maximize"},
            {"column": "group_sparsity", "direction": "maximize"},
        ],
        "tasks": tasks,
        "metrics": metrics,
        "constant_predictor": {name: LEVELS[name][1] for name in metrics if name in LEVELS},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(content | (info or {})))
    results.to_parquet(folder / "results.parquet")
    return folder
