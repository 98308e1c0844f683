"""Trials on Ray Tune: actors that are reused from trial to trial, so that torch is imported once in each."""

import logging
import os
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Read by ray as it is imported: no calls home, no result files besides ours, no snapshots that nobody reads.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import tune

from mtl.config import TrialConfig
from mtl.errors import BadInput
from search.errors import StorageError, SweepStopped
from search.results import TrialResult
from search.storage import trial_file
from search.trial import RunContext, TrialRun

# Results and checkpoints go to our own store; Ray's object store carries nothing but small messages.
OBJECT_STORE_BYTES = 100 * 1024**2
CONNECT_SECONDS = 10.0
# Every failure is a row of the results or the one line that ends the sweep; Tune would print its traceback besides.
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


class TrialActor(tune.Trainable):
    """Tune's view of a trial: a step is an epoch, and the last one writes the trial's result."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._run = TrialRun(TrialConfig.model_validate(new_config["trial"]), RunContext(**new_config["context"]))
        return True

    def step(self) -> dict[str, Any]:
        row = self._run.step()
        return {"epoch_ended": bool(row), "done": self._run.result is not None}


class _Watcher(tune.Callback):
    """Passes on what happens to trials, by the trial's config."""

    def __init__(
        self,
        on_epoch: Callable[[TrialConfig], None],
        on_end: Callable[[TrialConfig, str], None],
        check: Callable[[], None],
    ) -> None:
        self._on_epoch, self._on_end, self._check = on_epoch, on_end, check
        self._stopped: SweepStopped | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes its settings down, for nobody to read; locks and files do not go with them."""
        return {}

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        """Called several times a second. What is raised here, and only here, leaves Tune as it is."""
        self.raise_stopped()
        self._check()

    def raise_stopped(self) -> None:
        """Raise what a trial or its end stopped the sweep with: the last trial's is followed by no step."""
        if self._stopped is not None:
            raise self._stopped

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: the Tuner pickles itself for a resume of its own, which is never asked for."""
        return {}

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        if result.get("epoch_ended"):
            self._on_epoch(TrialConfig.model_validate(trial.config["trial"]))

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._end(trial, "")

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        # A trial that has waited long for the storage is not started again to wait once more.
        self._stopped = self._stopped or _storage_error(trial)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        error = _storage_error(trial)
        if error is not None:
            # Neither the trial's fault nor its end: it has no result.
            self._stopped = error
        else:
            self._end(trial, _death(trial))

    def _end(self, trial: Any, death: str) -> None:
        try:
            self._on_end(TrialConfig.model_validate(trial.config["trial"]), death)
        except SweepStopped as error:
            self._stopped = error


def start_ray(address: str | None, cpus_per_trial: int, gpus_per_trial: float, own_module: Path | None) -> None:
    """Join the cluster at `address`, or one that runs on this machine, or else start one here.

    own_module: a Python file or package that trials import and that is not installed; every node gets a copy.
    Raises BadInput where no cluster answers at `address`, or where one trial needs more than this machine has.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if own_module is not None:
        quiet["runtime_env"] = {"py_modules": [str(own_module)]}
    if address not in (None, "auto"):
        try:
            _check_listens(address)
            ray.init(address=address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise BadInput(
                f"--address {address}: no Ray cluster answers there ({str(error).splitlines()[0]})"
            ) from error
        return
    try:
        ray.init(address="auto", **quiet)
        return
    except ConnectionError as error:
        if address == "auto":
            raise BadInput("--address auto: no Ray cluster runs on this machine; leave it out to start one") from error
    ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
    have = ray.cluster_resources()
    for field, wanted, kind in (("cpus_per_trial", cpus_per_trial, "CPU"), ("gpus_per_trial", gpus_per_trial, "GPU")):
        if wanted > have.get(kind, 0):
            ray.shutdown()
            raise BadInput(f"{field} = {wanted}; allowed: at most the {have.get(kind, 0):g} {kind}s of this machine")


def stop_ray() -> None:
    """Leave the cluster, or end the one that was started here."""
    ray.shutdown()


def _check_listens(address: str) -> None:
    """Raise OSError or ValueError where nothing listens at [ray://]HOST:PORT: ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS):
        pass


def run_trials(
    configs: Sequence[TrialConfig],
    context: RunContext,
    *,
    max_retries: int,
    on_epoch: Callable[[TrialConfig], None],
    on_result: Callable[[TrialResult], None],
    check: Callable[[], None],
) -> None:
    """Run the trials on the Ray that is up. Every trial that ends is a result in the store and a call of `on_result`.

    A trial whose process dies is started again from its checkpoint up to `max_retries` times, then recorded as failed.
    `check` is called again and again meanwhile. SweepStopped, raised by it, by `on_result` or by a trial whose storage
    fails, ends the run.
    """
    store = context.store()

    def on_end(config: TrialConfig, death: str) -> None:
        data = store.read(trial_file(config.trial_id, "result.json"))
        if data is None:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            result = TrialResult(config, "failed", now, now, error=death or "the trial left no result")
            store.write(trial_file(config.trial_id, "result.json"), result.to_json())
        else:
            result = TrialResult.from_json(data)
        on_result(result)

    resources = {"cpu": context.threads, "gpu": context.gpus}
    space = {
        "trial": tune.grid_search([config.model_dump(mode="json") for config in configs]),
        "context": asdict(context),
    }
    watcher = _Watcher(on_epoch, on_end, check)
    with tempfile.TemporaryDirectory(prefix="parsimony-tune-") as scratch:
        tune.Tuner(
            tune.with_resources(TrialActor, resources),
            param_space=space,
            tune_config=tune.TuneConfig(reuse_actors=True, trial_dirname_creator=lambda trial: trial.trial_id),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                callbacks=[watcher],
                failure_config=tune.FailureConfig(max_failures=max_retries),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
        watcher.raise_stopped()


def _storage_error(trial: Any) -> StorageError | None:
    """The trial's error, where it is the storage's."""
    error = getattr(trial.get_error(), "cause", None)
    return error if isinstance(error, StorageError) else None


def _death(trial: Any) -> str:
    """Why Tune gave a trial up, in one line."""
    error = trial.get_error()
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'the process of the trial died'}"
