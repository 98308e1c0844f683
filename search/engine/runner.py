"""Trials on Ray Tune: actors that are reused from trial to trial, so that torch is imported once in each."""

import logging
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Read by ray as it is imported: no calls home, no result files besides ours, no snapshots that nobody reads, and
# interrupts are ours.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import tune

from mtl.config import TrialConfig
from search.early_stopping.policy import StoppingPolicy
from search.engine.context import RunContext
from search.engine.failures import Deaths
from search.engine.interrupts import Interrupts
from search.engine.last_words import explain
from search.engine.packing import Packing
from search.engine.scheduler import SweepScheduler
from search.engine.trial_source import TrialSource
from search.engine.tune_searcher import TuneSearcher
from search.store.clock import now
from search.store.errors import StorageError, SweepStopped
from search.store.files import Damaged
from search.store.results import TrialResult, read_result, stopped_result
from search.store.storage import ERROR, RESULT, Store, trial_file

if TYPE_CHECKING:
    from search.engine.trial import TrialRun

# Every failure is a row of the results or the one line that ends the sweep; Tune would print its traceback besides.
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)

# Trials that wait for room are what has a cluster's autoscaler start machines.
AHEAD = 200


class TrialActor(tune.Trainable):
    """Tune's view of a trial: a step is an epoch, and the last one writes the trial's result."""

    def setup(self, config: dict[str, Any], packing: Packing, context: RunContext) -> None:  # type: ignore[override]
        self._packing, self._context = packing, context
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._given_up = "death" in new_config
        self._run = self.make_run(self._packing.unpack(new_config["trial"]), self._context)
        self._rows_told = 0
        return True

    def make_run(self, config: TrialConfig, context: RunContext) -> "TrialRun":
        """What is stepped; a benchmark puts something lighter in its place."""
        # Here and not above: the driver, which remembers thousands of trials, needs no networks.
        from search.engine.trial import TrialRun

        return TrialRun(config, context)

    def step(self) -> dict[str, Any]:
        """Under "epoch_rows" the rows of the history that were not told before: after a resume all there are."""
        if not self._given_up:
            self._run.step()
        rows = [dict(row) for row in self._run.history[self._rows_told :]]
        self._rows_told += len(rows)
        return {
            "epoch_rows": rows,
            "started_at": self._run.started_at,
            "node_id": ray.get_runtime_context().get_node_id(),
            "done": self._given_up or self._run.result is not None,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Called where a trial is paused: what it needs goes to our own store, as always."""
        self._run.save_checkpoint()


class _Watcher(tune.Callback):
    """Passes on what happens to trials, by the trial's config, and gives up those that died too often.

    Tune restarts a trial as often as its process dies: it would count a lost machine as a failure of the trial.
    """

    def __init__(
        self,
        packing: Packing,
        max_retries: int,
        on_epochs: Callable[[TrialConfig, Sequence[Mapping[str, float]]], None],
        on_end: Callable[[Any, TrialConfig, str], None],
        on_death: Callable[[TrialConfig, str], str],
        check: Callable[[], None],
    ) -> None:
        """on_death: told of the death that a trial is given up for, with Ray's text; returns the trial's error."""
        self._packing, self._on_death = packing, on_death
        self._max_retries, self._on_epochs, self._on_end, self._check = max_retries, on_epochs, on_end, check
        self._deaths = Deaths()
        self._stopped: SweepStopped | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: the Tuner pickles itself for a resume of its own, which is never asked for."""
        return {}

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        """Called several times a second. What is raised here, and only here, leaves Tune as it is."""
        self.raise_stopped()
        self._check()

    def raise_stopped(self) -> None:
        """Raise what a trial or its end stopped the sweep with: the last trial's is followed by no step."""
        if self._stopped is not None:
            raise self._stopped

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        self._deaths.runs_on(trial.trial_id, result["node_id"])
        if result["epoch_rows"]:
            self._on_epochs(self._packing.unpack(trial.config["trial"]), result["epoch_rows"])

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial's process has died, and Tune has queued the trial again."""
        error = _storage_error(trial)
        if error is not None:
            # A trial that has waited long for the storage is not started again to wait once more.
            self._stopped = self._stopped or error
            return
        said = _said_by_ray(trial)
        if self._deaths.died(trial.trial_id, said) > self._max_retries:
            # Its next process ends at once, and is the last if it cannot even start.
            death = self._on_death(self._packing.unpack(trial.config["trial"]), said)
            trial.set_config(trial.config | {"death": death})
            trial.max_failures = 0

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._end(trial, trial.config.get("death", ""))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        error = _storage_error(trial)
        if error is not None:
            # Neither the trial's fault nor its end: it has no result.
            self._stopped = error
        else:
            known = trial.config.get("death")
            self._end(trial, known or self._on_death(self._packing.unpack(trial.config["trial"]), _said_by_ray(trial)))

    def _end(self, trial: Any, death: str) -> None:
        try:
            self._on_end(trial, self._packing.unpack(trial.config["trial"]), death)
        except SweepStopped as error:
            self._stopped = error


def run_trials(
    source: TrialSource,
    base: TrialConfig,
    context: RunContext,
    *,
    max_retries: int,
    on_epochs: Callable[[TrialConfig, Sequence[Mapping[str, float]]], None],
    on_result: Callable[[TrialResult], None],
    check: Callable[[], None],
    interrupts: Interrupts,
    policy: StoppingPolicy | None = None,
    ahead: int = AHEAD,
    actor: type[TrialActor] = TrialActor,
) -> None:
    """Run the source's trials, in their order, on the Ray that is up. Each that ends is a result in the store and a
    call of `on_result`; each of its epochs a call of `on_epochs` with the new rows of its history, which after it was
    resumed are also those from before.

    A trial whose process dies is started again from its checkpoint up to `max_retries` times, then recorded as failed.
    A process that is lost with its machine does not count. `policy` stops trials that fall behind. `ahead`: trials
    taken from the source before there is room for them; `base`: a trial that all others are much like.

    `check` is called again and again meanwhile. SweepStopped, raised by it, by `on_result` or by a trial whose storage
    fails, ends the run. So does an interrupt, after the running trials have ended their epochs and saved.
    """
    store = context.store()
    packing = Packing(base)
    scheduler = SweepScheduler(policy, interrupts, packing.unpack)
    histories: dict[str, dict[int, Mapping[str, float]]] = defaultdict(dict)

    def on_rows(config: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
        if policy is not None:
            histories[config.trial_id] |= {int(row["epoch"]): row for row in rows}
        on_epochs(config, rows)

    def on_end(trial: Any, config: TrialConfig, death: str) -> None:
        if trial.trial_id in scheduler.withdrawn:
            return
        rows = histories.pop(config.trial_id, {})
        if policy is not None and not death and config.trial_id in scheduler.stopped:
            history = [rows[epoch] for epoch in sorted(rows)]
            why = policy.why_stopped(config)
            result = stopped_result(config, history, trial.last_result["started_at"], why)
            store.write(trial_file(config.trial_id, RESULT), result.to_json())
        elif (left := _result_left(store, config.trial_id)) is not None:
            result = left
        else:
            ended_at = now()
            result = TrialResult(config, "failed", ended_at, ended_at, error=death or "the trial left no result")
            store.write(trial_file(config.trial_id, RESULT), result.to_json())
        on_result(result)

    def on_death(config: TrialConfig, said: str) -> str:
        death, name = explain(said), trial_file(config.trial_id, ERROR)
        return f"{death.line} (more in {name})" if store.try_write(name, death.text.encode()) else death.line

    resources = {"cpu": context.threads, "gpu": context.gpus}
    watcher = _Watcher(packing, max_retries, on_rows, on_end, on_death, check)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(ahead)  # the only way to say it; for a searcher it would be 1
    with tempfile.TemporaryDirectory(prefix="parsimony-tune-") as scratch:
        tune.Tuner(
            tune.with_resources(tune.with_parameters(actor, packing=packing, context=context), resources),
            tune_config=tune.TuneConfig(
                search_alg=TuneSearcher(source, packing, interrupts),
                num_samples=-1,
                scheduler=scheduler,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="sweep",
                storage_path=scratch,
                verbose=0,
                stop=scheduler.stopper,
                callbacks=[watcher],
                failure_config=tune.FailureConfig(max_failures=-1),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
        watcher.raise_stopped()


def _result_left(store: Store, trial_id: str) -> TrialResult | None:
    """What the trial's process wrote at its end. Raises SweepStopped where somebody has damaged it since."""
    try:
        return read_result(store, trial_id)
    except Damaged as error:
        raise SweepStopped(f"{store.shown(trial_file(trial_id, RESULT))}: {error}") from error


def _storage_error(trial: Any) -> StorageError | None:
    """The trial's error, where it is the storage's."""
    error = getattr(trial.get_error(), "cause", None)
    return error if isinstance(error, StorageError) else None


def _said_by_ray(trial: Any) -> str:
    """Why Tune gave a process of the trial up, as Ray has it."""
    # Tune's own get_error looks where this file has not been copied yet.
    return Path(trial.error_file).read_text().split("Failure #")[-1].partition("\n")[2].strip()
