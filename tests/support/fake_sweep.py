"""Writes the files of a made-up sweep, so that the analysis can be tested without training anything."""

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


def history_table(results: pd.DataFrame, epochs: int = 12) -> pd.DataFrame:
    """One row a trial and epoch: the sparsity grows to its final value."""
    rows = [
        {
            "trial_id": row["trial_id"],
            "epoch": epoch,
            "lambda": row["lambda"],
            "loss": 2.0 / (epoch + 1),
            "group_sparsity": row["group_sparsity"] * epoch / epochs,
            "parameter_sparsity": row["parameter_sparsity"] * epoch / epochs,
            "seconds": 0.25,
        }
        for _, row in results.iterrows()
        for epoch in range(1, epochs + 1)
    ]
    return pd.DataFrame(rows)


def layers_table(results: pd.DataFrame) -> pd.DataFrame:
    """One row a done trial and layer: the later a layer and the less important a channel, the sooner it goes.

    Channels are as important to a task in every model, so that joint and single-task models keep some of the same.
    """
    names = ["conv1", *(f"layer{stage}.{block}.conv{one}" for stage in (1, 2, 3) for block in (0, 1) for one in (1, 2))]
    groups = [3, *(8 * 2**stage for stage in (1, 2, 3) for _ in range(4))]
    random = np.random.default_rng(1)
    important = {
        task: [random.uniform(size=size) for size in groups]
        for task in dict.fromkeys("+".join(results["tasks"]).split("+"))
    }
    rows = []
    for trial in results[results["status"] == "done"].to_dict("records"):
        for position, (name, size) in enumerate(zip(names, groups, strict=True)):
            importance = np.mean([important[task][position] for task in trial["tasks"].split("+")], axis=0)
            share = np.clip((1 - trial["group_sparsity"]) * (1.4 - 0.06 * position), 0, 1) if trial["lambda"] else 1.0
            noisy = importance + random.normal(0, 0.05, size)
            alive = noisy.argsort().argsort() >= size - round(share * size)
            row = {"trial_id": trial["trial_id"], "layer": name, "position": position, "groups": size}
            rows.append(row | {"alive": alive.tolist()})
    return pd.DataFrame(rows)


def write_sweep(
    folder: Path,
    *,
    tasks: dict[str, dict[str, str]] | None = None,
    metrics: dict[str, dict[str, str]] | None = None,
    combinations: list[str] | None = None,
    lambdas: list[float] | None = None,
    seeds: list[int] | None = None,
    results: pd.DataFrame | None = None,
    history: bool = True,
    layers: bool = False,
    info: dict[str, Any] | None = None,
) -> Path:
    """Writes sweep.json, results.parquet and, if asked for, history.parquet and layers.parquet.

    `results` and `info` replace what would be made up.
    """
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
    if history:
        history_table(results).to_parquet(folder / "history.parquet")
    if layers:
        layers_table(results).to_parquet(folder / "layers.parquet")
    return folder
