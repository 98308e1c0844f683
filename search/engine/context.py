"""Where and how the trials of a sweep run; without torch, which drivers of many trials need not hold."""

from dataclasses import dataclass
from pathlib import Path

from mtl.config import TrialConfig
from search.store.storage import Store


@dataclass(frozen=True)
class RunContext:
    """All that a trial needs besides its config, and nothing that changes its result.

    Attributes:
        storage, name: of the sweep.
        data: the dataset's folder.
        threads, gpus: of one trial.
        checkpoint_seconds: the shortest time between two checkpoints.
        retries: how often a trial goes on from its checkpoint after an error or the death of its process.
        base: a trial that the others differ from in few fields.
        own_module: a Python file or package that trials import and that is not installed; every node gets a copy.
    """

    storage: str
    name: str
    data: str | None
    threads: int
    gpus: float
    checkpoint_seconds: float
    retries: int = 0
    base: TrialConfig | None = None
    own_module: Path | None = None

    def store(self) -> Store:
        return Store(self.storage, self.name)
