"""Writes the files of a sweep of any size without training: random metrics on a grid of combinations, λ and seeds."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd

PRIMARY = {"segmentation": "segmentation_miou", "depth": "depth_mae", "normals": "normals_cos"}
MINIMIZED = ("depth_mae", "depth_rmse")
METRICS = ("segmentation_miou", "segmentation_iou_micro", "depth_mae", "depth_rmse", "normals_cos")
STRENGTHS = (0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
COMBINATIONS = ["+".join(some) for size in (1, 2, 3) for some in itertools.combinations(PRIMARY, size)]


def write_made_up_sweep(folder: Path, trials: int, *, columns: int = 0, epochs: int = 0) -> None:
    """sweep.json, results.parquet and, where `epochs` is positive, a history of as many epochs a trial.

    The results are filled up with further columns of numbers to `columns` in all.
    """
    random = np.random.default_rng(0)
    place = np.arange(trials)
    tasks = np.array(COMBINATIONS, dtype=object)[place % len(COMBINATIONS)]
    strength = np.array(STRENGTHS)[place // len(COMBINATIONS) % len(STRENGTHS)]
    groups = np.clip(np.searchsorted(STRENGTHS, strength) / 6 + 0.02 * random.normal(size=trials), 0, 1)
    groups[strength == 0] = 0
    table: dict[str, object] = {
        "trial_id": [f"{number:016x}" for number in place],
        "status": "done",
        "tasks": tasks,
        "penalty": "group_lasso",
        "lambda": strength,
        "seed": place // (len(COMBINATIONS) * len(STRENGTHS)),
        "epochs_run": epochs,
    }
    for split, name in itertools.product(("val", "test"), METRICS):
        level = 0.5 + (0.2 if name in MINIMIZED else -0.2) * groups**4 + 0.01 * random.normal(size=trials)
        present = np.array([name.split("_")[0] in one.split("+") for one in COMBINATIONS])[place % len(COMBINATIONS)]
        table[f"{split}_{name}"] = np.where(present, level, np.nan)
    delta_m = -0.4 * groups**4 + 0.02 * random.normal(size=trials)
    table |= {"group_sparsity": groups, "parameter_sparsity": groups**0.8, "delta_m": delta_m, "test_delta_m": delta_m}
    table |= {"train_seconds": 3.0, "started_at": "2025-01-01T00:00:00+00:00", "ended_at": "2025-01-01T00:00:03+00:00"}
    table |= {"error": None}
    for number in range(columns - len(table)):
        table[f"further_{number}"] = random.normal(size=trials)
    folder.mkdir(parents=True, exist_ok=True)
    results = pd.DataFrame(table)
    results.to_parquet(folder / "results.parquet", index=False)
    if epochs:
        repeated = results.loc[np.repeat(place, epochs), ["trial_id", "lambda", "group_sparsity", "parameter_sparsity"]]
        epoch = np.tile(np.arange(epochs), trials)
        growth = (epoch + 1) / epochs
        repeated = repeated.assign(
            epoch=epoch,
            loss=1 / (epoch + 1),
            group_sparsity=repeated["group_sparsity"].to_numpy() * growth,
            parameter_sparsity=repeated["parameter_sparsity"].to_numpy() * growth,
        )
        repeated.to_parquet(folder / "history.parquet", index=False)
    info = {
        "schema": 1,
        "name": folder.name,
        "setup": "made up",
        "recipe": {"dataset": "made up", "protocol": "standard", "tasks": list(PRIMARY), "combinations": "all"},
        "trials_planned": trials,
        "objectives": [{"column": name, "direction": "maximize"} for name in ("delta_m", "group_sparsity")],
        "tasks": {task: {"primary": primary} for task, primary in PRIMARY.items()},
        "metrics": {name: {"direction": "minimize" if name in MINIMIZED else "maximize"} for name in METRICS},
        "constant_predictor": dict.fromkeys(METRICS, 0.5),
    }
    (folder / "sweep.json").write_text(json.dumps(info))
