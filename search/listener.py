"""Who is told, in the driver's process, what happens to the trials of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from mtl.config import TrialConfig
from search.store.results import TrialResult


class Listener:
    """A base class whose methods do nothing; a listener overrides those that it needs."""

    def started(self) -> None:
        """The run starts its first trials."""

    def epochs(self, config: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
        """A trial has run an epoch. `rows` are the rows of its history that this run has not reported before; after a
        resume these are all rows."""

    def ended(self, result: TrialResult) -> None:
        """A trial has ended: done, failed or stopped."""

    def check(self) -> None:
        """Called several times a second. A SweepStopped that this method or `ended` raises ends the run."""

    def close(self) -> None:
        """No trial runs any more."""


class Listeners(Listener):
    """Several listeners, told in their order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._all = tuple(listeners)

    def _tell(self, event: str, *arguments: Any) -> None:
        for listener in self._all:
            getattr(listener, event)(*arguments)

    def started(self) -> None:
        self._tell("started")

    def epochs(self, config: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
        self._tell("epochs", config, rows)

    def ended(self, result: TrialResult) -> None:
        self._tell("ended", result)

    def check(self) -> None:
        self._tell("check")

    def close(self) -> None:
        self._tell("close")
