"""Several sweeps as one: their trials in one table, a trial of two of them once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.delta_m import delta_m
from analysis.errors import BadInput
from analysis.load import Objective, Sweep, load_sweep, told_apart

# What may differ between trials of one setup: what a sweep varies, what only says how it is run, and the penalty and
# the retraining, which are a column of their own.
NOT_SETUP = (
    *("title", "tasks", "combinations", "lambdas", "seeds", "penalty", "retraining", "measure_latency"),
    *("cpus_per_trial", "gpus_per_trial", "max_retries", "checkpoint_seconds"),
)


def load_sweeps(folders: Sequence[Path | str], objectives: Sequence[Objective] = ()) -> Sweep:
    """Reads one or many sweeps and merges them.

    Args:
        folders: STORAGE/NAME of each.
        objectives: columns of the results to trade; those of `sweep.json` where empty.

    Raises:
        BadInput: no folder, one that cannot be read, or sweeps that cannot stand in one table (see `merge_sweeps`).
    """
    if not folders:
        raise BadInput("no sweep was named; allowed: one folder or more")
    return merge_sweeps([load_sweep(folder, objectives) for folder in folders])


def merge_sweeps(sweeps: Sequence[Sweep]) -> Sweep:
    """One sweep with the trials of all.

    The first sweep gives the name, the folder and `info`. Trials keep their sweep's name in `sweep`, with its folder
    where two have one name; a trial id that several sweeps have is taken from the first in which it is done. Sweeps
    whose recipes agree but for tasks, combinations, λ, seeds and penalty share a `setup`, so that their trials are
    averaged over seeds together; Δm that a sweep could not know for want of dense single-task models is filled in from
    those of another sweep of the same setup.

    Raises:
        BadInput: a metric with two units or directions, a task with two primary metrics, or other objectives.
    """
    first = sweeps[0]
    if len(sweeps) == 1:
        return first
    tasks: dict[str, str] = {}
    metrics = dict(first.metrics)
    for sweep in sweeps:
        for task, primary in sweep.tasks.items():
            if tasks.setdefault(task, primary) != primary:
                raise BadInput(
                    f"{sweep.folder}: task {task} has the primary metric {primary}, in another sweep {tasks[task]}; "
                    "allowed: the same in all sweeps"
                )
        for name, metric in sweep.metrics.items():
            known = metrics.setdefault(name, metric)
            if (known.unit, known.maximize) != (metric.unit, metric.maximize):
                raise BadInput(
                    f"{sweep.folder}: metric {name} is in {metric.unit or 'no unit'}, in another sweep in "
                    f"{known.unit or 'no unit'}; allowed: sweeps of one protocol"
                )
        if sweep.objectives != first.objectives:
            named = ", ".join(objective.column for objective in sweep.objectives)
            raise BadInput(f"{sweep.folder}: the objectives are {named}, in {first.folder} others; name them instead")

    names = [sweep.name for sweep in sweeps]
    labels = [f"{s.name} ({s.folder})" if names.count(s.name) > 1 else s.name for s in sweeps]
    setups: dict[str, str] = {}
    tables = []
    for sweep, label in zip(sweeps, labels, strict=True):
        setup = setups.setdefault(_setup(sweep.info), label)
        tables.append(sweep.results.assign(sweep=label, setup=setup))
    results = pd.concat(tables, ignore_index=True)
    done_first = np.argsort(~(results["status"] == "done").to_numpy(), kind="stable")
    results = results.iloc[np.sort(done_first[~results["trial_id"].iloc[done_first].duplicated().to_numpy()])]
    results = results.reset_index(drop=True)
    for column, split in (("delta_m", "val"), ("test_delta_m", "test")):
        results[column] = results[column].fillna(delta_m(results, split, tasks, metrics))

    constants = {name: {sweep.constant_predictor.get(name) for sweep in sweeps} - {None} for name in metrics}
    planned = [trial for sweep in sweeps for trial in sweep.info.get("trials") or []]
    all_listed = all(sweep.info.get("trials") for sweep in sweeps)
    info = first.info | {
        "name": " + ".join(labels),
        "trials_planned": len(set(planned)) if all_listed else sum(sweep.planned for sweep in sweeps),
        "trials": list(dict.fromkeys(planned)) if all_listed else [],
        # Sweeps on other data have other constant predictors, and no row of a table could be compared with one of them.
        "constant_predictor": {name: found.pop() for name, found in constants.items() if len(found) == 1},
    }
    return replace(
        first,
        info=info,
        tasks=tasks,
        metrics=told_apart(metrics, tasks),
        results=results,
        history=_together([sweep.history for sweep in sweeps], ["trial_id", "epoch"]),
        layers=_together([sweep.layers for sweep in sweeps], ["trial_id", "layer"]),
        parts=tuple(replace(s, info=s.info | {"name": label}) for s, label in zip(sweeps, labels, strict=True)),
    )


def _setup(info: dict[str, Any]) -> str:
    settings = {key: value for key, value in info["recipe"].items() if key not in NOT_SETUP}
    settings |= {key: info.get(key, "") for key in ("data_version", "weights_version")}
    return repr(sorted(settings.items()))


def _together(tables: Sequence[pd.DataFrame | None], keys: list[str]) -> pd.DataFrame | None:
    there = [table for table in tables if table is not None]
    if not there:
        return None
    together = pd.concat(there, ignore_index=True)
    return together[~together.duplicated(keys)].reset_index(drop=True)
