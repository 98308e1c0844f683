"""The interface of a service that shows trials, and the names and values that it gets."""

from collections.abc import Mapping
from typing import Protocol

from mtl.config import TrialConfig
from search.store.results import TrialResult

FINAL = "final/"  # prefix of a finished trial's metrics, which are not points of a curve over epochs


class Service(Protocol):
    """A place that shows trials. It is called from one thread; each call may be slow, and may raise any exception."""

    name: str

    def open(self, config: TrialConfig) -> int:
        """Begin a trial's run, or continue its existing run; returns the first epoch that the run does not have yet."""

    def log(self, config: TrialConfig, row: Mapping[str, float]) -> None:
        """Add an epoch to an open trial: each epoch once, in order."""

    def end(self, result: TrialResult, more: Mapping[str, float]) -> None:
        """Add the final metrics, and `more` of them, and close the trial's run. It may be opened again, for instance
        after a failure."""

    def later(self, result: TrialResult, more: Mapping[str, float]) -> None:
        """Add to a trial that has ended, maybe in an earlier run of the sweep, what has become known of it since."""

    def close(self) -> None:
        """Close the runs of unfinished trials when a sweep is stopped; the next sweep opens them again."""


def parameters(config: TrialConfig) -> dict[str, str | float | int | bool]:
    """A trial's settings by the names that results use. Lists and tables become text; empty settings are left out."""
    fields = config.model_dump(mode="json", exclude={"strength", "tasks"})
    named = {"lambda": config.strength, "tasks": config.combination, **fields}
    return {
        name: value if isinstance(value, str | float | int | bool) else str(value)
        for name, value in named.items()
        if value not in (None, "", [], {})
    }


def series(row: Mapping[str, float]) -> dict[str, float]:
    """The values of an epoch's row by name, without the epoch."""
    return {name: float(value) for name, value in row.items() if name != "epoch"}


def final_metrics(result: TrialResult, more: Mapping[str, float]) -> dict[str, float]:
    """A finished trial's metrics under their names in services."""
    return prefixed({**result.metrics, **more})


def prefixed(values: Mapping[str, float]) -> dict[str, float]:
    """Final values under their names in services."""
    return {FINAL + name: float(value) for name, value in values.items()}
