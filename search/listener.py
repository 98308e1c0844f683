"""Who is told what happens to the trials of a run, in the driver's process."""

from collections.abc import Mapping, Sequence

from mtl.config import TrialConfig
from search.store.results import TrialResult


class Listener:
    """Does nothing when it is told: a base for those who listen to a part."""

    def started(self) -> None:
        """Trials begin to run."""

    def epochs(self, config: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
        """A trial has run an epoch. `rows` are those of its history that were not told before in this run; after a
        resume they are all there are."""

    def ended(self, result: TrialResult) -> None:
        """A trial has ended, in whatever way."""

    def check(self) -> None:
        """Called several times a second. SweepStopped, raised here or in `ended`, ends the run."""

    def close(self) -> None:
        """No trial runs any more."""


class Listeners(Listener):
    """Tells several, in their order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._all = tuple(listeners)

    def started(self) -> None:
        for listener in self._all:
            listener.started()

    def epochs(self, config: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
        for listener in self._all:
            listener.epochs(config, rows)

    def ended(self, result: TrialResult) -> None:
        for listener in self._all:
            listener.ended(result)

    def check(self) -> None:
        for listener in self._all:
            listener.check()

    def close(self) -> None:
        for listener in self._all:
            listener.close()
