"""A recording replayed as if it were trained now: what a strategy has found after how many epochs.

The cluster is simulated: some slots, each with a trial that delivers one recorded row at each step, all epochs equally
long. A strategy proposes any λ and is given what was recorded of the λ nearest to it; it pays for each epoch of each
trial, also where it has had the same recorded trial before. Dense single-task baselines cost nothing, whoever asks for
them: every strategy needs the same ones.

What has been found is the front of the proposals whose trials have run to the end with every seed of the recording, by
the means over seeds of validation delta_m and of group sparsity; its hypervolume is a share of the whole grid's.
"""

import bisect
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from analysis.pareto import hypervolume, pareto_front
from benchmarks.search_recording import Key, Recording
from mtl.config import TrialConfig
from search.store.results import TrialResult, stopped_result

OBJECTIVES = ("delta_m", "group_sparsity")
MAXIMIZE = (True, True)
ALL_GONE = 0.999
# Of the smoothing's kernel, in steps of the grid.
WIDTHS = np.arange(0.5, 6, 0.25)
MOMENT = "2000-01-01T00:00:00+00:00"
# Columns of a history that are not among the metrics of a result.
NOT_OF_A_RESULT = ("epoch", "seconds")


class Strategy(Protocol):
    """What proposes trials and is told how they go."""

    @property
    def done(self) -> bool:
        """Whether it wants no more trials."""

    def next(self) -> TrialConfig | None:
        """The next trial; None where there is none now."""

    def report(self, config: TrialConfig, row: Mapping[str, float]) -> bool:
        """Take a running trial's latest epoch; whether the trial goes on."""

    def ended(self, result: TrialResult) -> None:
        """Take a trial's result."""


@dataclass
class Track:
    """How a replay went: after `epochs` of training in all, the share of the whole grid's hypervolume, at each rise."""

    steps: list[tuple[int, float]] = field(default_factory=list)
    epochs: int = 0
    trials: int = 0
    stopped: int = 0

    def epochs_to(self, share: float) -> float:
        """Infinite where it has not come so far."""
        return next((float(epochs) for epochs, reached in self.steps if reached >= share), math.inf)


class Snap:
    """Which recorded λ stands for one that was proposed: the nearest by the logarithm, 0 for less than the smallest."""

    def __init__(self, lambdas: list[float]) -> None:
        self._values = [value for value in sorted(lambdas) if value > 0]
        self._borders = [math.sqrt(a * b) for a, b in zip(self._values, self._values[1:], strict=False)]

    def __call__(self, strength: float) -> float:
        if strength < self._values[0]:
            return 0.0
        return self._values[bisect.bisect_right(self._borders, strength)]


def means(recording: Recording) -> dict[float, NDArray[np.float64]]:
    """By λ the means over seeds of the objectives of the trials' results."""
    return {
        strength: np.mean(
            [[recording.result(strength, seed)[name] for name in OBJECTIVES] for seed in recording.seeds], axis=0
        )
        for strength in recording.lambdas
    }


def all_zero(values: Mapping[float, NDArray[np.float64]]) -> float:
    """The Δm of a model without a group, over all such λ; the worst of all where there is none."""
    gone = [delta_m for delta_m, sparsity in values.values() if sparsity >= ALL_GONE]
    return float(np.mean(gone)) if gone else float(min(delta_m for delta_m, _ in values.values()))


def smoothed(values: Mapping[float, NDArray[np.float64]]) -> dict[float, NDArray[np.float64]]:
    """Values by λ without most of their noise: local-linear in log λ, the dense model's as they are.

    The Gaussian kernel is as wide as predicts left-out λ best, in units of each objective's own variance.
    """
    strengths = sorted(strength for strength in values if strength > 0)
    x, y = np.log(strengths), np.array([values[strength] for strength in strengths])
    best, best_error = y, math.inf
    for width in WIDTHS * (x[-1] - x[0]) / (len(x) - 1):
        hat = np.empty((len(x), len(x)))
        for row, place in enumerate(x):
            weights = np.exp(-0.5 * ((x - place) / width) ** 2)
            design = np.column_stack([np.ones_like(x), x - place])
            hat[row] = np.linalg.pinv(design * np.sqrt(weights)[:, None])[0] * np.sqrt(weights)
        left_out = (y - hat @ y) / (1 - np.diag(hat))[:, None]
        error = float((left_out**2 / y.var(axis=0)).sum())
        if error < best_error:
            best, best_error = hat @ y, error
    return {**values, **dict(zip(strengths, best, strict=True))}


class Replay:
    """A recording with its simulated cluster of `slots`.

    corner: the hypervolume's reference; left out: no group removed, and the Δm of a model that has none left.
    smooth: judge what is found by the means smoothed over λ; strategies see what was recorded all the same.
    """

    def __init__(
        self, recording: Recording, slots: int = 2, corner: tuple[float, float] | None = None, smooth: bool = False
    ) -> None:
        self.recording, self.slots = recording, slots
        self.snap = Snap(recording.lambdas)
        self.corner = (all_zero(means(recording)), 0.0) if corner is None else corner
        self.means = smoothed(means(recording)) if smooth else means(recording)
        self.whole = self.volume(set(self.means))
        self.grid_epochs = len(recording.lambdas) * len(recording.seeds) * recording.epochs

    def volume(self, lambdas: set[float]) -> float:
        """The hypervolume of the means of these recorded λ."""
        points = np.array([self.means[strength] for strength in sorted(lambdas)]).reshape(-1, len(OBJECTIVES))
        return hypervolume(points, self.corner, MAXIMIZE)

    def run(self, strategy: Strategy, share: float = 1.0, limit: int | None = None) -> Track:
        """Until the strategy is done, the share of the hypervolume is reached or `limit` epochs have run."""
        track = Track()
        running: list[_Trial | None] = [None] * self.slots
        # By the proposed λ the seeds that have run to the end.
        complete: defaultdict[float, set[int]] = defaultdict(set)
        found: set[float] = set()
        while True:
            for slot in range(self.slots):
                if running[slot] is None and not strategy.done and (config := strategy.next()) is not None:
                    running[slot] = _Trial(config, self._rows(config))
                    track.trials += 1
            if not any(running):
                if strategy.done:
                    return track
                raise RuntimeError("the strategy waits, but nothing runs")
            for slot, trial in enumerate(running):
                if trial is None:
                    continue
                goes_on = strategy.report(trial.config, trial.step())
                joint = trial.config.combination == self.recording.joint
                track.epochs += joint
                if trial.left and goes_on:
                    continue
                running[slot] = None
                track.stopped += bool(trial.left)
                strategy.ended(self._result(trial))
                if joint and not trial.left:
                    complete[trial.config.strength].add(trial.config.seed)
                    if complete[trial.config.strength].issuperset(self.recording.seeds):
                        found.add(self.snap(trial.config.strength))
                        reached = self.volume(found) / self.whole
                        if not track.steps or reached > track.steps[-1][1]:
                            track.steps.append((track.epochs, reached))
                        if reached >= share:
                            return track
            if limit is not None and track.epochs >= limit:
                return track

    def _rows(self, config: TrialConfig) -> Sequence[Mapping[str, float]]:
        return self.recording.rows[self._key(config)]

    def _key(self, config: TrialConfig) -> Key:
        return config.combination, self.snap(config.strength), config.seed

    def _result(self, trial: "_Trial") -> TrialResult:
        if trial.left:
            return stopped_result(trial.config, trial.rows[: trial.ran], MOMENT)
        chosen = trial.rows[self.recording.chosen[self._key(trial.config)]]
        metrics = {
            name: value for name, value in chosen.items() if name not in NOT_OF_A_RESULT and not name.endswith("_loss")
        }
        return TrialResult(trial.config, "done", MOMENT, MOMENT, float(trial.ran), metrics, tuple(trial.rows))


@dataclass
class _Trial:
    config: TrialConfig
    rows: Sequence[Mapping[str, float]]
    ran: int = 0

    @property
    def left(self) -> int:
        return len(self.rows) - self.ran

    def step(self) -> Mapping[str, float]:
        self.ran += 1
        return self.rows[self.ran - 1]


def smallest_share(replay: Replay, share: float = 0.99) -> int:
    """The fewest λ whose front has this share of the hypervolume: a floor for every strategy, by exhaustive choice.

    Only the front's own points can be of use; in two objectives the best k of n points follow from dynamic programming
    over the points in the order of one objective.
    """
    points = np.array(list(replay.means.values()))
    better = points[(points > replay.corner).all(axis=1)]
    front = better[pareto_front(better, MAXIMIZE)] - replay.corner
    front = front[np.argsort(front[:, 1])]
    # A point adds a strip, from the sparsity of the last chosen point to its own, as high as its delta_m.
    best = front[:, 0] * front[:, 1]  # with this point as the last of those chosen
    for count in range(1, len(front) + 1):
        if best.max() >= share * replay.whole:
            return count
        best = np.array(
            [
                max((best[j] + (x[1] - front[j, 1]) * x[0] for j in range(i)), default=-math.inf)
                for i, x in enumerate(front)
            ]
        )
    raise ValueError(f"no front has {share:.0%} of the hypervolume")
