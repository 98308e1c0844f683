"""One trial and its files: it starts or resumes, runs epoch by epoch, and writes its checkpoints and its result."""

import contextlib
import functools
import io
import json
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, Field

from mtl.config import TrialConfig
from mtl.datasets.batches.load import stored_bytes
from mtl.datasets.cache.build import materialise
from mtl.datasets.registry import load_dataset
from mtl.errors import BadInput
from mtl.limits import check_memory, machine_memory
from mtl.networks.checkpoint import model_content
from mtl.out_of_memory import OutOfMemory, is_out_of_memory, out_of_memory
from mtl.passes import Passes, run_alone
from mtl.tasks import Task
from mtl.training import Arrays, Training, set_deterministic
from mtl.vocabulary.checked import STRICT, Damaged, check, shortened
from mtl.vocabulary.files import CHECKPOINT, ERROR, MODEL, RESULT, trial_file
from search.engine.context import RunContext
from search.engine.machine import this_machine
from search.store.clock import Moment, now
from search.store.errors import StorageError
from search.store.messages import say
from search.store.results import (
    EpochRow,
    Status,
    TrialResult,
    packed_layers,
    read_result,
    refusal,
    torch_version,
    write_result,
)
from search.store.storage import PATIENCE_SECONDS

# cuBLAS is deterministic only with a workspace of fixed size. It reads this setting when CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


class _Saved(BaseModel):
    """A checkpoint: the state of the training, and the times for the trial's result. Old checkpoints have no
    trial_id."""

    model_config = STRICT

    trial_id: str = ""
    training: dict[str, Any]
    torch_version: str = ""
    train_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    started_at: Moment


class TrialRun:
    """A trial in progress. After an error it continues from its last checkpoint, up to `context.retries` times. Then
    the error becomes its result; it is never raised.

    Nothing is read or written before the first step, because Tune also makes actors that it never uses. A trial that is
    done keeps its result; a failed trial is tried again; a stopped trial continues from its last checkpoint.

    run = TrialRun(config, context)
    while run.result is None:
        run.step()

    `passes` is a step whose passes somebody else serves, together with those of other trials.

    Attributes:
        together: how many trials share this process and its device.
        clock: seconds since some moment, by which the trial's time is measured.
    """

    def __init__(self, config: TrialConfig, context: RunContext) -> None:
        self.config, self.context, self.store = config, context, context.store()
        self.result: TrialResult | None = None
        self.failures = 0
        self.train_seconds = 0.0
        self.started_at = now()
        self.torch_version = torch_version()
        self.together = 1
        self.clock: Callable[[], float] = time.perf_counter
        self._saved = time.monotonic()
        self._training: Training | None = None
        self._reported = 0
        self._tasks: list[Task] = []  # not known before the start
        self._images = 0

    @property
    def history(self) -> Sequence[Mapping[str, float]]:
        """The rows of all epochs so far, with those of the earlier runs that it continues."""
        if self.result is not None:
            return self.result.history
        return self._training.history if self._training else ()

    def unreported_rows(self) -> list[dict[str, float]]:
        """The rows of the history that no earlier call has returned."""
        rows = [dict(row) for row in self.history[self._reported :]]
        self._reported += len(rows)
        return rows

    def step(self) -> None:
        """Train one epoch, or end the trial.

        Raises only StorageError, which is not the trial's fault; the trial may be started again.
        """
        run_alone(self.passes(together=False))

    def passes(self, together: bool = True) -> Passes[None]:
        """The passes of a step, which raises as `step` does; not `together`: the training serves its own."""
        if self._training is None and self._done_before():
            return
        started = self.clock()
        metrics: Mapping[str, float] | None = None
        try:
            training = self._training = self._training or self._start()
            training.clock = self.clock
            if not training.done:
                _ = (yield from training.epoch()) if together else training.run_epoch()
            if training.done:
                metrics = (yield from training.testing()) if together else training.test()
        except StorageError:
            raise
        except Exception as error:  # any error: a failed trial is a row of the results, and the others continue
            self.failures += 1
            memory = self._out_of_memory() if is_out_of_memory(error) else None
            comes_again = isinstance(error, BadInput) or (memory is not None and memory.hopeless)
            if self.failures > self.context.retries or comes_again:
                tries = f" (tried {self.failures} times)" if self.failures > 1 else ""
                said = str(memory) if memory else _short_error(error)
                self._finish("failed", error=said + tries, details=traceback.format_exc())
            else:
                self._training = None
            return
        finally:
            self.train_seconds += self.clock() - started
        if metrics is not None:
            plan = training.first.plan if training.first else None
            content = model_content(self.config, training.tasks, training.model, plan)
            self.store.write(self._file(MODEL), to_bytes(content))
            self._finish("done", metrics=metrics, layers=packed_layers(training.survivors))
        elif time.monotonic() - self._saved >= self.context.checkpoint_seconds:
            # If the storage is away, training need not wait for it: the next epoch tries again.
            with contextlib.suppress(StorageError):
                self.save_checkpoint(patience=0)

    def save_checkpoint(self, patience: float = PATIENCE_SECONDS) -> None:
        """Write all that a new process needs to continue. Raises StorageError."""
        if self._training is not None and self._training.epochs_run:
            state = {
                "trial_id": self.config.trial_id,
                "training": self._training.state_dict(),
                "torch_version": self.torch_version,
                "train_seconds": self.train_seconds,
                "started_at": self.started_at,
            }
            self.store.waiting(patience).write(self._file(CHECKPOINT), to_bytes(state))
        self._saved = time.monotonic()

    def _out_of_memory(self) -> OutOfMemory:
        """What to say of this trial, for which there was no memory."""
        cores = os.cpu_count() or 1
        total, share = machine_memory(), self.context.threads / cores
        if self.context.gpus:
            total, share = torch.cuda.get_device_properties("cuda").total_memory, self.context.gpus
        device_type = "cuda" if self.context.gpus else "cpu"
        return out_of_memory(self.config, self._tasks, self._images, device_type, total, share)

    def _done_before(self) -> bool:
        """Take the result if the trial is done; remove any other result, so that nobody takes it for this run's."""
        try:
            earlier = read_result(self.store, self.config.trial_id)
        except Damaged as error:
            raise refusal([f"{self.store.shown(self._file(RESULT))}: {error}"]) from error
        if earlier is None:
            return False
        if earlier.status != "done":
            self.store.delete(self._file(RESULT))
            self.store.delete(self._file(ERROR))
            return False
        self.result = earlier
        return True

    def _start(self) -> Training:
        # More threads than cores gain nothing, and very many end the process.
        torch.set_num_threads(min(self.context.threads, os.cpu_count() or 1))
        set_deterministic()
        device = torch.device("cuda" if self.context.gpus else "cpu")
        tasks, arrays = trial_data(self.config, self.context.data)
        self._tasks, self._images = tasks, len(arrays["train"]["image"])
        _check_memory(self.config, tasks, arrays, device, self.together)
        saved = self.store.read(self._file(CHECKPOINT))
        if saved is not None:
            training = self._training_of(tasks, arrays, device)
            try:
                self._resume(training, torch.load(io.BytesIO(saved), map_location=device, weights_only=True))
                return training
            except Exception as error:  # for bytes that are no checkpoint torch raises errors of every kind
                if is_out_of_memory(error):
                    raise
                place = self.store.shown(self._file(CHECKPOINT))
                say(f"{place}: is no checkpoint of this trial ({_short_error(error)}); the trial starts again")
        return self._training_of(tasks, arrays, device, self._warm_start(device))

    def _training_of(
        self,
        tasks: Sequence[Task],
        arrays: Arrays,
        device: torch.device,
        warm_start: Mapping[str, torch.Tensor] | None = None,
    ) -> Training:
        return Training(self.config, tasks, arrays, device, warm_start, self.context.loader_threads)

    def _warm_start(self, device: torch.device) -> Mapping[str, torch.Tensor] | None:
        """The state of the model that this trial starts from. Raises BadInput where there is none."""
        if not (start := self.config.warm_started_from):
            return None
        file = trial_file(start, MODEL)
        content = self.store.read(file)
        if content is None:
            raise BadInput(f"{self.store.shown(file)}: is missing; this trial starts from it, so it must be done first")
        try:
            state: Mapping[str, torch.Tensor] = torch.load(io.BytesIO(content), map_location=device, weights_only=True)[
                "model"
            ]
        except Exception as error:  # for bytes that are no checkpoint torch raises errors of every kind
            raise BadInput(
                f"{self.store.shown(file)}: is no model ({_short_error(error)}); remove the trial's folder, and the "
                "same command trains it again"
            ) from error
        return state

    def _resume(self, training: Training, content: object) -> None:
        """Continue from a checkpoint's content. Raises Damaged if `save_checkpoint` cannot have written it, and torch's
        errors."""
        state: _Saved = check(_Saved, content)
        if state.trial_id not in ("", self.config.trial_id):
            raise Damaged(f"of trial {shortened(state.trial_id)}")
        training.load_state_dict(state.training)
        history = check(list[EpochRow], training.history)
        if [row["epoch"] for row in history] != list(range(len(history))) or training.best_epoch >= len(history):
            raise Damaged("its history lacks epochs")
        own = training.removal.whole().state_dict()
        if training.best_epoch >= 0 and _shapes(training.best_model) != _shapes(own):
            raise Damaged("its best model is of another network")
        self.train_seconds, self.started_at = state.train_seconds, state.started_at
        versions = dict.fromkeys([*filter(None, state.torch_version.split(", ")), torch_version()])
        self.torch_version = ", ".join(versions)

    def _file(self, name: str) -> str:
        return trial_file(self.config.trial_id, name)

    def _finish(self, status: Status, **fields: Any) -> None:
        history = tuple(self._training.history) if self._training else ()
        self.result = TrialResult(
            self.config,
            status,
            self.started_at,
            now(self.started_at),
            self.train_seconds,
            history=history,
            torch_version=self.torch_version,
            machine=this_machine(),
            **fields,
        )
        write_result(self.store, self.result)
        if status == "done":
            self.store.delete(self._file(CHECKPOINT))


def _check_memory(
    config: TrialConfig, tasks: Sequence[Task], arrays: Arrays, device: torch.device, together: int
) -> None:
    """Raise BadInput if so many of these trials do not fit into the memory of their device."""
    images = len(arrays["train"]["image"])
    if device.type != "cuda":
        check_memory(config, tasks, images, machine_memory(), pack=together)
        return
    # "auto" takes no more than there is; the trials of a pack share it.
    data = stored_bytes(arrays.values(), tasks) if config.resident is True else 0
    memory = torch.cuda.get_device_properties(device).total_memory
    check_memory(config, tasks, images, memory, "this GPU", data, together)


def run_trial(config: TrialConfig, context: RunContext) -> TrialResult:
    """A whole trial in this process."""
    run = TrialRun(config, context)
    while run.result is None:
        run.step()
    return run.result


@functools.lru_cache(maxsize=4)
def _dataset_arrays(
    name: str, options: str, data: str | None, version: str, image_size: tuple[int, int]
) -> tuple[Mapping[str, Task], Arrays]:
    """The trials of a process share the memory maps, and the processes of a node their pages. `options` is JSON."""
    dataset = load_dataset(name, Path(data) if data else None, json.loads(options))
    found = dataset.fingerprint()
    if found != version:
        where = f" in {data}" if data else ""
        raise BadInput(
            f"dataset {name}: this node has {found}{where}; allowed: {version}, as on the node where the sweep began"
        )
    return dataset.tasks, materialise(dataset, image_size)


def trial_data(config: TrialConfig, data: str | None) -> tuple[list[Task], Arrays]:
    """The trial's tasks and the arrays of its splits, from this node's cache.

    Raises BadInput if this node's data is not the trial's.
    """
    options = json.dumps(config.dataset_options, sort_keys=True)
    tasks, arrays = _dataset_arrays(config.dataset, options, data, config.data_version, config.image_size)
    return [tasks[name] for name in config.tasks], arrays


def to_bytes(state: object) -> bytes:
    """The bytes that torch.save writes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def _short_error(error: BaseException) -> str:
    """The error's kind and the first line of its message."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".rstrip(": ")
