"""What people do now: a plain grid, random search and Ray Tune's own OptunaSearch, as strategies of a replay.

None of them knows of replicates: whoever proposes λ trains it with every seed, one after the other, and takes the mean.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from benchmarks.search_recording import Recording
from benchmarks.search_replay import OBJECTIVES
from mtl.config import TrialConfig
from search.store.results import TrialResult

NARROWER = 1.5


class AllSeeds(ABC):
    """Each λ that is proposed is trained with all seeds, in turn, before its slot takes the next one."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        # By λ the results so far, of proposals that are not complete.
        self._open: dict[float, list[TrialResult]] = {}
        self._running: set[float] = set()

    @property
    def done(self) -> bool:
        return False

    def next(self) -> TrialConfig | None:
        strength = next((one for one in self._open if one not in self._running), None)
        if strength is None:
            strength = self.propose()
            self._open[strength] = []
        self._running.add(strength)
        return self.recording.config(strength, self.recording.seeds[len(self._open[strength])])

    def report(self, config: TrialConfig, row: Mapping[str, float]) -> bool:
        return True

    def ended(self, result: TrialResult) -> None:
        strength = result.config.strength
        self._running.remove(strength)
        self._open[strength].append(result)
        if len(self._open[strength]) == len(self.recording.seeds):
            self.told(strength, self._open.pop(strength))

    @abstractmethod
    def propose(self) -> float:
        """The next λ."""

    def told(self, strength: float, results: Sequence[TrialResult]) -> None:  # noqa: B027 - most learn nothing
        """Take a proposal's results."""


class Grid(AllSeeds):
    """Every recorded λ once, in a random order; in its own order the sparsest models would come at the very end."""

    def __init__(self, recording: Recording, seed: int) -> None:
        super().__init__(recording)
        self._left = np.random.default_rng(seed).permutation(recording.lambdas).tolist()

    @property
    def done(self) -> bool:
        return not self._left and len(self._running) == len(self._open)

    def propose(self) -> float:
        return float(self._left.pop())


class Random(AllSeeds):
    """λ log-uniform over the recorded range."""

    def __init__(self, recording: Recording, seed: int) -> None:
        super().__init__(recording)
        self._random = np.random.default_rng(seed)
        self._ends = np.log(span(recording, seed))

    def propose(self) -> float:
        return float(np.exp(self._random.uniform(*self._ends)))


class Stock(AllSeeds):
    """OptunaSearch as it comes, its sampler TPE, with as many proposals pending as there are slots."""

    def __init__(self, recording: Recording, seed: int) -> None:
        super().__init__(recording)
        space = {"lambda": tune.loguniform(*span(recording, seed))}
        self._search = OptunaSearch(space=space, metric=list(OBJECTIVES), mode=["max", "max"], seed=seed)
        self._names: dict[float, str] = {}

    def propose(self) -> float:
        name = f"trial_{len(self._names)}"
        suggested = self._search.suggest(name)
        assert suggested is not None
        strength = float(suggested["lambda"])
        self._names[strength] = name
        return strength

    def told(self, strength: float, results: Sequence[TrialResult]) -> None:
        values = [[result.metrics[name] for name in OBJECTIVES] for result in results]
        self._search.on_trial_complete(
            self._names[strength], dict(zip(OBJECTIVES, np.mean(values, axis=0), strict=True))
        )


def span(recording: Recording, seed: int) -> tuple[float, float]:
    """The range of λ that is searched: that of the recording, at each end narrowed by a factor of up to `NARROWER`.

    No two users name the very same ends, and a strategy that draws nothing at random would otherwise have one run.
    """
    lambdas = [strength for strength in recording.lambdas if strength > 0]
    low, high = np.random.default_rng(seed).uniform(0, math.log(NARROWER), 2)
    return lambdas[0] * math.exp(low), lambdas[-1] * math.exp(-high)
