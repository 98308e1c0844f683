"""How trials ended: a result's fields, its file result.json, and the results of a whole sweep."""

import functools
import importlib.metadata
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field

from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.vocabulary.checked import STRICT, Damaged, parse
from mtl.vocabulary.files import RESULT, trial_file
from mtl.vocabulary.objective import SPARSITIES
from mtl.vocabulary.sweep_file import Machine
from search.store.clock import Moment, now
from search.store.files import read_columns
from search.store.storage import Store

# Whole numbers stay whole, because the tables have columns of whole numbers.
Number = Annotated[int, Field(ge=-(2**63), lt=2**63)] | float
Status = Literal["done", "failed", "stopped"]
LAST_SPARSITY = "last_group_sparsity"  # of the last epoch; group_sparsity is of the epoch whose model is kept
# Object stores and network folders are slow for each file, but serve many at once.
READERS = 16
AGAIN = "remove it, and the same command runs its trial again"


def _checked_row(row: Mapping[str, float]) -> Mapping[str, float]:
    epoch = row.get("epoch", math.nan)
    if not (epoch >= 0 and float(epoch).is_integer()):
        raise ValueError("a row of an epoch")
    return row


EpochRow = Annotated[Mapping[str, Number], AfterValidator(_checked_row)]


def packed_layers(layers: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Which groups of each convolution survive, (C,) bool, as "C:" and the bits in hexadecimal."""
    return {name: f"{len(alive)}:{np.packbits(alive).tobytes().hex()}" for name, alive in layers.items()}


def _checked_layer(text: str) -> str:
    match = re.fullmatch(r"(\d{1,7}):((?:[0-9a-f]{2})*)", text)
    if match is None or len(match[2]) != 2 * math.ceil(int(match[1]) / 8):
        raise ValueError("the groups alive of a convolution")
    return text


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended. Times are UTC, ISO 8601. `from_json` checks what a file has against the annotations.

    Attributes:
        history: a row for each epoch.
        details: more about the error, such as a traceback.
        layers: see `packed_layers`.
        torch_version: the torch that trained it, such as 2.11.0; if it was continued with another, both, joined by
            ", "; empty if not known, for instance after it was stopped early.
        machine: what it ended on; None if not known.
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
    layers: Mapping[str, Annotated[str, AfterValidator(_checked_layer)]] = field(default_factory=dict)
    torch_version: str = ""
    machine: Machine | None = None

    def to_json(self) -> bytes:
        """The content of the trial's result.json."""
        names = ("status", "started_at", "ended_at", "train_seconds", "torch_version", "metrics", "history", "layers")
        data = {"config": self.config.model_dump(mode="json")} | {name: getattr(self, name) for name in names}
        if self.machine is not None:
            data["machine"] = self.machine.model_dump(mode="json")
        return json.dumps(data | {"error": as_text(self.error), "details": as_text(self.details)}, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "TrialResult":
        """The inverse of `to_json`. Raises Damaged."""
        return parse(cls, data)


def as_text(text: str) -> str:
    """A message as every file can hold it: it may quote a file name that is not UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def stopped_result(
    config: TrialConfig, history: Iterable[Mapping[str, float]], started_at: str, why: str = ""
) -> TrialResult:
    """The result of a trial that was stopped early: validation metrics and sparsities of its last epoch, no test.

    history: its rows in order, at least one; started_at: UTC, ISO 8601; why: the `error` of the trial's row.
    """
    rows = tuple(history)
    metrics = {
        name: value
        for name, value in rows[-1].items()
        if name in SPARSITIES or (name.startswith("val_") and not name.endswith("_loss"))
    }
    if (last := rows[-1].get("group_sparsity")) is not None:
        metrics[LAST_SPARSITY] = last
    seconds = sum(row["seconds"] for row in rows)
    return TrialResult(config, "stopped", started_at, now(started_at), seconds, metrics, rows, error=why)


def write_result(store: Store, result: TrialResult) -> TrialResult:
    """Write the trial's result.json, and return the result. Raises StorageError."""
    store.write(trial_file(result.config.trial_id, RESULT), result.to_json())
    return result


def read_result(store: Store, trial_id: str) -> TrialResult | None:
    """A trial's result, or None. Raises Damaged and StorageError."""
    data = store.read(trial_file(trial_id, RESULT))
    if data is None:
        return None
    result = TrialResult.from_json(data)
    if result.config.trial_id != trial_id:
        raise Damaged(f"is of another trial, {result.config.trial_id}")
    return result


def read_results(store: Store) -> dict[str, TrialResult]:
    """Every finished trial of a sweep, by its id.

    Raises BadInput if a result is damaged. Its trial is not run again: a later version may have written the file,
    and a person may be able to read it.
    """
    results, damaged = _read(store, store.finished_trials())
    if damaged:
        raise refusal(damaged)
    return results


def refusal(damaged: Sequence[str]) -> BadInput:
    """The error for damaged results; each has a line that names its file."""
    more = f" (and {len(damaged) - 1} more results are damaged)" if len(damaged) > 1 else ""
    return BadInput(f"{damaged[0]}{more}; allowed: a trial's result; {AGAIN}")


@functools.cache
def torch_version() -> str:
    """The version installed here without the build's name, such as 2.11.0."""
    return importlib.metadata.version("torch").partition("+")[0]


def mixed_versions(results: Iterable[TrialResult], coming: str = "") -> str:
    """A warning if the done trials, and the `coming` version, are of several versions of torch; else empty."""
    found = {one for result in results if result.status == "done" for one in result.torch_version.split(", ")}
    versions = sorted(found | {coming} - {""})
    if len(versions) < 2:
        return ""
    return (
        f"trials of torch {' and '.join(versions)} stand in one table: "
        "the same trial may give other numbers with another version"
    )


@dataclass(frozen=True)
class Counts:
    """The number of done trials, the failed trials, and a line for each damaged file."""

    done: int
    failed: list[TrialResult]
    damaged: list[str]


def count_results(store: Store) -> Counts:
    """Reads the table first, which saves reading most trials' own files."""
    finished = store.finished_trials()
    table, fault = read_columns(store, "trial_id", "status")
    # A failed trial may have been tried again since; a done trial stays done.
    ended = zip(table.get("trial_id", ()), table.get("status", ()), strict=True)
    done = {trial_id for trial_id, status in ended if status in ("done", "stopped")} & set(finished)
    found, damaged = _read(store, [trial_id for trial_id in finished if trial_id not in done])
    failed = [result for result in found.values() if result.status == "failed"]
    damaged = [f"{line}; {AGAIN}" for line in damaged] + [fault] * bool(fault)
    return Counts(len(done) + len(found) - len(failed), failed, damaged)


def _read(store: Store, trial_ids: Iterable[str]) -> tuple[dict[str, TrialResult], list[str]]:
    """The results that still exist, by id in the given order; and a line for each damaged result."""

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
