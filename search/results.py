"""Rows of trials and epochs, and the tables that are made of them."""

import io
import json
import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mtl.config import TrialConfig
from mtl.metrics import MetricInfo
from search.storage import HISTORY, LAYERS, RESULTS, Store, trial_file

Status = Literal["done", "failed", "stopped"]
IDENTITY = ["trial_id", "status", "tasks", "penalty", "lambda", "seed", "epochs_run"]
SPARSITY = ["group_sparsity", "parameter_sparsity"]
# Of the compacted backbone of a done trial, see `mtl.backbone_costs`.
COSTS = ["latency_ms", "macs", "active_parameters"]
DELTA = ["delta_m", "test_delta_m"]
# An object store or a network folder takes its time for each file, and many at once.
READERS = 16
RUN = ["settings", "retraining", "train_seconds", "started_at", "ended_at", "error"]


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended. Times are UTC, ISO 8601; `history` has a row an epoch; `details` may hold a traceback."""

    config: TrialConfig
    status: Status
    started_at: str
    ended_at: str
    train_seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Mapping[str, float], ...] = ()
    error: str = ""
    details: str = ""
    layers: Mapping[str, str] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """The trial's row of results.parquet, delta_m apart, which needs other trials' rows."""
        return {
            "trial_id": self.config.trial_id,
            "status": self.status,
            "tasks": self.config.combination,
            "penalty": self.config.penalty,
            "lambda": self.config.strength,
            "seed": self.config.seed,
            "epochs_run": len(self.history),
            **self.metrics,
            "retraining": self.config.retraining,
            "train_seconds": self.train_seconds,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "error": self.error or None,
        }

    def to_json(self) -> bytes:
        """The text of the trial's result.json."""
        data = {
            "config": self.config.model_dump(mode="json"),
            "status": self.status,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "train_seconds": self.train_seconds,
            "metrics": dict(self.metrics),
            "history": [dict(row) for row in self.history],
            "layers": dict(self.layers),
            "error": self.error,
            "details": self.details,
        }
        return json.dumps(data, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "TrialResult":
        """The inverse of `to_json`."""
        fields = json.loads(data)
        fields["config"] = TrialConfig.model_validate(fields["config"])
        fields["history"] = tuple(fields["history"])
        return cls(**fields)


def stopped_result(
    config: TrialConfig, history: Iterable[Mapping[str, float]], started_at: str, why: str = ""
) -> TrialResult:
    """The result of a trial that was stopped early: validation metrics and sparsities of its last epoch, no test.

    history: its rows in order, at least one; started_at: UTC, ISO 8601; why: a line for its row.
    """
    rows = tuple(history)
    metrics = {
        name: value
        for name, value in rows[-1].items()
        if name in SPARSITY or (name.startswith("val_") and not name.endswith("_loss"))
    }
    return TrialResult(
        config,
        "stopped",
        started_at,
        datetime.now(UTC).isoformat(timespec="seconds"),
        train_seconds=sum(row["seconds"] for row in rows),
        metrics=metrics,
        history=rows,
        error=why,
    )


def read_results(store: Store) -> dict[str, TrialResult]:
    """Every finished trial of a sweep, by its id."""
    return _read(store, store.finished_trials())


def count_results(store: Store) -> tuple[int, list[TrialResult]]:
    """How many trials are done, and those that failed: the table tells of most, without the results' own files."""
    finished = store.finished_trials()
    table = store.read(RESULTS)
    done: set[str] = set()
    if table is not None:
        rows = _columns(table, "trial_id", "status")
        # What failed may have been tried again since; what was done stays so.
        done = set(rows["trial_id"][rows["status"] != "failed"]) & set(finished)
    others = _read(store, [trial_id for trial_id in finished if trial_id not in done]).values()
    failed = [result for result in others if result.status == "failed"]
    return len(done) + len(others) - len(failed), failed


def _read(store: Store, trial_ids: Iterable[str]) -> dict[str, TrialResult]:
    """By id, in the order given; without those that have no result any more."""
    trial_ids = list(trial_ids)
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(lambda trial_id: store.read(trial_file(trial_id, "result.json")), trial_ids)
        return {
            trial_id: TrialResult.from_json(data)
            for trial_id, data in zip(trial_ids, found, strict=True)
            if data is not None
        }


def write_tables(
    store: Store,
    results: Iterable[TrialResult],
    infos: Mapping[str, MetricInfo],
    primaries: Mapping[str, str],
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """results.parquet, history.parquet and layers.parquet, made anew from all results.

    infos: the metrics by full name; primaries: the metric of each task that delta_m is made of; more: columns of
    results.parquet with their values by trial id.
    """
    results = list(results)
    store.write(RESULTS, _parquet(results_table(results, infos, primaries, more)))
    store.write(HISTORY, _parquet(history_table(results)))
    store.write(LAYERS, _arrow_bytes(layers_table(results)))


def results_table(
    results: Iterable[TrialResult],
    infos: Mapping[str, MetricInfo],
    primaries: Mapping[str, str],
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """One row a trial; the columns are the same whichever trials have ended. `settings` is empty unless `more` says."""
    metrics = [f"{split}_{name}" for split in ("val", "test") for name in infos]
    columns = IDENTITY + metrics + SPARSITY + DELTA + COSTS + RUN
    table = pd.DataFrame([result.row() for result in results], columns=columns)
    table["settings"] = ""
    for column, values in (more or {}).items():
        table[column] = table["trial_id"].map(values)
    table["settings"] = table["settings"].fillna("")
    for column, split in (("delta_m", "val"), ("test_delta_m", "test")):
        table[column] = delta_m(table, split, infos, primaries)
    kinds = dict.fromkeys(metrics + SPARSITY + DELTA + COSTS + ["lambda", "train_seconds"], "float64")
    texts = dict.fromkeys(["error", "status", "settings", "retraining"], "str")
    return table.astype(kinds | {"seed": "int64", "epochs_run": "int64"} | texts)


def delta_m(
    table: pd.DataFrame, split: str, infos: Mapping[str, MetricInfo], primaries: Mapping[str, str]
) -> pd.Series:
    """Mean over a row's tasks of the relative change of the primary metric, as a fraction, better is positive.

    The reference of each task is its dense (lambda 0) single-task model of the same seed and the recipe's own settings
    (Maninis et al. 2019, eq. 7); NaN where a reference is missing or 0.
    """
    dense = table[(table["lambda"] == 0) & (table["status"] == "done") & (table["settings"] == "")]
    reference = {
        (row["tasks"], row["seed"]): row[f"{split}_{primaries[row['tasks']]}"]
        for row in dense.to_dict("records")
        if row["tasks"] in primaries
    }

    def change(row: pd.Series) -> float:
        changes = []
        for task in row["tasks"].split("+"):
            metric = primaries[task]
            base = reference.get((task, row["seed"]), math.nan)
            changes.append(relative_change(row[f"{split}_{metric}"], base, infos[metric].direction == "maximize"))
        return sum(changes) / len(changes)

    return pd.Series([change(row) for _, row in table.iterrows()], index=table.index, dtype="float64")


def search_columns(store: Store) -> dict[str, dict[str, Any]]:
    """The columns that a search in this folder has given its trials, for a table that is made anew without it."""
    table = store.read(RESULTS)
    if table is None or "proposal" not in pq.read_schema(io.BytesIO(table)).names:
        return {}
    rows = _columns(table, "trial_id", "proposal")
    return {"proposal": dict(zip(rows["trial_id"], rows["proposal"], strict=True))}


def relative_change(value: float, base: float, maximize: bool) -> float:
    """(value - base) / |base|, better is positive; NaN where base is 0."""
    return (1 if maximize else -1) * (value - base) / abs(base) if base else math.nan


def history_table(results: Iterable[TrialResult]) -> pd.DataFrame:
    """One row a trial and epoch."""
    rows = [
        {"trial_id": result.config.trial_id, "epoch": row["epoch"], "lambda": result.config.strength, **row}
        for result in results
        for row in result.history
    ]
    return pd.DataFrame(rows, columns=None if rows else ["trial_id", "epoch", "lambda"])


def packed_layers(layers: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Which groups of each convolution survive, (C,) bool, as "C:" and the bits in hexadecimal."""
    return {name: f"{len(alive)}:{np.packbits(alive).tobytes().hex()}" for name, alive in layers.items()}


def layers_table(results: Iterable[TrialResult]) -> pa.Table:
    """One row a done trial and convolution: `alive` says which of its `groups` survive, in the channels' order."""
    names: list[tuple[str, str, int]] = []
    alive: list[np.ndarray] = []
    for result in results:
        for position, (name, packed) in enumerate(result.layers.items()):
            count, _, digits = packed.partition(":")
            bits = np.unpackbits(np.frombuffer(bytes.fromhex(digits), np.uint8), count=int(count))
            names.append((result.config.trial_id, name, position))
            alive.append(bits.astype(bool))
    sizes = np.array([len(one) for one in alive], np.int32)
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(sizes, dtype=np.int32)])
    values = np.concatenate(alive) if alive else np.zeros(0, bool)
    trial_ids, layers, positions = zip(*names, strict=True) if names else ((), (), ())
    return pa.table(
        {
            "trial_id": pa.array(trial_ids, pa.string()),
            "layer": pa.array(layers, pa.string()),
            "position": pa.array(positions, pa.int32()),
            "groups": pa.array(sizes),
            "alive": pa.ListArray.from_arrays(pa.array(offsets), pa.array(values)),
        }
    )


def _arrow_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _columns(table: bytes, *names: str) -> pd.DataFrame:
    """Of a Parquet file, read in this thread alone: Arrow's own may abort a process that ends, `analysis.parquet`."""
    read = pq.ParquetFile(pa.BufferReader(table)).read(columns=names, use_threads=False)
    return read.to_pandas(use_threads=False)


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
