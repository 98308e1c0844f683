"""Trials from a source, run on Ray to their end or the sweep's, with all that watches them."""

import contextlib
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from mtl.config import TrialConfig
from mtl.datasets.registry import module_to_ship
from search.early_stopping.policy import StoppingPolicy
from search.engine.context import RunContext
from search.engine.interrupts import Interrupts
from search.engine.trial_source import TrialSource
from search.loggers.registry import make_loggers
from search.recipe import Recipe
from search.store.errors import StorageError
from search.store.lease import Lease
from search.store.progress import Progress
from search.store.results import TrialResult
from search.store.storage import Store

# The tables are made anew from all rows; in between, each trial's own result.json is the truth.
TABLE_SECONDS = 5.0
TABLE_SHARE = 0.02

WriteTables = Callable[[Collection[TrialResult], float], None]


def drive(
    recipe: Recipe,
    store: Store,
    context: RunContext,
    source: TrialSource,
    base: TrialConfig,
    results: dict[str, TrialResult],
    *,
    address: str | None,
    lease: Lease,
    progress: Progress,
    prepare: Callable[[], None],
    write_tables: WriteTables,
    policy: StoppingPolicy | None = None,
    ended: Callable[[TrialResult], None] = lambda result: None,
    ahead: int | None = None,
) -> None:
    """Start Ray, `prepare`, and run what the source gives; `results` gets the result of each trial as it ends.

    ended: told of each of these as well; base, ahead: as in `search.engine.runner.run_trials`.
    Raises BadInput where Ray cannot be had as asked for, and SweepStopped.
    """
    # Ray takes seconds to import: not before the input is known to be good.
    from search.engine.ray_cluster import start_ray, stop_ray
    from search.engine.runner import AHEAD, run_trials

    loggers = make_loggers(recipe, store)
    try:
        dashboard = start_ray(
            address, recipe.cpus_per_trial, recipe.gpus_per_trial, own_module=module_to_ship(recipe.dataset)
        )
        if dashboard:
            say(f"Ray's dashboard: {dashboard}")
        prepare()
        tables = TableWriter(write_tables)

        def on_epochs(config: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
            progress.epoch(config.trial_id, int(rows[-1]["epoch"]) + 1)
            for logger in loggers:
                for row in rows:
                    logger.epoch(config, row)

        def on_result(result: TrialResult) -> None:
            results[result.config.trial_id] = result
            progress.ended(result.config.trial_id, failed=result.status == "failed")
            for logger in loggers:
                logger.ended(result)
            ended(result)
            tables.write_now_and_then(results.values())

        progress.show()
        try:
            with Interrupts() as interrupts:
                run_trials(
                    source,
                    base,
                    context,
                    max_retries=recipe.max_retries,
                    on_epochs=on_epochs,
                    on_result=on_result,
                    check=lease.check,
                    interrupts=interrupts,
                    policy=policy,
                    ahead=ahead or AHEAD,
                )
        finally:
            if not lease.lost:
                progress.show(final=True)
    finally:
        stop_ray()
        for logger in loggers:
            logger.close()


class TableWriter:
    """The tables in the course of a sweep: never for more than a small share of its time, however many trials it has.

    The trials' own results are there; a table that cannot be written now is written later.
    """

    def __init__(self, write: WriteTables) -> None:
        self._write = write
        self._next = time.monotonic() + TABLE_SECONDS

    def write_now_and_then(self, results: Collection[TrialResult]) -> None:
        started = time.monotonic()
        if started >= self._next:
            with contextlib.suppress(StorageError):
                self._write(list(results), 0)
            took = time.monotonic() - started
            self._next = time.monotonic() + max(TABLE_SECONDS, took / TABLE_SHARE)


def say(line: str) -> None:
    """A line for the person who watches; results alone go to standard output."""
    print(line, file=sys.stderr, flush=True)
