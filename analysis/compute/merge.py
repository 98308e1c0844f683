"""Several sweeps merged into one: all trials in one table, without duplicates."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.compute.costs import with_costs
from analysis.read.load import Sweep, load_sweep, metrics_of, told_apart
from mtl.errors import BadInput
from mtl.vocabulary.delta_m import delta_m
from mtl.vocabulary.objective import Objective


def load_sweeps(
    folders: Sequence[Path | str], objectives: Sequence[Objective] = (), places: Sequence[str] = ()
) -> Sweep:
    """Reads one or many sweeps and merges them into one with the trials of all.

    The first sweep gives the name, the folder and `info`. Trials keep their sweep's name in `sweep`, with its folder
    where two have one name; a trial id that several sweeps have is taken from the first in which it is done. Sweeps
    of one setup, as sweep.json names it, share a `setup`: their trials differ only in tasks, λ, seed, penalty and
    retraining, and are averaged over seeds together. Where a sweep lacks the dense single-task models for Δm, those of
    another sweep of the same setup are used.

    Args:
        folders: STORAGE/NAME of each.
        objectives: columns of the results to trade; those of `sweep.json` where empty.
        places: where people find each of them, where that is not the folder.

    Raises:
        BadInput: no folder, one that cannot be read, a metric with two units or directions, a task with two primary
            metrics, or other objectives.
    """
    if not folders:
        raise BadInput("no sweep was named; allowed: one folder or more")
    pairs = zip(folders, [str(place) for place in places] or [""] * len(folders), strict=True)
    sweeps = [replace(load_sweep(folder, objectives), place=place) for folder, place in pairs]
    first = sweeps[0]
    if len(sweeps) == 1:
        return with_costs(with_all_metrics(first))
    tasks: dict[str, str] = {}
    metrics = dict(first.metrics)
    for sweep in sweeps:
        for task, primary in sweep.tasks.items():
            if (known := tasks.setdefault(task, primary)) != primary:
                raise BadInput(
                    f"{sweep.folder}: task {task} has the primary metric {primary}, in another sweep {known}; allowed: "
                    "the same in all sweeps"
                )
        for name, metric in sweep.metrics.items():
            other = metrics.setdefault(name, metric)
            if (other.unit, other.maximize) != (metric.unit, metric.maximize):
                raise BadInput(
                    f"{sweep.folder}: metric {name} is in {metric.unit or 'no unit'}, in another sweep in "
                    f"{other.unit or 'no unit'}; allowed: sweeps of one protocol"
                )
        if sweep.objectives != first.objectives:
            named = ", ".join(objective.column for objective in sweep.objectives)
            raise BadInput(f"{sweep.folder}: the objectives are {named}, in {first.folder} others; name them instead")

    names = [sweep.name for sweep in sweeps]
    labels = [f"{s.name} ({s.folder})" if names.count(s.name) > 1 else s.name for s in sweeps]
    setups: dict[str, str] = {}
    tables = []
    for sweep, label in zip(sweeps, labels, strict=True):
        # A sweep written before setups had names is a setup of its own.
        setup = setups.setdefault(str(sweep.info.get("setup") or sweep.folder), label)
        tables.append(sweep.results.assign(sweep=label, setup=setup))
    results = pd.concat(tables, ignore_index=True)
    done_first = np.argsort(~(results["status"] == "done").to_numpy(), kind="stable")
    results = results.iloc[np.sort(done_first[~results["trial_id"].iloc[done_first].duplicated().to_numpy()])]
    results = results.reset_index(drop=True)
    for column, split in (("delta_m", "val"), ("test_delta_m", "test")):
        primaries = {task: [metrics[primary]] for task, primary in tasks.items()}
        results[column] = results[column].fillna(delta_m(results, split, primaries))

    planned = [trial for sweep in sweeps for trial in sweep.info.get("trials") or []]
    all_listed = all(sweep.info.get("trials") for sweep in sweeps)
    info = first.info | {
        "name": " + ".join(labels),
        "trials_planned": len(set(planned)) if all_listed else sum(sweep.planned for sweep in sweeps),
        "trials": list(dict.fromkeys(planned)) if all_listed else [],
        "constant_predictor": _agreed([sweep.constants("test") for sweep in sweeps]),
        "constant_predictor_val": _agreed([sweep.constants("val") for sweep in sweeps]),
    }
    merged = replace(
        first,
        info=info,
        tasks=tasks,
        metrics=told_apart(metrics, tasks),
        results=results,
        history=_together([sweep.history for sweep in sweeps], ["trial_id", "epoch"]),
        layers=_together([sweep.layers for sweep in sweeps], ["trial_id", "layer"]),
        parts=tuple(replace(s, info=s.info | {"name": label}) for s, label in zip(sweeps, labels, strict=True)),
    )
    return with_costs(with_all_metrics(merged))


def with_all_metrics(sweep: Sweep) -> Sweep:
    """Its results with `delta_m_all` and `test_delta_m_all`: Δm over all metrics that a task reports."""
    every = {task: metrics_of(task, sweep.tasks, sweep.metrics) for task in sweep.tasks}
    columns = {"delta_m_all": "val", "test_delta_m_all": "test"}
    values = {column: delta_m(sweep.results, split, every) for column, split in columns.items()}
    return replace(sweep, results=sweep.results.assign(**values))


def _agreed(predictors: Sequence[dict[str, float]]) -> dict[str, float]:
    """What all that know it agree on: sweeps on other data have other constant predictors, and no row of a table could
    be compared with one of them."""
    known = {name: {one[name] for one in predictors if name in one} for one in predictors for name in one}
    return {name: values.pop() for name, values in known.items() if len(values) == 1}


def _together(tables: Sequence[pd.DataFrame | None], keys: list[str]) -> pd.DataFrame | None:
    there = [table for table in tables if table is not None]
    if not there:
        return None
    together = pd.concat(there, ignore_index=True)
    return together[~together.duplicated(keys)].reset_index(drop=True)
