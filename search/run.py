"""One run of a sweep by its driver: which trials are left, where they run, and what is written when they end."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.vocabulary.sweep_file import Machine
from search.best_so_far import BestOfSweep
from search.deltas import Deltas
from search.early_stopping.policy import stays
from search.engine.runner import LocalRunner, Runner
from search.engine.source import ListedTrials, TrialSource
from search.listener import Listener, Listeners
from search.loggers.finals import WithDeltas
from search.loggers.registry import make_loggers
from search.progress import Progress
from search.store.errors import StorageError
from search.store.files import read_sweep_file
from search.store.lease import Lease
from search.store.messages import say
from search.store.results import TrialResult, mixed_versions, torch_version
from search.store.reuse import is_baseline, reuse_trials, without_baseline
from search.store.storage import PATIENCE_SECONDS, Store
from search.sweep import Sweep
from search.sweep_file import Plan, prepare, record_machines

# During a run each trial's own result.json holds the truth; the tables are made again from all rows now and then.
TABLE_SECONDS = 5.0
TABLE_SHARE = 0.02

WriteTables = Callable[[Collection[TrialResult], float], None]


@dataclass(frozen=True)
class Run(Listener):
    """All that a run needs besides its trials. As a listener it keeps the results.

    Attributes:
        lease: this driver may write as long as it holds the lease.
        results: of the sweep's trials, by id; the run adds each trial that ends.
        display: what the user sees.
        write_tables: writes the tables of these results, and waits for the storage for so many seconds.
        listeners: told about trials after `results` has them.
    """

    sweep: Sweep
    lease: Lease
    results: dict[str, TrialResult]
    display: Listener
    write_tables: WriteTables
    listeners: Sequence[Listener] = ()

    def go(self, runner: Runner, source: TrialSource, plan: Plan) -> None:
        """Run the source's trials. Raises SweepStopped, and BadInput if the runner cannot start."""
        sweep = self.sweep
        deltas = Deltas(sweep.primaries, sweep.setup_id, self.results.values())
        loggers = WithDeltas(make_loggers(sweep.recipe, sweep.store), deltas)
        tables = _Tables(self.write_tables, self.results)
        machines = _Machines(self.sweep.store)
        everyone = Listeners([self, self.display, loggers, *self.listeners, machines, tables])
        try:
            with runner.started(self.sweep.context) as run_trials:
                prepare(self.sweep, plan)
                everyone.started()
                try:
                    run_trials(source, everyone)
                finally:
                    if not self.lease.lost:
                        self.display.close()
        finally:
            loggers.close()

    def finish(self) -> None:
        """Write the tables of all results, and the machines that they are from. Raises SweepStopped."""
        self.lease.check()
        results = list(self.results.values())
        record_machines(self.sweep.store, (one.machine for one in results))
        self.write_tables(results, PATIENCE_SECONDS)

    def ended(self, result: TrialResult) -> None:
        self.results[result.config.trial_id] = result

    def check(self) -> None:
        self.lease.check()


class _Best(Listener):
    """Tells the display the best model so far."""

    def __init__(self, best: BestOfSweep, progress: Progress, results: Iterable[TrialResult]) -> None:
        self._best, self._progress = best, progress
        for result in results:
            self.ended(result)

    def ended(self, result: TrialResult) -> None:
        self._progress.best = self._best.add(result)


class _Tables(Listener):
    """Writes the tables during a run. However many trials there are, this takes only a small share of the time.

    A table that cannot be written now is written later; the trials' own results are in the store already.
    """

    def __init__(self, write: WriteTables, results: Mapping[str, TrialResult]) -> None:
        self._write, self._results = write, results

    def started(self) -> None:
        self._next = time.monotonic() + TABLE_SECONDS

    def ended(self, result: TrialResult) -> None:
        started = time.monotonic()
        if started >= self._next:
            with contextlib.suppress(StorageError):
                self._write(list(self._results.values()), 0)
            took = time.monotonic() - started
            self._next = time.monotonic() + max(TABLE_SECONDS, took / TABLE_SHARE)


class _Machines(Listener):
    """Writes a machine into sweep.json as soon as a trial has ended there; at the end of the run all are written."""

    def __init__(self, store: Store) -> None:
        self._store, self._told = store.waiting(0), set[Machine]()

    def ended(self, result: TrialResult) -> None:
        if result.machine is not None and result.machine not in self._told:
            with contextlib.suppress(StorageError):
                record_machines(self._store, [result.machine])
                self._told.add(result.machine)


class _EpochLines(Listener):
    """Prints a line for each epoch: the primary metrics on the validation split, and the sparsity."""

    def __init__(self, sweep: Sweep) -> None:
        self._primaries = sweep.primaries

    def epochs(self, config: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
        row = rows[-1]
        metrics = [self._primaries[task] for task in config.tasks]
        values = [f"{one.name} {one.text(row[f'val_{one.name}'], '.4g')}" for one in metrics]
        shown = "  ".join([*values, f"group_sparsity {row['group_sparsity']:.3f}"])
        say(f"epoch {row['epoch'] + 1:.0f}/{config.total_epochs}  {shown}")


def run_sweep(sweep: Sweep, runner: Runner) -> list[TrialResult]:
    """Run the trials that have no result yet; returns the results of the recipe's trials, with the failed ones.

    Raises BadInput if another driver runs the sweep, and SweepStopped if the storage fails or another takes over.
    """
    with Lease(sweep.store) as lease:
        sweep.store.remove_temporaries()
        return _run_sweep(sweep, runner, lease)


def _run_sweep(sweep: Sweep, runner: Runner, lease: Lease) -> list[TrialResult]:
    store, policy = sweep.store, sweep.halving
    results = sweep.read_results()
    # A trial that was stopped early counts as ended, unless this run stops no trials.
    again = {"failed"} if policy else {"failed", "stopped"}
    to_run = [c for c in sweep.configs if c.trial_id not in results or results[c.trial_id].status in again]
    # Every sweep in the storage measures Δm against the same models.
    reused = {one.config.trial_id: one for one in reuse_trials(store, [one for one in to_run if is_baseline(one)])}
    results |= reused
    # What Δm is measured against comes first, so that it is known while the sweep runs.
    to_run = sorted((one for one in to_run if one.trial_id not in reused), key=lambda one: not is_baseline(one))
    done_before = len(sweep.configs) - len(to_run)
    others = f" ({len(reused)} baselines of other sweeps in the storage)" if reused else ""
    say(f"sweep {store}: {len(sweep.configs)} trials, {done_before} done before{others}, {len(to_run)} to run")
    if mixed := mixed_versions(results.values(), torch_version() if to_run else ""):
        say(f"sweep {store}: {mixed}")
    known = [*sweep.configs, *(result.config for result in results.values() if result.status == "done")]
    if tasks := without_baseline(known):
        say(
            f"sweep {store}: Δm stays unknown, as the dense (λ = 0) single-task models of {', '.join(tasks)} are not "
            "among the trials of each seed: `--set combinations=all` has them, or another run with combinations=single"
        )
    # A trial that an earlier run planned and never ran is not missing, unless this recipe has it too.
    plan = Plan(sweep.configs, keep=set(results))
    source = ListedTrials(to_run, policy)
    progress = Progress(store, to_run, done_before)
    if to_run:
        for config in to_run:
            results.pop(config.trial_id, None)
    best = _Best(BestOfSweep(Deltas(sweep.primaries, sweep.setup_id)), progress, results.values())
    run = Run(sweep, lease, results, progress, sweep.write_tables, [source, best])
    if to_run:
        if policy is not None:
            for result in results.values():
                stays(policy, result.config, result.history, ended=True)
        run.go(runner, source, plan)
    elif reused or _is_outdated(sweep, plan):
        prepare(sweep, plan)
    run.finish()
    return [results[c.trial_id] for c in sweep.configs if c.trial_id in results]


def _is_outdated(sweep: Sweep, plan: Plan) -> bool:
    """Whether sweep.json is of an earlier version, or plans trials that have no result and are not in this recipe."""
    earlier = read_sweep_file(sweep.store)
    known = {*(plan.keep or ()), *(one.trial_id for one in plan.trials)}
    return earlier is not None and (not earlier.setup or not set(earlier.trials) <= known)


def run_one(sweep: Sweep, config: TrialConfig) -> TrialResult | None:
    """Run one trial of the sweep in this process, unless it is done; the files are those of a sweep.

    Returns None if an interrupt ended the trial; it continues from there when it is run again. This writes the sweep's
    tables, so it drives the sweep like `run_sweep`, and raises the same errors.
    """
    with Lease(sweep.store) as lease:
        results = sweep.read_results()
        done = results.pop(config.trial_id, None)
        if done is not None and done.status == "done":
            say(f"trial {config.trial_id} was done before")
            return done
        if sweep.recipe.gpus_per_trial and not torch.cuda.is_available():
            raise BadInput(f"gpus_per_trial = {sweep.recipe.gpus_per_trial:g}; allowed: 0, as this machine has no GPU")
        if mixed := mixed_versions(results.values(), torch_version()):
            say(f"sweep {sweep.store}: {mixed}")
        run = Run(sweep, lease, results, _EpochLines(sweep), sweep.write_tables)
        run.go(LocalRunner(), ListedTrials([config]), Plan(sweep.configs))
        run.finish()
        return results.get(config.trial_id)
