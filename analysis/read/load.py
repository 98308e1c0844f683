"""A sweep as read from its files: what was run, one row per trial, one row per epoch."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.read.sweep_files import (
    ANEW,
    FLAGS,
    NUMBER,
    TEXT,
    WHOLE,
    Kinds,
    need_columns,
    read_info,
    read_table,
)
from mtl.errors import BadInput
from mtl.vocabulary.delta_m import NO_RETRAINING
from mtl.vocabulary.files import HISTORY, LAYERS, MODEL, RESULTS, SWEEP, trial_file
from mtl.vocabulary.metric import Metric
from mtl.vocabulary.objective import COSTS, SPARSITIES, WHOLE_COSTS, Objective
from mtl.vocabulary.sweep_file import SweepFile

STATUSES = ("done", "failed", "stopped")
# Rows of these have every value.
RESULT_TEXTS = ("trial_id", "status", "tasks", "penalty")
HISTORY_KINDS: Kinds = {"trial_id": TEXT, "epoch": NUMBER}
LAYERS_KINDS: Kinds = {"trial_id": TEXT, "layer": TEXT, "position": WHOLE, "groups": WHOLE, "alive": FLAGS}
FURTHER: Kinds = {"retraining": TEXT, "settings": TEXT, "train_seconds": NUMBER, "torch_version": TEXT} | dict.fromkeys(
    COSTS, NUMBER
)
# Larger than any measurement; its sums and squares are still finite.
LARGEST = 1e30
MOST_GROUPS, MOST_EPOCHS = 10**7, 10**7
LONGER = "longer"  # a dense trial, trained once, for as many epochs as a retrained trial has in all
COMPRESSED = "compressor="  # before the settings of a trial that another compressor than the penalty made smaller
LONGER_NAME = "dense, 2 × epochs"
NUMBERS = ["lambda", "seed", "group_sparsity", "parameter_sparsity", "delta_m", "test_delta_m"]


def method_name(penalty: str, retraining: str, settings: str) -> str:
    """What people read; two methods have two names."""
    if settings.startswith(COMPRESSED):
        return settings.removeprefix(COMPRESSED)  # without a penalty
    name = penalty if retraining == NO_RETRAINING else f"{penalty} + {retraining}"
    if retraining == LONGER:
        name = LONGER_NAME  # without a penalty
    return f"{name} · {settings}" if settings else name


def is_compressed(results: pd.DataFrame) -> "pd.Series[bool]":
    """Which trials were made smaller by another compressor than the penalty: at λ = 0, they are no dense models."""
    return results["settings"].str.startswith(COMPRESSED)


def reported_column(column: str) -> str:
    """The column that reports on the test split what `column` says on the validation split."""
    if column in ("delta_m", "over_dense"):
        return f"test_{column}"
    return f"test_{column.removeprefix('val_')}" if column.startswith("val_") else column


@dataclass(frozen=True)
class Sweep:
    """A sweep, finished or running.

    Attributes:
        folder: where its files lie; of merged sweeps the first one's.
        info: `sweep.json` as read.
        tasks: each task's primary metric, in the recipe's order.
        metrics: by name, without the split's prefix.
        objectives: what the front is drawn over.
        results: one row per trial that ended, whatever its status, with the columns `sweep`, the name of the sweep that
            it is of; `setup`, the same for trials that differ in tasks, λ, seed and method alone; and `method`.
        history: one row per trial and epoch; None where the sweep has not written one.
        layers: one row per trial and convolution, with the groups alive; None where the sweep has not written it.
        parts: the sweeps that were merged into this one; empty for one that was read as it is.
        place: where people find its files; empty where that is `folder`.
    """

    folder: Path
    info: dict[str, Any]
    tasks: dict[str, str]
    metrics: dict[str, Metric]
    objectives: tuple[Objective, ...]
    results: pd.DataFrame
    history: pd.DataFrame | None
    layers: pd.DataFrame | None = None
    parts: tuple["Sweep", ...] = ()
    place: str = ""

    @property
    def name(self) -> str:
        """What the sweep is called."""
        return str(self.info["name"])

    @property
    def planned(self) -> int:
        """How many trials the sweep set out to run; of merged sweeps, all of theirs without duplicates."""
        return int(self.info["trials_planned"])

    @property
    def constant_predictor(self) -> dict[str, float]:
        """Test metrics of the best prediction that ignores the image; empty where the sweep does not know them."""
        return dict(self.info.get("constant_predictor") or {})

    def constants(self, split: str) -> dict[str, float]:
        """The same for a split, val or test; older sweeps measured it on test alone, which is then used for both."""
        validation = self.info.get("constant_predictor_val") if split == "val" else None
        return dict(validation or self.constant_predictor)

    def model_path(self, trial_id: str) -> str:
        """Where people find the model of a trial."""
        label = self.results.loc[self.results["trial_id"] == trial_id, "sweep"].iloc[0]
        own = next((part for part in self.parts if part.name == label), self)
        return f"{own.place or own.folder}/{trial_file(trial_id, MODEL)}"

    def trials(self, status: str) -> pd.DataFrame:
        """The results' rows of one status: done, failed or stopped."""
        return self.results[self.results["status"] == status]

    def tasks_of(self, combination: str) -> list[str]:
        """The tasks of a combination such as "segmentation+depth", in the recipe's order."""
        return [task for task in self.tasks if task in combination.split("+")]


def load_sweep(folder: Path | str, objectives: Sequence[Objective] = ()) -> Sweep:
    """Reads `sweep.json`, `results.parquet` and, where they are there, `history.parquet` and `layers.parquet`.

    Trials are averaged with their like alone: those of one `method`, which is the penalty, the retraining and what a
    search has set otherwise than the recipe, such as "group_lasso + scratch · lr=0.003". These three stay columns of
    their own: a dense model with other settings is not the dense model, and an ℓ1 trial with other settings is an ℓ1
    trial.

    Args:
        folder: STORAGE/NAME.
        objectives: columns of the results to trade; those of `sweep.json` where empty.

    Raises:
        BadInput: the folder is no sweep, a file is missing, damaged or of another schema, a column is missing, a done
            trial lacks a number that it must have, or a number is infinite.
    """
    folder = Path(folder)
    if not (folder / SWEEP).is_file():
        raise BadInput(f"{folder} is no sweep: it holds no sweep.json")
    checked, info = read_info(folder / SWEEP)
    tasks, metrics, own_objectives = _meaning(checked)
    if not (folder / RESULTS).is_file():
        raise BadInput(f"{folder} holds no results.parquet: no trial of this sweep has ended yet")
    results = read_table(
        folder / RESULTS,
        dict.fromkeys((*RESULT_TEXTS, "error"), TEXT) | dict.fromkeys(NUMBERS, NUMBER),
        {**FURTHER} | {f"{split}_{name}": NUMBER for split in ("val", "test") for name in metrics},
        RESULT_TEXTS,
    )
    history = layers = None
    if (path := folder / HISTORY).is_file():
        history = read_table(path, HISTORY_KINDS, {"group_sparsity": NUMBER}, tuple(HISTORY_KINDS))
        _need_range(history, "epoch", 0, MOST_EPOCHS, path)
    if (path := folder / LAYERS).is_file():
        layers = read_table(path, LAYERS_KINDS, {}, tuple(LAYERS_KINDS))
        _need_range(layers, "groups", 1, MOST_GROUPS, path)
    sweep = Sweep(folder, info, tasks, metrics, tuple(objectives) or own_objectives, results, history, layers)
    _check_results(sweep, folder / RESULTS)
    for column, nothing in (("retraining", NO_RETRAINING), ("settings", "")):
        results[column] = results[column].fillna(nothing) if column in results else nothing
    results["method"] = [
        method_name(*parts)
        for parts in zip(results["penalty"], results["retraining"], results["settings"], strict=True)
    ]
    results["sweep"] = results["setup"] = sweep.name
    return sweep


def _meaning(info: SweepFile) -> tuple[dict[str, str], dict[str, Metric], tuple[Objective, ...]]:
    """The tasks, metrics and objectives that `sweep.json` declares."""
    metrics = {
        name: Metric(name, about.label or name, about.unit or "", about.direction)
        for name, about in info.metrics.items()
    }
    objectives = tuple(Objective(about.column, about.direction) for about in info.objectives)
    tasks = {task: info.tasks[task].primary for task in info.order}
    return tasks, told_apart(metrics, tasks), objectives


def metrics_of(task: str, tasks: Iterable[str], metrics: Mapping[str, Metric]) -> list[Metric]:
    """The metrics that this task reports."""
    return [metric for name, metric in metrics.items() if _task_of(name, tasks) == task]


def _task_of(metric: str, tasks: Iterable[str]) -> str:
    """The task with the longest matching name, as of hair and hair_colour; the metric's own name where none matches."""
    return max((task for task in tasks if metric.startswith(f"{task}_")), key=len, default=metric)


def told_apart(metrics: Mapping[str, Metric], tasks: Iterable[str]) -> dict[str, Metric]:
    """The metrics, with the task's name before a label that several of them share, such as the accuracies of two
    attributes: tables and figures name columns and panels by their labels."""
    shared = Counter(metric.label for metric in metrics.values())
    named = {}
    for name, metric in metrics.items():
        task = _task_of(name, tasks)
        label = metric.label if shared[metric.label] == 1 else f"{task.replace('_', ' ')} {metric.label}"
        named[name] = replace(metric, label=label)
    return named


def _need_range(table: pd.DataFrame, column: str, low: int, high: int, path: Path) -> None:
    wrong = table.loc[~table[column].between(low, high).to_numpy(bool), "trial_id"]
    if len(wrong):
        raise BadInput(f"{path}: column {column} is not in {low} to {high} in trial {wrong.iloc[0]}; {ANEW}")


def _check_results(sweep: Sweep, path: Path) -> None:
    """Refuses rows that would be averaged wrongly or dropped in silence; makes the number columns floats in place."""
    results = sweep.results
    objectives = [name for one in sweep.objectives for name in (one.column, reported_column(one.column))]
    need_columns(results, objectives, path)
    for column in (*RESULT_TEXTS, *(name for name in ("retraining", "settings") if name in results)):
        strange = [name for name in results[column].dropna().unique() if not str(name).isprintable()]
        if strange:
            raise BadInput(f"{path}: column {column} has {strange[0]!r}; it must be one line of text")
    repeated = results["trial_id"][results["trial_id"].duplicated()]
    if len(repeated):
        raise BadInput(f"{path}: trial_id {repeated.iloc[0]} stands in more than one row")
    unknown = results["status"][~results["status"].isin(STATUSES)]
    if len(unknown):
        raise BadInput(f"{path}: status is {unknown.iloc[0]!r}; it must be one of {', '.join(STATUSES)}")
    for combination in results["tasks"].unique():
        if not set(str(combination).split("+")) <= set(sweep.tasks):
            raise BadInput(f"{path}: tasks is {combination!r}; sweep.json knows {', '.join(sweep.tasks)}")

    done = results["status"] == "done"

    def refuse(column: str, wrong: "pd.Series[bool]", says: str) -> None:
        if wrong.any():
            raise BadInput(f"{path}: column {column} {says} trial {results['trial_id'][wrong].iloc[0]}")

    metrics = [f"{split}_{name}" for split in ("val", "test") for name in sweep.metrics]
    there = [column for column in (*metrics, *COSTS) if column in results]
    numbers = list(dict.fromkeys([*NUMBERS, *there, *objectives]))
    for column in numbers:
        if results[column].dtype == np.float64:
            continue
        try:
            # A column of a sweep whose trials all failed so far holds nothing but nulls, without a number type.
            results[column] = pd.to_numeric(results[column]).astype(float)
        except (TypeError, ValueError):
            raise BadInput(f"{path}: column {column} holds something that is not a number") from None
    for column in numbers:
        refuse(column, done & np.isinf(results[column]), "is infinite in")
        refuse(column, done & (results[column].abs() > LARGEST), f"is beyond {LARGEST:g} in")
    for column in SPARSITIES:
        _need_range(results[done].dropna(subset=column), column, 0, 1, path)
    refuse("lambda", results["lambda"] < 0, "is below 0 in")
    for column in WHOLE_COSTS:
        if column in results:
            refuse(column, done & (results[column] <= 0), "is not above 0 in")
    for column in ("lambda", "seed", *SPARSITIES):
        refuse(column, done & results[column].isna(), "has no number in the done")
    for combination in results["tasks"][done].unique():
        for split, task in itertools.product(("val", "test"), sweep.tasks_of(str(combination))):
            column = f"{split}_{sweep.tasks[task]}"
            need_columns(results, [column], path)
            mine = done & (results["tasks"] == combination)
            refuse(column, mine & results[column].isna(), "has no number in the done")
