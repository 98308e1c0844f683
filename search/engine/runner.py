"""Where trials run: on Ray Tune, or in this process. Both have the same interface."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from search.early_stopping.policy import stays
from search.engine.context import RunContext
from search.engine.interrupts import Interrupts
from search.engine.pack import PackRun, Packs
from search.engine.source import TrialSource
from search.listener import Listener
from search.store.messages import say
from search.store.results import stopped_result, write_result

# Runs the source's trials until they have ended, and tells the listener about them.
RunTrials = Callable[[TrialSource, Listener], None]


class Runner(Protocol):
    """Runs trials somewhere.

    Each trial that ends leaves its result in the context's store, and the listener is told about it and its epochs. The
    source's policy stops trials that fall behind. An interrupt ends the run once each running trial has finished its
    epoch and saved; so does SweepStopped, which the listener may raise, or a trial whose storage fails.
    """

    def started(self, context: RunContext) -> AbstractContextManager[RunTrials]:
        """Gives the function that runs trials, valid inside `with`. Raises BadInput if trials cannot run there."""


@dataclass(frozen=True)
class RayRunner:
    """On the Ray cluster at this address, which `search.engine.ray_cluster.start_ray` finds or starts."""

    address: str | None

    @contextmanager
    def started(self, context: RunContext) -> Iterator[RunTrials]:
        # Importing Ray takes seconds, so the input is checked first.
        from search.engine.ray_cluster import start_ray, stop_ray
        from search.engine.ray_tune import run_on_tune

        try:
            dashboard = start_ray(self.address, context.threads, context.gpus, context.own_modules)
            if dashboard:
                say(f"Ray's dashboard: {dashboard}")
            yield partial(run_on_tune, context)
        finally:
            stop_ray()


def trials_run_here(address: str | None) -> bool:
    """Whether the trials of `--address` are sure to run on this machine, whose memory can then be checked beforehand.

    False also if that is not known: a cluster that this machine belongs to may have other, larger machines.
    """
    if address is not None:
        return address == "local"
    # Ray itself looks at these two.
    current = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    return "RAY_ADDRESS" not in os.environ and not current.exists()


class LocalRunner:
    """In this process, one trial, or one pack of them, after the other."""

    @contextmanager
    def started(self, context: RunContext) -> Iterator[RunTrials]:
        yield partial(_run_here, context)


def _run_here(context: RunContext, source: TrialSource, listener: Listener) -> None:
    # Imported here: a driver on Ray, which remembers thousands of trials, needs no networks.
    from search.engine.trial import TrialRun

    packs = Packs(source, context.pack)
    with Interrupts() as interrupts:
        while not interrupts.asked and (configs := packs.next()):
            pack = PackRun([TrialRun(config, context) for config in configs])
            while pack.left and not interrupts.asked:
                stepped = pack.left
                pack.step()
                listener.check()
                for run in stepped:
                    rows = run.unreported_rows()
                    if rows:
                        listener.epochs(run.config, rows)
                    goes_on = stays(source.policy, run.config, rows, ended=run.result is not None)
                    if run.result is not None:
                        listener.ended(run.result)
                    elif not goes_on:
                        pack.drop(run)
                        why = source.policy.why_stopped(run.config) if source.policy else ""
                        stopped = stopped_result(run.config, run.history, run.started_at, why)
                        listener.ended(write_result(run.store, stopped))
            pack.save_checkpoint()
