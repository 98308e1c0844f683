"""Where trials run: on Ray Tune, or in this process. Both behind one interface."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from search.early_stopping.policy import stays
from search.engine.context import RunContext
from search.engine.interrupts import Interrupts
from search.engine.source import TrialSource
from search.listener import Listener
from search.store.messages import say
from search.store.results import write_stopped

# Runs the source's trials to their end, and tells the listener of them.
RunTrials = Callable[[TrialSource, Listener], None]


class Runner(Protocol):
    """Runs trials somewhere.

    Each trial that ends leaves its result in the context's store, and the listener is told of it and of its epochs. The
    source's policy stops trials that fall behind. An interrupt ends the run after the running trials have ended their
    epochs and saved; so does SweepStopped, which the listener or a trial whose storage fails may raise.
    """

    def started(self, context: RunContext) -> AbstractContextManager[RunTrials]:
        """What runs trials, from `with` to its end. Raises BadInput where trials cannot run there."""


@dataclass(frozen=True)
class RayRunner:
    """On the Ray cluster at this address, as `search.engine.ray_cluster.start_ray` finds or starts it."""

    address: str | None

    @contextmanager
    def started(self, context: RunContext) -> Iterator[RunTrials]:
        # Ray takes seconds to import: not before the input is known to be good.
        from search.engine.ray_cluster import start_ray, stop_ray
        from search.engine.ray_tune import run_on_tune

        try:
            dashboard = start_ray(self.address, context.threads, context.gpus, context.own_module)
            if dashboard:
                say(f"Ray's dashboard: {dashboard}")
            yield partial(run_on_tune, context)
        finally:
            stop_ray()


class LocalRunner:
    """In this process, one trial after the other."""

    @contextmanager
    def started(self, context: RunContext) -> Iterator[RunTrials]:
        yield partial(_run_here, context)


def _run_here(context: RunContext, source: TrialSource, listener: Listener) -> None:
    # A driver on Ray, which remembers thousands of trials, needs no networks.
    from search.engine.trial import TrialRun

    with Interrupts() as interrupts:
        while not interrupts.asked and (config := source.next()) is not None:
            run, goes_on = TrialRun(config, context), True
            while run.result is None and goes_on and not interrupts.asked:
                run.step()
                listener.check()
                rows = run.untold_rows()
                if rows:
                    listener.epochs(config, rows)
                goes_on = stays(source.policy, config, rows, ended=run.result is not None)
            if run.result is not None:
                listener.ended(run.result)
            elif goes_on:
                run.save_checkpoint()
            else:
                why = source.policy.why_stopped(config) if source.policy else ""
                listener.ended(write_stopped(run.store, config, run.history, run.started_at, why))
