"""Rows of trials and epochs, and the tables that are made of them."""

import functools
import importlib.metadata
import io
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, BeforeValidator, Field

from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.vocabulary.checked import STRICT, Damaged, parse
from mtl.vocabulary.delta_m import delta_m
from mtl.vocabulary.files import HISTORY, LAYERS, RESULT, RESULTS, trial_file
from mtl.vocabulary.metric import Metric
from mtl.vocabulary.objective import COSTS, SPARSITIES
from search.store.clock import Moment, now
from search.store.files import read_columns
from search.store.messages import say
from search.store.storage import Store

# Whole numbers stay whole, as tables have columns of them.
Number = Annotated[int, Field(ge=-(2**63), lt=2**63)] | float
Status = Literal["done", "failed", "stopped"]
IDENTITY = ["trial_id", "status", "tasks", "penalty", "lambda", "seed", "epochs_run"]
LAST_SPARSITY = "last_group_sparsity"  # the last epoch's, beside that of the epoch that the trial's model is of
DELTA = ["delta_m", "test_delta_m"]
# An object store or a network folder takes its time for each file, and many at once.
READERS = 16
AGAIN = "remove it, and the same command runs its trial again"
RUN = ["settings", "retraining", "train_seconds", "started_at", "ended_at", "torch_version", "error"]


def _row(row: Mapping[str, float]) -> Mapping[str, float]:
    epoch = row.get("epoch", math.nan)
    if not (epoch >= 0 and float(epoch).is_integer()):
        raise ValueError("a row of an epoch")
    return row


EpochRow = Annotated[Mapping[str, Number], AfterValidator(_row)]


def _packed(text: str) -> str:
    """See `packed_layers`."""
    match = re.fullmatch(r"(\d{1,7}):((?:[0-9a-f]{2})*)", text)
    if match is None or len(match[2]) != 2 * math.ceil(int(match[1]) / 8):
        raise ValueError("the groups alive of a convolution")
    return text


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended. Times are UTC, ISO 8601; `history` has a row an epoch; `details` may hold a traceback.

    torch_version: that it was trained with, such as 2.11.0; several, joined by ", ", where it went on with another;
    empty where it is not known, as of a trial that was stopped early.

    What is read from a file has been checked against the annotations, see `from_json`.
    """

    __pydantic_config__: ClassVar = STRICT

    config: Annotated[TrialConfig, BeforeValidator(TrialConfig.recorded)]
    status: Status
    started_at: Moment
    ended_at: Moment
    train_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    metrics: Mapping[str, Number] = field(default_factory=dict)
    history: tuple[EpochRow, ...] = ()
    error: str = ""
    details: str = ""
    layers: Mapping[str, Annotated[str, AfterValidator(_packed)]] = field(default_factory=dict)
    torch_version: str = ""

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
            "torch_version": self.torch_version or None,
            "error": _text(self.error) or None,
        }

    def to_json(self) -> bytes:
        """The text of the trial's result.json."""
        data = {
            "config": self.config.model_dump(mode="json"),
            "status": self.status,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "train_seconds": self.train_seconds,
            "torch_version": self.torch_version,
            "metrics": dict(self.metrics),
            "history": [dict(row) for row in self.history],
            "layers": dict(self.layers),
            "error": _text(self.error),
            "details": _text(self.details),
        }
        return json.dumps(data, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "TrialResult":
        """The inverse of `to_json`. Raises Damaged."""
        return parse(cls, data)


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
        if name in SPARSITIES or (name.startswith("val_") and not name.endswith("_loss"))
    }
    if (last := rows[-1].get("group_sparsity")) is not None:
        metrics[LAST_SPARSITY] = last
    return TrialResult(
        config,
        "stopped",
        started_at,
        now(started_at),
        train_seconds=sum(row["seconds"] for row in rows),
        metrics=metrics,
        history=rows,
        error=why,
    )


def write_stopped(
    store: Store, config: TrialConfig, history: Iterable[Mapping[str, float]], started_at: str, why: str
) -> TrialResult:
    """The result of `stopped_result`, written. Raises StorageError."""
    return write_result(store, stopped_result(config, history, started_at, why))


def write_result(store: Store, result: TrialResult) -> TrialResult:
    """Write the trial's result.json, and return the result. Raises StorageError."""
    store.write(trial_file(result.config.trial_id, RESULT), result.to_json())
    return result


def read_result(store: Store, trial_id: str) -> TrialResult | None:
    """A trial's result; None where it has none. Raises Damaged, which says what the file is not, and StorageError."""
    data = store.read(trial_file(trial_id, RESULT))
    if data is None:
        return None
    result = TrialResult.from_json(data)
    if result.config.trial_id != trial_id:
        raise Damaged(f"is of another trial, {result.config.trial_id}")
    return result


def read_results(store: Store) -> dict[str, TrialResult]:
    """Every finished trial of a sweep, by its id.

    Raises BadInput where a result is damaged. It is not run again of itself: the file may be of a later version, and
    may tell a person what it does not tell us.
    """
    results, damaged = _read(store, store.finished_trials())
    if damaged:
        raise refusal(damaged)
    return results


def refusal(damaged: Sequence[str]) -> BadInput:
    """Of damaged results, each a line that names its file."""
    more = f" (and {len(damaged) - 1} more results are damaged)" if len(damaged) > 1 else ""
    return BadInput(f"{damaged[0]}{more}; allowed: a trial's result; {AGAIN}")


@functools.cache
def torch_version() -> str:
    """Of this environment, without the build's name, such as 2.11.0."""
    return importlib.metadata.version("torch").partition("+")[0]


def mixed_versions(results: Iterable[TrialResult], coming: str = "") -> str:
    """A line where done trials, and those to come, are of several versions of torch; empty where they are of one."""
    found = {one for result in results if result.status == "done" for one in result.torch_version.split(", ")}
    versions = sorted(found | {coming} - {""})
    if len(versions) < 2:
        return ""
    return (
        f"trials of torch {' and '.join(versions)} stand in one table: "
        "the same trial may come to other numbers with another version"
    )


@dataclass(frozen=True)
class Counts:
    """How many trials are done, those that failed, and a line for each file that is damaged."""

    done: int
    failed: list[TrialResult]
    damaged: list[str]


def count_results(store: Store) -> Counts:
    """The table tells of most trials, without the results' own files."""
    finished = store.finished_trials()
    table, fault = read_columns(store, "trial_id", "status")
    # What failed may have been tried again since; what was done stays so.
    ended = zip(table.get("trial_id", ()), table.get("status", ()), strict=True)
    done = {trial_id for trial_id, status in ended if status in ("done", "stopped")} & set(finished)
    found, damaged = _read(store, [trial_id for trial_id in finished if trial_id not in done])
    failed = [result for result in found.values() if result.status == "failed"]
    damaged = [f"{line}; {AGAIN}" for line in damaged] + [fault] * bool(fault)
    return Counts(len(done) + len(found) - len(failed), failed, damaged)


def _read(store: Store, trial_ids: Iterable[str]) -> tuple[dict[str, TrialResult], list[str]]:
    """By id, in the order given, without those that have no result any more; and what is damaged, a line each."""

    def read(trial_id: str) -> TrialResult | str | None:
        try:
            return read_result(store, trial_id)
        except Damaged as error:
            return f"{store.shown(trial_file(trial_id, RESULT))}: {error}"

    trial_ids = list(trial_ids)
    with ThreadPoolExecutor(READERS) as pool:
        found = dict(zip(trial_ids, pool.map(read, trial_ids), strict=True))
    results = {trial_id: one for trial_id, one in found.items() if isinstance(one, TrialResult)}
    return results, [one for one in found.values() if isinstance(one, str)]


def write_tables(
    store: Store,
    results: Iterable[TrialResult],
    metrics: Iterable[str],
    primaries: Mapping[str, Metric],
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """results.parquet, history.parquet and layers.parquet, made anew from all results.

    metrics: their full names; primaries: the metric of each task that delta_m is made of; more: columns of
    results.parquet with their values by trial id.
    """
    results = list(results)
    store.write(RESULTS, _parquet(results_table(results, metrics, primaries, more)))
    store.write(HISTORY, _parquet(history_table(results)))
    store.write(LAYERS, _arrow_bytes(layers_table(results)))


def results_table(
    results: Iterable[TrialResult],
    metrics: Iterable[str],
    primaries: Mapping[str, Metric],
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """One row a trial; the columns are the same whichever trials have ended. `settings` is empty unless `more` says."""
    metrics = [f"{split}_{name}" for split, name in itertools.product(("val", "test"), metrics)]
    columns = [*IDENTITY, *metrics, *SPARSITIES, LAST_SPARSITY, *DELTA, *COSTS, *RUN]
    table = pd.DataFrame([result.row() for result in results], columns=columns)
    table["settings"] = ""
    for column, values in (more or {}).items():
        table[column] = table["trial_id"].map(values)
    table["settings"] = table["settings"].fillna("")
    counted = {task: [metric] for task, metric in primaries.items()}
    for column, split in zip(DELTA, ("val", "test"), strict=True):
        table[column] = delta_m(table.assign(setup=""), split, counted)
    numbers = [*metrics, *SPARSITIES, LAST_SPARSITY, *DELTA, *COSTS, "lambda", "train_seconds"]
    kinds = dict.fromkeys(numbers, "float64")
    texts = dict.fromkeys(["error", "status", "settings", "retraining", "torch_version"], "str")
    return table.astype(kinds | {"seed": "int64", "epochs_run": "int64"} | texts)


def search_columns(store: Store) -> dict[str, dict[str, Any]]:
    """The columns that a search in this folder has given its trials, for a table that is made anew without it."""
    table, fault = read_columns(store, "trial_id", "proposal")
    if fault:
        say(fault)
    return {"proposal": dict(zip(table["trial_id"], table["proposal"], strict=True))} if table else {}


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


def _text(text: str) -> str:
    """As every file can hold it: a message may quote a name that is no text."""
    return text.encode(errors="backslashreplace").decode()


def _arrow_bytes(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
