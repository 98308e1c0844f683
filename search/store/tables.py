"""The tables of a sweep: results.parquet, history.parquet and layers.parquet, made from all results."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from mtl.vocabulary.delta_m import delta_m
from mtl.vocabulary.files import HISTORY, LAYERS, RESULTS
from mtl.vocabulary.metric import Metric
from mtl.vocabulary.objective import COSTS, SPARSITIES
from search.store.files import parquet_bytes, read_columns
from search.store.messages import say
from search.store.results import LAST_SPARSITY, TrialResult, as_text
from search.store.storage import Store

IDENTITY = ("trial_id", "status", "tasks", "penalty", "lambda", "seed", "epochs_run")
DELTAS = {"delta_m": "val", "test_delta_m": "test"}
RUN = (
    "settings",
    "retraining",
    "warm_started_from",
    "epochs_in_all",
    "train_seconds",
    "started_at",
    "ended_at",
    "torch_version",
    "error",
)
LAYERS_SCHEMA = pa.schema(
    {
        "trial_id": pa.string(),
        "layer": pa.string(),
        "position": pa.int32(),
        "groups": pa.int32(),
        "alive": pa.list_(pa.bool_()),
    }
)


def write_tables(
    store: Store,
    results: Iterable[TrialResult],
    metrics: Iterable[str],
    primaries: Mapping[str, Metric],
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write the three tables; see `results_table`. Raises StorageError."""
    results = list(results)
    store.write(RESULTS, parquet_bytes(results_table(results, metrics, primaries, more)))
    store.write(HISTORY, parquet_bytes(history_table(results)))
    store.write(LAYERS, parquet_bytes(layers_table(results)))


def results_table(
    results: Iterable[TrialResult],
    metrics: Iterable[str],
    primaries: Mapping[str, Metric],
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """One row for each trial. The columns do not depend on which trials have ended.

    Args:
        metrics: their full names.
        primaries: the metric of each task that delta_m is made of.
        more: further columns, with their values by trial id; `settings` is empty unless given here.
    """
    metrics = [f"{split}_{name}" for split, name in itertools.product(("val", "test"), metrics)]
    numbers = [*metrics, *SPARSITIES, LAST_SPARSITY, *DELTAS, *COSTS]
    by_id = {result.config.trial_id: result for result in results}
    in_all = {"epochs_in_all": {trial_id: _epochs_in_all(trial_id, by_id) for trial_id in by_id}}
    table = pd.DataFrame([_row(result) for result in by_id.values()], columns=[*IDENTITY, *numbers, *RUN])
    table["settings"] = ""
    for column, values in (in_all | dict(more or {})).items():
        table[column] = table["trial_id"].map(values)
    table["settings"] = table["settings"].fillna("")
    for column, split in DELTAS.items():
        table[column] = delta_m(table.assign(setup=""), split, {task: [one] for task, one in primaries.items()})
    kinds = dict.fromkeys([*numbers, "lambda", "train_seconds"], "float64")
    texts = dict.fromkeys(["error", "status", "settings", "retraining", "torch_version"], "str")
    return table.astype(kinds | {"seed": "int64", "epochs_run": "int64", "epochs_in_all": "int64"} | texts)


def _epochs_in_all(trial_id: str, results: Mapping[str, TrialResult]) -> int:
    """A trial's epochs, and those of the trials that it starts from, one after the other, as far as they are known."""
    count = 0
    while result := results.get(trial_id):
        count += len(result.history)
        trial_id = result.config.warm_started_from
    return count


def _row(result: TrialResult) -> dict[str, Any]:
    """A trial's row of results.parquet, without delta_m, which needs the rows of other trials."""
    return {
        "trial_id": result.config.trial_id,
        "status": result.status,
        "tasks": result.config.combination,
        "penalty": result.config.penalty,
        "lambda": result.config.strength,
        "seed": result.config.seed,
        "epochs_run": len(result.history),
        **result.metrics,
        "retraining": result.config.retraining,
        "warm_started_from": result.config.warm_started_from or None,
        "train_seconds": result.train_seconds,
        "started_at": result.started_at,
        "ended_at": result.ended_at,
        "torch_version": result.torch_version or None,
        "error": as_text(result.error) or None,
    }


def search_columns(store: Store) -> dict[str, dict[str, Any]]:
    """The columns that a search has added to the sweep's table, for a table that another command makes."""
    table, fault = read_columns(store, "trial_id", "proposal")
    if fault:
        say(fault)
    return {"proposal": dict(zip(table["trial_id"], table["proposal"], strict=True))} if table else {}


def history_table(results: Iterable[TrialResult]) -> pd.DataFrame:
    """One row for each trial and epoch."""
    rows = [
        {"trial_id": result.config.trial_id, "epoch": row["epoch"], "lambda": result.config.strength, **row}
        for result in results
        for row in result.history
    ]
    return pd.DataFrame(rows, columns=None if rows else ["trial_id", "epoch", "lambda"])


def layers_table(results: Iterable[TrialResult]) -> pa.Table:
    """One row for each done trial and convolution: `alive` says which of its `groups` survive, in channel order."""
    rows = []
    for result in results:
        for position, (name, packed) in enumerate(result.layers.items()):
            count, _, digits = packed.partition(":")
            alive = np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8), count=int(count)).astype(bool)
            values = (result.config.trial_id, name, position, len(alive), alive)
            rows.append(dict(zip(LAYERS_SCHEMA.names, values, strict=True)))
    return pa.Table.from_pylist(rows, schema=LAYERS_SCHEMA)
