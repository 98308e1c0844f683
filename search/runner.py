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
from search.deaths import Deaths
from search.results import TrialResult
from search.storage import trial_file
from search.trial import RunContext, TrialRun

# Results and checkpoints go to our own store; Ray's object store carries nothing but small messages.
OBJECT_STORE_BYTES = 100 * 1024**2
CONNECT_SECONDS = 10.0


class TrialActor(tune.Trainable):
    """Tune's view of a trial: a step is an epoch, and the last one writes the trial's result."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._given_up = "death" in new_config
        self._run = TrialRun(TrialConfig.model_validate(new_config["trial"]), RunContext(**new_config["context"]))
        return True

    def step(self) -> dict[str, Any]:
        row = {} if self._given_up else self._run.step()
        return {
            "epoch_ended": bool(row),
            "done": self._given_up or self._run.result is not None,
            "node_id": ray.get_runtime_context().get_node_id(),
        }


class _Watcher(tune.Callback):
    """Passes on what happens to trials, by the trial's config, and gives up those that died too often.

    Tune restarts a trial as often as its process dies: it would count a lost machine as a failure of the trial.
    """

    def __init__(
        self,
        max_retries: int,
        on_epoch: Callable[[TrialConfig], None],
        on_end: Callable[[TrialConfig, str], None],
    ) -> None:
        self._max_retries, self._on_epoch, self._on_end = max_retries, on_epoch, on_end
        self._deaths = Deaths()

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        death = _death(trial)
        if self._deaths.died(trial.trial_id, death) > self._max_retries:
            # Tune has queued it already. Its next process ends at once, and is the last if it cannot even start.
            trial.set_config(trial.config | {"death": death})
            trial.max_failures = 0

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        self._deaths.runs_on(trial.trial_id, result["node_id"])
        if result.get("epoch_ended"):
            self._on_epoch(TrialConfig.model_validate(trial.config["trial"]))

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._on_end(TrialConfig.model_validate(trial.config["trial"]), trial.config.get("death", ""))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._on_end(TrialConfig.model_validate(trial.config["trial"]), _death(trial))


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
) -> None:
    """Run the trials on the Ray that is up. Every trial that ends is a result in the store and a call of `on_result`.

    A trial whose process dies is started again from its checkpoint up to `max_retries` times, then recorded as failed.
    A process that is lost with its machine does not count.
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
    with tempfile.TemporaryDirectory(prefix="parsimony-tune-") as scratch:
        tune.Tuner(
            tune.with_resources(TrialActor, resources),
            param_space=space,
            tune_config=tune.TuneConfig(reuse_actors=True, trial_dirname_creator=lambda trial: trial.trial_id),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                callbacks=[_Watcher(max_retries, on_epoch, on_end)],
                failure_config=tune.FailureConfig(max_failures=-1),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()


def _death(trial: Any) -> str:
    """Why Tune gave a trial up, in one line."""
    # Tune's own get_error looks where this file has not been copied yet.
    lines = Path(trial.error_file).read_text().split("Failure #")[-1].splitlines()[1:]
    return " ".join(line.strip() for line in lines) or "the process of the trial died"
