"""Trials on Ray Tune. Each actor runs many trials in turn, so it imports torch only once."""

import logging
import os
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Ray reads these when it is imported. It then sends no usage data, writes no result files or snapshots, and leaves
# interrupts to us.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import ray
from ray import tune

from mtl.config import TrialConfig
from mtl.vocabulary.checked import Damaged
from mtl.vocabulary.files import ERROR, RESULT, trial_file
from search.engine.context import RunContext
from search.engine.failures import Deaths, explain
from search.engine.interrupts import Interrupts
from search.engine.pack import PackRun, Packs
from search.engine.source import TrialSource
from search.engine.tune_hooks import Packing, SourceSearcher, SweepScheduler, Unsaved
from search.listener import Listener
from search.store.clock import now
from search.store.errors import StorageError, SweepStopped
from search.store.results import TrialResult, read_result, stopped_result, write_result

if TYPE_CHECKING:
    from search.engine.trial import TrialRun

# Tune would print tracebacks. Each failure is a row of the results already, or the line that ends the sweep.
logging.getLogger("ray.tune").setLevel(logging.CRITICAL)


class TrialActor(tune.Trainable):
    """A pack of trials as Tune sees it: each step is an epoch, and a trial's last step writes its result.

    Of its config, "trials" are the packed TrialConfigs. After its process has died there are the ids of those that have
    "ended" and of those "given_up" because their process died too often, and with "apart" the others run one by one.
    """

    def setup(self, config: dict[str, Any], packing: Packing, context: RunContext) -> None:  # type: ignore[override]
        self._packing, self._context = packing, context
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        configs = [self._packing.unpack(packed) for packed in new_config["trials"]]
        runs = [self.make_run(config, self._context) for config in configs]
        self._pack = PackRun(runs, new_config.get("apart", False))
        over = {*new_config.get("ended", ()), *new_config.get("given_up", ())}
        for config, run in zip(configs, runs, strict=True):
            if config.trial_id in over:
                self._pack.drop(run)
        return True

    def make_run(self, config: TrialConfig, context: RunContext) -> "TrialRun":
        """The trial to run; a benchmark replaces it by a lighter one."""
        # Imported here: the driver, which remembers thousands of trials, needs no networks.
        from search.engine.trial import TrialRun

        return TrialRun(config, context)

    def step(self) -> dict[str, Any]:
        """Of each trial, "epoch_rows" has the rows of the history that were not reported before: all rows after a
        resume."""
        if self._pack.left:
            self._pack.step()
        trials = [
            {"epoch_rows": run.unreported_rows(), "started_at": run.started_at, "ended": run not in self._pack.left}
            for run in self._pack.runs
        ]
        node = ray.get_runtime_context().get_node_id()
        return {"trials": trials, "node_id": node, "done": not self._pack.left}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Tune calls it for a trial that it pauses; the checkpoints go to our own store."""
        self._pack.save_checkpoint()


class _Watcher(Unsaved, tune.Callback):
    """Tells the listener what happens to trials, and gives up trials whose process died too often.

    What Tune calls a trial is a pack of ours. Tune restarts it however often its process dies, since it would count a
    lost machine as its failure.
    """

    def __init__(
        self, context: RunContext, packing: Packing, scheduler: SweepScheduler, source: TrialSource, listener: Listener
    ) -> None:
        self._context, self._store, self._packing = context, context.store(), packing
        self._scheduler, self._policy, self._listener = scheduler, source.policy, listener
        self._deaths = Deaths()
        self._stopped: SweepStopped | None = None
        self._histories: dict[str, dict[int, Mapping[str, float]]] = defaultdict(dict)
        self._ended: dict[str, set[str]] = defaultdict(set)  # of packs that still run, the trials that have ended

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        """Tune calls it several times a second. Only an exception that is raised here passes through Tune unchanged."""
        self.raise_stopped()
        self._listener.check()

    def raise_stopped(self) -> None:
        """Raise the error of a trial that stops the sweep. Also called at the end: no step follows the last trial."""
        if self._stopped is not None:
            raise self._stopped

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        ended, given_up = self._ended[trial.trial_id], trial.config.get("given_up", {})
        for config, one in zip(self._configs(trial), result["trials"], strict=True):
            if config.trial_id in ended:
                continue
            self._deaths.runs_on(config.trial_id, result["node_id"])
            if rows := one["epoch_rows"]:
                if self._policy is not None:
                    self._histories[config.trial_id] |= {int(row["epoch"]): row for row in rows}
                self._listener.epochs(config, rows)
            if one["ended"] and not result["done"]:
                self._end(trial, config, given_up.get(config.trial_id, ""))

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A pack's process has died, and Tune has queued the pack again.

        Where it ran several trials, nobody knows which of them ended it: from now on they run one after the other.
        """
        error = _storage_error(trial)
        if error is not None:
            # The trial has waited long for the storage already; starting it again would only make it wait again.
            self._stopped = self._stopped or error
            return
        said, left = _said_by_ray(trial), self._left(trial)
        trial.set_config(trial.config | {"ended": sorted(self._ended[trial.trial_id])})
        if len(left) > 1 and not trial.config.get("apart"):
            if max([self._deaths.died(one, said) for one in left]):
                trial.set_config(trial.config | {"apart": True})
            return
        running = next(config for config in self._configs(trial) if config.trial_id in left)
        if self._deaths.died(running.trial_id, said) > self._context.retries:
            given_up = trial.config.get("given_up", {}) | {running.trial_id: self._why_dead(running, said)}
            trial.set_config(trial.config | {"given_up": given_up})
            if len(left) == 1:
                # Its next process ends at once. If that process cannot even start, it is the last.
                trial.max_failures = 0

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._end_all(trial)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        error = _storage_error(trial)
        if error is not None:
            # Not the trial's fault, and not its end: it has no result.
            self._stopped = error
        else:
            self._end_all(trial, _said_by_ray(trial))

    def _configs(self, trial: Any) -> list[TrialConfig]:
        return [self._packing.unpack(packed) for packed in trial.config["trials"]]

    def _left(self, trial: Any) -> set[str]:
        """The trials of a pack that have not ended, by their ids."""
        ended = self._ended[trial.trial_id] | {*trial.config.get("given_up", {})}
        return {config.trial_id for config in self._configs(trial)} - ended

    def _why_dead(self, config: TrialConfig, said: str) -> str:
        """The reason in one line; the details go into the trial's error.txt."""
        death, name = explain(said), trial_file(config.trial_id, ERROR)
        return f"{death.line} (more in {name})" if self._store.try_write(name, death.text.encode()) else death.line

    def _end_all(self, trial: Any, said: str = "") -> None:
        """The pack has ended. said: by Ray, about a death after which no other process follows."""
        given_up = trial.config.get("given_up", {})
        for config in self._configs(trial):
            if config.trial_id not in self._ended[trial.trial_id]:
                self._end(
                    trial, config, given_up.get(config.trial_id) or (self._why_dead(config, said) if said else "")
                )
        self._ended.pop(trial.trial_id, None)

    def _end(self, trial: Any, config: TrialConfig, death: str = "") -> None:
        self._ended[trial.trial_id].add(config.trial_id)
        if trial.trial_id not in self._scheduler.withdrawn:
            try:
                self._listener.ended(self._result(trial, config, death))
            except SweepStopped as error:
                self._stopped = error

    def _result(self, trial: Any, config: TrialConfig, death: str) -> TrialResult:
        """The trial's result as it is in the store: its process has written it, or it is written here."""
        rows = self._histories.pop(config.trial_id, {})
        if self._policy is not None and not death and config.trial_id in self._scheduler.stopped:
            history = [rows[epoch] for epoch in sorted(rows)]
            why = self._policy.why_stopped(config)
            number = [one.trial_id for one in self._configs(trial)].index(config.trial_id)
            started = trial.last_result["trials"][number]["started_at"]
            return write_result(self._store, stopped_result(config, history, started, why))
        try:
            left = read_result(self._store, config.trial_id)
        except Damaged as error:  # somebody has damaged the file meanwhile
            place = self._store.shown(trial_file(config.trial_id, RESULT))
            raise SweepStopped(f"{place}: {error}") from error
        if left is not None:
            return left
        moment, why = now(), death or "the trial left no result"
        return write_result(self._store, TrialResult(config, "failed", moment, moment, error=why))


def run_on_tune(
    context: RunContext, source: TrialSource, listener: Listener, actor: type[TrialActor] = TrialActor
) -> None:
    """Run the source's trials on the connected Ray cluster, in their order, in packs of up to `context.pack`; see
    `search.engine.runner.Runner`.

    A trial whose process dies is restarted from its checkpoint, up to `context.retries` times; then it is recorded as
    failed. The loss of a machine does not count as a death.
    """
    packing = Packing(context.base)
    with Interrupts() as interrupts, tempfile.TemporaryDirectory(prefix="parsimony-tune-") as scratch:
        scheduler = SweepScheduler(source.policy, interrupts, packing)
        watcher = _Watcher(context, packing, scheduler, source, listener)
        resources = {"cpu": context.threads, "gpu": context.gpus}
        # There is no other way to set it; Tune's default for a searcher is 1.
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(source.ahead)
        tune.Tuner(
            tune.with_resources(tune.with_parameters(actor, packing=packing, context=context), resources),
            tune_config=tune.TuneConfig(
                search_alg=SourceSearcher(Packs(source, context.pack), packing, interrupts),
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


def _storage_error(trial: Any) -> StorageError | None:
    """The trial's error if it is one of the storage."""
    error = getattr(trial.get_error(), "cause", None)
    return error if isinstance(error, StorageError) else None


def _said_by_ray(trial: Any) -> str:
    """Ray's message about the death of the trial's process."""
    # Tune's own get_error looks in a place to which this file has not been copied yet.
    return Path(trial.error_file).read_text().split("Failure #")[-1].partition("\n")[2].strip()
