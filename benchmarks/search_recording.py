"""Real training, recorded once and kept: every epoch of every trial of a dense grid of λ with several seeds.

A recording is one Parquet file. Each row is an epoch of a trial, as `history.parquet` has it; `chosen` marks the epoch
that the trial's own result is of, the best one by validation. What all trials share is in the file's metadata, as JSON.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtl.chosen_epoch import takes_over
from mtl.config import TrialConfig
from mtl.tasks import Task
from mtl.vocabulary.delta_m import delta_m
from search.engine.runner import RayRunner
from search.recipe_file import load_recipe
from search.run import run_sweep
from search.store.results import TrialResult
from search.sweep import Sweep, open_sweep

FOLDER = Path(__file__).parent / "recordings"
JOINT = "segmentation+depth+normals"
SEEDS = 5


def log_grid(lowest: float, highest: float, count: int) -> list[float]:
    """0 and `count` values from lowest to highest, each the same factor above the last, to three digits."""
    return [0.0, *(float(f"{value:.3g}") for value in np.geomspace(lowest, highest, count))]


@dataclass(frozen=True)
class Setting:
    """What is recorded: a shipped recipe, made short enough for many trials, and the grid."""

    recipe: str
    lambdas: Sequence[float]
    overrides: Sequence[str]


# The grids go from where the penalty removes nothing to where it removes everything.
SETTINGS = {
    "rooms": Setting("rooms", log_grid(3e-5, 2, 79), ["epochs=6"]),
    "nyuv2": Setting(
        "nyuv2-small",
        log_grid(3e-5, 1, 16),
        ["image_size=[36, 48]", "backbone_width=16", "head_channels=24", "batch_size=8", "epochs=6"],
    ),
}


Key = tuple[str, float, int]  # combination, λ, seed


@dataclass(frozen=True)
class Recording:
    """The trials of a grid as they went.

    settings: what all trials share, as fields of TrialConfig.
    rows: of each trial a row an epoch, as its history has it; where it has all tasks, `delta_m` besides, a
        fraction, against the results of the dense single-task models of the same seed.
    chosen: of each trial the epoch (from 0) that its result is of.
    primaries: of each task the metric that delta_m is made of, by its full name.
    maximize: of each of these whether more is better.
    """

    settings: Mapping[str, Any]
    rows: Mapping[Key, Sequence[Mapping[str, float]]]
    chosen: Mapping[Key, int]
    primaries: Mapping[str, str]
    maximize: Mapping[str, bool]

    @property
    def joint(self) -> str:
        """The combination that has the whole grid; the others have λ = 0 alone."""
        return max((tasks for tasks, _, _ in self.rows), key=len)

    @property
    def lambdas(self) -> list[float]:
        return sorted({strength for tasks, strength, _ in self.rows if tasks == self.joint})

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for _, _, seed in self.rows})

    @property
    def epochs(self) -> int:
        """Of a whole trial."""
        return len(next(iter(self.rows.values())))

    def config(self, strength: float, seed: int) -> TrialConfig:
        """Of a trial with all tasks."""
        varied = {"tasks": self.joint.split("+"), "strength": strength, "seed": seed}
        return TrialConfig.model_validate(dict(self.settings) | varied)

    def result(self, strength: float, seed: int) -> Mapping[str, float]:
        """The row that the result of a trial with all tasks is of."""
        key = self.joint, strength, seed
        return self.rows[key][self.chosen[key]]


def record(name: str, storage: str, data: str | None, overrides: Sequence[str] = ()) -> Path:
    """Train what is not yet in `storage`, and write the recording's file."""
    setting = SETTINGS[name]
    shared = [*setting.overrides, f"seeds={SEEDS}", *overrides]
    dense = load_recipe(setting.recipe, [*shared, "combinations=single", "lambdas=0"])
    lambdas = ",".join(f"{strength:g}" for strength in setting.lambdas)
    joint = load_recipe(setting.recipe, [f"lambdas={lambdas}", f"combinations={JOINT}", *shared])
    results: list[TrialResult] = []
    for recipe in (dense, joint):
        results += run_sweep(open_sweep(recipe, storage, name, data), RayRunner("local"))
    failed = [result for result in results if result.status != "done"]
    if failed:
        raise SystemExit(f"{len(failed)} trials failed, the first: {failed[0].config}: {failed[0].error}")
    sweep = open_sweep(joint, storage, name, data)
    about = {
        "settings": sweep.configs[0].model_dump(mode="json", exclude={"tasks", "strength", "seed"}),
        "primaries": {task: metric.name for task, metric in sweep.primaries.items()},
        "maximize": {metric.name: metric.maximize for metric in sweep.primaries.values()},
    }
    path = FOLDER / f"{name}.parquet"
    write_table(epoch_table(results, sweep), about, path)
    return path


def epoch_table(results: Sequence[TrialResult], sweep: Sweep) -> pd.DataFrame:
    """The rows of a recording."""
    table = pd.DataFrame([row for result in results for row in _epoch_rows(result, sweep.tasks)])
    # A baseline's last word is its result, whichever epoch of the other trial stands beside it.
    baselines = table[table["chosen"] & table["tasks"].isin(sweep.primaries)]
    counted = {task: [metric] for task, metric in sweep.primaries.items()}
    for epoch in table["epoch"].unique():
        rows = table[(table["epoch"] == epoch) & (table["tasks"] == JOINT)]
        both = pd.concat([rows, baselines]).assign(setup="")
        table.loc[rows.index, "delta_m"] = delta_m(both, "val", counted)[: len(rows)]
    kept = ["tasks", "lambda", "seed", "epoch", "chosen"]
    kept += [f"val_{metric.name}" for metric in sweep.primaries.values()] + [
        f"val_{task}_loss" for task in sweep.primaries
    ]
    return table[[*kept, "group_sparsity", "parameter_sparsity", "delta_m", "seconds"]]


def _epoch_rows(result: TrialResult, tasks: Sequence[Task]) -> list[dict[str, object]]:
    config = result.config
    own = [task for task in tasks if task.name in config.tasks]
    chosen = 0
    for place, row in enumerate(result.history):
        if takes_over(own, row, result.history[chosen]):
            chosen = place
    identity: dict[str, object] = {"tasks": config.combination, "lambda": config.strength, "seed": config.seed}
    # All of one recipe: what delta_m asks for besides.
    identity |= {"status": result.status, "settings": "", "retraining": config.retraining}
    return [identity | {"chosen": place == chosen} | dict(row) for place, row in enumerate(result.history)]


def write_table(table: pd.DataFrame, about: Mapping[str, Any], path: Path) -> None:
    """The recording's file; `about` as a Recording has it."""
    # Single precision is more than the metrics have; λ is compared.
    floats = [name for name in table.columns if table[name].dtype == "float64" and name != "lambda"]
    small = table.astype(dict.fromkeys(floats, "float32") | {"epoch": "int16", "seed": "int16"})
    arrow = pa.Table.from_pandas(small.sort_values(["tasks", "lambda", "seed", "epoch"]), preserve_index=False)
    path.parent.mkdir(exist_ok=True)
    pq.write_table(
        arrow.replace_schema_metadata({name: json.dumps(value) for name, value in about.items()}),
        path,
        compression="zstd",
    )


def read_recording(path: Path) -> Recording:
    """A file that `record` wrote."""
    arrow = pq.read_table(path)
    rows: dict[Key, list[dict[str, float]]] = {}
    chosen: dict[Key, int] = {}
    for row in arrow.to_pandas(ignore_metadata=True).sort_values("epoch").to_dict("records"):
        key = str(row.pop("tasks")), float(row.pop("lambda")), int(row.pop("seed"))
        if row.pop("chosen"):
            chosen[key] = int(row["epoch"])
        rows.setdefault(key, []).append(
            {str(name): float(value) for name, value in row.items() if not math.isnan(value)}
        )
    about = {name.decode(): json.loads(value) for name, value in arrow.schema.metadata.items()}
    return Recording(rows=rows, chosen=chosen, **about)
