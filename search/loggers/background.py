"""A logger that calls a service in a thread of its own, and stops once the service fails."""

import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import MappingProxyType

from mtl.config import TrialConfig
from search.listener import Listener
from search.loggers.base import Service
from search.store.results import TrialResult

# The queue for a slow service holds hours of a usual sweep, in a few megabytes.
WAITING_CALLS = 10_000
CLOSE_SECONDS = 30.0


class Background(Listener):
    """Tells the service each epoch once. It never raises and waits only in `close`, so no service can disturb a sweep.

    A service that raises, or that is `waiting_calls` behind, is switched off with one line on standard error.
    """

    def __init__(
        self, service: Service, waiting_calls: int = WAITING_CALLS, close_seconds: float = CLOSE_SECONDS
    ) -> None:
        self._service, self._close_seconds = service, close_seconds
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(waiting_calls)
        self._off = threading.Event()
        self._open: set[str] = set()
        self._next_epoch: dict[str, int] = {}
        self._thread = threading.Thread(target=self._work, name=f"logger-{service.name}", daemon=True)
        self._thread.start()

    def epochs(self, config: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
        for row in rows:
            self._call(partial(self._log, config, dict(row)))

    def ended(self, result: TrialResult, more: Mapping[str, float] = MappingProxyType({})) -> None:
        """more: further final metrics."""
        self._call(partial(self._end, result, dict(more)))

    def later(self, result: TrialResult, more: Mapping[str, float]) -> None:
        """Final metrics of a trial that has ended before they were known."""
        self._call(partial(self._service.later, result, dict(more)))

    def close(self) -> None:
        """Wait until everything is logged, up to a limit. Give up the rest, with a message."""
        deadline = time.monotonic() + self._close_seconds
        if self._thread.is_alive():
            with suppress(queue.Full):
                self._calls.put(None, timeout=self._close_seconds)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._switch_off(f"given up, as it did not take the last rows within {self._close_seconds:g} s")

    def _call(self, call: Callable[[], None]) -> None:
        if self._off.is_set():
            return
        try:
            self._calls.put_nowait(call)
        except queue.Full:
            self._switch_off(f"switched off, the sweep goes on: it is {self._calls.maxsize} rows behind")

    def _work(self) -> None:
        try:
            while (call := self._calls.get()) is not None:
                if self._off.is_set():
                    return
                call()
            self._service.close()
        except Exception as error:  # no error of a service may end the sweep
            first = (str(error).strip() or "no reason given").splitlines()[0]
            self._switch_off(f"switched off, the sweep goes on: {type(error).__name__}: {first}")

    def _log(self, config: TrialConfig, row: Mapping[str, float]) -> None:
        trial, epoch = config.trial_id, int(row["epoch"])
        if epoch < self._next_epoch.get(trial, 0):
            return
        self._make_open(config)
        # An existing run may have the epoch already.
        if epoch >= self._next_epoch[trial]:
            self._service.log(config, row)
            self._next_epoch[trial] = epoch + 1

    def _end(self, result: TrialResult, more: Mapping[str, float]) -> None:
        self._make_open(result.config)
        # If a trial ended while no sweep was running, its rows were never told.
        for row in result.history:
            self._log(result.config, row)
        self._service.end(result, more)
        self._open.discard(result.config.trial_id)

    def _make_open(self, config: TrialConfig) -> None:
        if config.trial_id not in self._open:
            self._next_epoch[config.trial_id] = self._service.open(config)
            self._open.add(config.trial_id)

    def _switch_off(self, reason: str) -> None:
        if not self._off.is_set():
            self._off.set()
            line_end = "\n" if sys.stderr.isatty() else ""  # of the terminal's live line
            print(f"{line_end}{self._service.name}: {reason}", file=sys.stderr, flush=True)
