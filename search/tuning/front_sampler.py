"""A sampler for searches along one axis: it proposes the lambda, or the cost, at which the front has most to gain."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import moocore
import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

Values = NDArray[np.float64]

SLACK = 0.5  # 1, 1/2 and 1/4 were tried: with 1/2 the replays of a recorded grid (benchmarks.search) differ least
LEAST_COST = 1.0  # of a model without anything, which has no logarithm: a multiply-accumulate, a parameter
MIDDLE = 0.2  # share of a gap, around its middle, in which the proposal lies at random, so that two searches differ


@dataclass(frozen=True)
class KnownOf:
    """What the sampler knows of an objective, in the objective's own units, whichever way is better.

    Attributes:
        reference: the hypervolume's worst corner; None stands for the worst value known.
        best: the best possible value; None if there is no limit.
        log: whether its logarithm counts: half of a cost is worth as much whatever the cost.
        follows: whether it follows from the parameter, in proportion if `log`: then it is known before a trial runs.
    """

    reference: float | None = None
    best: float | None = None
    log: bool = False
    follows: bool = False

    def scaled(self, values: Any) -> Any:
        """Values as they count."""
        return np.log(np.maximum(values, LEAST_COST)) if self.log else values


class FrontSampler(BaseSampler):
    """Proposes the middle of a gap between two neighbouring values of the one parameter: of the gap whose optimistic
    corner adds most to the known hypervolume.

    The optimistic corner of the gap from x_1 to x_2 with the values y_1 and y_2 is, in each objective,

        max(y_1, y_2, (y_1 + y_2) / 2 + L (x_2 - x_1) / 2),   L = SLACK (max y - min y) / (max x - min x)

    the best value between them of a curve whose slope is at most a share of its average over the range. So the sampler
    looks into gaps between very different values, and into wide gaps between similar values. It needs no model of the
    curve: at some lambda a network falls apart, and a Gaussian process with one length scale does not follow that bend.
    This is Lipschitz optimisation in one dimension (Piyavskii 1972) with a hypervolume as the gain.

    An objective that follows from the parameter is not guessed: at the middle of a gap it is the mean of the two ends.
    So along target costs only the quality is optimistic.

    A running trial counts with values interpolated between its neighbours.

    Args:
        objectives: in the study's order.
        limits: the ends of the range in which proposals lie; None for the parameter's whole range. Trials beyond it,
            such as the dense model's, count in the front.
        seed: chooses the place in the middle of a gap, and the whole proposal as long as fewer than two values are
            known.
    """

    def __init__(
        self, objectives: Sequence[KnownOf], limits: tuple[float, float] | None = None, seed: int | None = None
    ) -> None:
        self._objectives, self._limits = objectives, limits
        self._random, self._generator = RandomSampler(seed), np.random.default_rng(seed)
        self._space = IntersectionSearchSpace()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        space = self._space.calculate(study)
        return {name: one for name, one in space.items() if isinstance(one, FloatDistribution)}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if len(search_space) != 1:
            return {}
        ((name, distribution),) = search_space.items()
        assert isinstance(distribution, FloatDistribution)
        scale, back = (math.log, math.exp) if distribution.log else (float, float)
        trials = [one for one in study.get_trials(deepcopy=False) if name in one.params and one.number != trial.number]
        told = sorted(
            (one for one in trials if one.state == TrialState.COMPLETE), key=lambda one: float(one.params[name])
        )
        places = np.array([scale(one.params[name]) for one in told])
        if len(np.unique(places)) < 2:
            return {}
        signs = np.array([1.0 if one == StudyDirection.MAXIMIZE else -1.0 for one in study.directions])
        columns = zip(self._objectives, np.array([one.values for one in told]).T, strict=True)
        values = signs * np.stack([one.scaled(column) for one, column in columns], axis=1)
        allowed = np.array([all(value <= 0 for value in one.constraints.values()) for one in told])
        known = list(zip(self._objectives, signs, values.min(axis=0), strict=True))
        corner = np.array([low if o.reference is None else s * o.scaled(o.reference) for o, s, low in known])
        ceiling = np.array([math.inf if o.best is None else s * o.scaled(o.best) for o, s, _ in known])
        follows = np.array([one.follows for one in self._objectives])
        running = sorted(scale(one.params[name]) for one in trials if one.state == TrialState.RUNNING)
        x, y, counted = _with_running(places, values, allowed, np.array(running))
        low, high = self._limits or (distribution.low, distribution.high)
        first, last = _best_gap(x, y, counted, corner, ceiling, (scale(low), scale(high)), follows)
        value = back(first + (last - first) * (0.5 + MIDDLE * (self._generator.random() - 0.5)))
        return {name: min(max(value, low), high)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)


def _with_running(
    places: Values, values: Values, allowed: NDArray[np.bool_], running: Values
) -> tuple[Values, Values, NDArray[np.bool_]]:
    """The told trials and the interpolated running ones, in the order of their places."""
    guesses = np.stack([np.interp(running, places, column) for column in values.T], axis=1)
    x = np.concatenate([places, running])
    order = np.argsort(x, kind="stable")
    counted = np.concatenate([allowed, np.ones(len(running), bool)])
    return x[order], np.concatenate([values, guesses])[order], counted[order]


def _best_gap(
    x: Values,
    y: Values,
    counted: NDArray[np.bool_],
    corner: Values,
    ceiling: Values,
    ends: tuple[float, float],
    follows: NDArray[np.bool_],
) -> tuple[float, float]:
    """The gap with the most to gain. The gaps to ends of the range that have not been tried count too.

    x: (n,) in ascending order; y: (n, m), more is better; counted: which points count in the front; follows: (m,)
    which objectives are linear in x.
    """
    slope = SLACK * np.ptp(y, axis=0) / max(ends[1] - ends[0], 1e-12)
    if x[-1] < ends[1]:
        x, y = np.append(x, ends[1]), np.vstack([y, y[-1:]])
        counted = np.append(counted, False)
    if x[0] > ends[0]:
        x, y = np.insert(x, 0, ends[0]), np.vstack([y[:1], y])
        counted = np.insert(counted, 0, False)
    known = y[counted]
    if len(known):
        known = known[moocore.is_nondominated(known, maximise=True)]
    base = _hypervolume(known, corner)
    x = np.clip(x, *ends)  # a gap that reaches beyond the range ends with it
    widths = np.diff(x)
    best, gap = (-math.inf, -math.inf), ends
    for i, width in enumerate(widths):
        middle = (y[i] + y[i + 1]) / 2
        optimistic = np.maximum(np.maximum(y[i], y[i + 1]), middle + slope * width / 2)
        optimistic[follows] = middle[follows]
        gain = _hypervolume(np.vstack([known, np.minimum(optimistic, ceiling)]), corner) - base
        if width > 0 and (gain, width) > best:
            best, gap = (gain, float(width)), (float(x[i]), float(x[i + 1]))
    return gap


def _hypervolume(points: Values, corner: Values) -> float:
    inside = points[(points > corner).all(axis=1)]
    return float(moocore.hypervolume(inside, ref=corner, maximise=True)) if len(inside) else 0.0
