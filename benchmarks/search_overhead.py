"""What a searcher's proposals cost, and whether they are the same again."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from benchmarks.search_ours import Ours
from benchmarks.search_peers import Stock
from benchmarks.search_recording import Recording
from benchmarks.search_replay import Replay, Strategy
from mtl.config import TrialConfig
from search.store.results import TrialResult
from search.tuning.samplers import FRONT

T = TypeVar("T")

TOLD = 500
MEASURED = 20

Make = Callable[[Recording, int], Strategy]
SEARCHERS: dict[str, Make] = {
    # Without racing each proposal is told with all its seeds, as OptunaSearch's are.
    "ours, sampler tpe": lambda recording, seed: Ours(recording, seed, sampler="tpe", racing=False),
    "ours": lambda recording, seed: Ours(recording, seed, racing=False),
    "OptunaSearch": Stock,
}


class Watched:
    """A strategy with a clock: its trials, and the seconds spent in it as each proposal began."""

    def __init__(self, strategy: Strategy, recording: Recording, proposals: int) -> None:
        self._strategy, self._joint, self._proposals = strategy, recording.joint, proposals
        self._spent = 0.0
        self._lambdas: set[float] = set()
        self.trials: list[str] = []
        self.began: list[float] = []

    @property
    def done(self) -> bool:
        return len(self.began) > self._proposals or self._strategy.done

    def next(self) -> TrialConfig | None:
        before = self._spent
        config = self._timed(self._strategy.next)
        if config is not None:
            self.trials.append(str(config))
            if config.combination == self._joint and config.strength not in self._lambdas:
                self._lambdas.add(config.strength)
                self.began.append(before)
        return config

    def report(self, config: TrialConfig, row: Mapping[str, float]) -> bool:
        return self._timed(lambda: self._strategy.report(config, row))

    def ended(self, result: TrialResult) -> None:
        self._timed(lambda: self._strategy.ended(result))

    def _timed(self, call: Callable[[], T]) -> T:
        started = time.perf_counter()
        try:
            return call()
        finally:
            self._spent += time.perf_counter() - started


def overheads(recording: Recording, told: int = TOLD) -> dict[str, float]:
    """By searcher the milliseconds spent in it a proposal, of those that follow `told` others."""
    found = {}
    for name, make in SEARCHERS.items():
        watched = Watched(make(recording, 0), recording, told + MEASURED)
        Replay(recording, slots=1).run(watched, share=2)
        spent = watched.began[told + MEASURED] - watched.began[told]
        found[f"{name}, ms"] = round(1000 * spent / MEASURED, 1)
    return found


def deterministic(recording: Recording, proposals: int = 15) -> bool:
    """Whether two serial runs with the same seed have the same trials in the same order, whichever the sampler."""
    for sampler in (FRONT, "tpe"):
        runs = []
        for _ in range(2):
            watched = Watched(Ours(recording, 0, sampler=sampler), recording, proposals)
            Replay(recording, slots=1).run(watched, share=2)
            runs.append(watched.trials)
        if runs[0] != runs[1]:
            return False
    return True
