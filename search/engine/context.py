"""Where and how the trials of a sweep run; without torch, which drivers of many trials need not hold."""

from dataclasses import dataclass

from search.store.storage import Store


@dataclass(frozen=True)
class RunContext:
    """Where and how trials run: all that a trial needs besides its config, and nothing that changes its result."""

    storage: str
    name: str
    data: str | None
    threads: int
    gpus: float
    checkpoint_seconds: float
    retries: int = 0

    def store(self) -> Store:
        return Store(self.storage, self.name)
