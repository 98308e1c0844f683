"""What a service that shows trials must be able to do, and how trials are told to it."""

from collections.abc import Mapping
from typing import Protocol

from mtl.config import TrialConfig
from search.store.results import TrialResult

FINAL = "final/"  # before the names of a finished trial's metrics, which are no points of an epoch's curve


class Service(Protocol):
    """One place that shows trials. Called from one thread; each call may be slow, and may raise whatever it likes."""

    name: str

    def open(self, config: TrialConfig) -> int:
        """Begin a trial's run, or go on with the one it has; returns the first epoch that is not in it yet."""

    def log(self, config: TrialConfig, row: Mapping[str, float]) -> None:
        """Add an epoch to an open trial: each one once, in order."""

    def end(self, result: TrialResult) -> None:
        """Add the metrics of an open trial and close its run; it may be opened again, say after a failure."""

    def close(self) -> None:
        """Close the runs of trials that have not ended, as the sweep was stopped: they are opened again by the next."""


def title(config: TrialConfig) -> str:
    """A trial's name for people."""
    return config.label


def parameters(config: TrialConfig) -> dict[str, str | float | int | bool]:
    """A trial's settings by the names that results use, lists and tables as text; those left out are left out."""
    fields = config.model_dump(mode="json", exclude={"strength", "tasks"})
    named = {"lambda": config.strength, "tasks": config.combination, **fields}
    return {
        name: value if isinstance(value, str | float | int | bool) else str(value)
        for name, value in named.items()
        if value not in (None, "", [], {})
    }


def series(row: Mapping[str, float]) -> dict[str, float]:
    """The values of an epoch's row by name, the epoch apart."""
    return {name: float(value) for name, value in row.items() if name != "epoch"}


def final_metrics(result: TrialResult) -> dict[str, float]:
    """A finished trial's metrics by the names under which services show them."""
    return {FINAL + name: float(value) for name, value in result.metrics.items()}
