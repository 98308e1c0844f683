"""Where and how the trials of a sweep run. Imports no torch, which a driver of many trials need not hold in memory."""

from dataclasses import dataclass
from pathlib import Path

from mtl.config import TrialConfig
from search.store.storage import Store


@dataclass(frozen=True)
class RunContext:
    """All that a trial needs besides its config. Nothing here changes a trial's result.

    Attributes:
        storage, name: of the sweep.
        data: the dataset's folder.
        threads, gpus: of each trial, or of all those of a pack.
        pack: how many trials run together in one process.
        checkpoint_seconds: the shortest time between two checkpoints.
        retries: how often a trial continues from its checkpoint after an error or the death of its process.
        loader_threads: that read batches ahead, of each trial.
        base: a trial from which the others differ in few fields.
        own_modules: Python files and packages that trials import and that are not installed; Ray copies them to every
            node.
    """

    storage: str
    name: str
    data: str | None
    threads: int
    gpus: float
    checkpoint_seconds: float
    retries: int = 0
    loader_threads: int = 1
    base: TrialConfig | None = None
    own_modules: tuple[Path, ...] = ()
    pack: int = 1

    def store(self) -> Store:
        return Store(self.storage, self.name)
