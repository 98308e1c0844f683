"""Tells loggers of each trial's Δm and share of the dense model's cost, at its end or as soon as these are known."""

from collections.abc import Mapping, Sequence

from mtl.config import TrialConfig
from search.deltas import Deltas
from search.listener import Listener
from search.loggers.background import Background
from search.store.results import TrialResult


class WithDeltas(Listener):
    """The loggers of a run.

    What Δm is measured against mostly ends first. A trial that ends before it gets its Δm later, in its run that has
    ended; one whose dense models fail never has any.
    """

    def __init__(self, loggers: Sequence[Background], deltas: Deltas) -> None:
        self._loggers, self._deltas = tuple(loggers), deltas
        self._told: dict[str, set[str]] = {}

    def epochs(self, config: TrialConfig, rows: Sequence[Mapping[str, float]]) -> None:
        for logger in self._loggers:
            logger.epochs(config, rows)

    def ended(self, result: TrialResult) -> None:
        trial = result.config.trial_id
        self._told.pop(trial, None)
        known = self._deltas.add(result)
        _, own = known.pop(trial, (result, {}))
        new = [(one, self._new(one.config.trial_id, values)) for one, values in known.values()]
        own = self._new(trial, own)
        for logger in self._loggers:
            logger.ended(result, own)
            for earlier, values in new:
                logger.later(earlier, values)

    def _new(self, trial: str, values: Mapping[str, float]) -> dict[str, float]:
        """Those of the values that the trial's run does not have."""
        told = self._told.setdefault(trial, set())
        new = {name: value for name, value in values.items() if name not in told}
        told.update(new)
        return new

    def close(self) -> None:
        for logger in self._loggers:
            logger.close()
