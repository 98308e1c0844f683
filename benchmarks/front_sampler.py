"""An Optuna sampler for a search over λ alone: it refines the front where most hypervolume may still be missing."""

import math
from typing import Any

import moocore
import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

# The dense model, and the middle and the quarters of the range of λ: the least that shows where the front bends.
START = 4
# The reference of the hypervolume, where an objective has one worth naming; else the worst value seen.
REFERENCES = {"delta_m": -1.0, "group_sparsity": 0.0, "parameter_sparsity": 0.0}
# What no objective can exceed.
BEST = {"group_sparsity": 1.0, "parameter_sparsity": 1.0}
# Gaps between two λ are not divided below this factor: seeds differ by more than the λ in between.
FINEST = 1.08
MIDDLE = (0.4, 0.6)

Values = NDArray[np.float64]


class FrontSampler(TPESampler):
    """About the middle, by the logarithm, of the gap between two neighbouring λ that may hide most hypervolume.

    What a gap may hide is the hypervolume that its optimistic corner would add to all points so far. With y, z the
    objectives at its ends, w its width and W that of the whole range, all by the logarithm of λ, and R the range of
    the values seen, the corner is for each objective

        max(y, z, (y + z) / 2 + R w / (2 W)),

    what a monotone objective could reach at most, or one that is as steep as the whole range is on average, as in
    the Lipschitzian search of Piyavskii (1972) and Shubert (1972). Proposals that run take interpolated values.

    Where more than λ is open, and for the first proposals, it is TPE.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._random = np.random.default_rng(seed)
        super().__init__(seed=seed, n_startup_trials=START, multivariate=True, constant_liar=True)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        usual = super().sample_relative(study, trial, search_space)
        if len(search_space) != 1:
            return usual
        (name, space), *_ = search_space.items()
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING))
        told = {one.params[name]: one.values for one in trials if one.state == TrialState.COMPLETE}
        running = {one.params[name] for one in trials if one.state == TrialState.RUNNING and name in one.params}
        if not isinstance(space, FloatDistribution) or not space.log or len(told) < START:
            return usual
        signs = np.array([1.0 if one == StudyDirection.MAXIMIZE else -1.0 for one in study.directions])
        places = np.log(sorted(told))
        values = signs * np.array([told[one] for one in sorted(told)])
        names = study.metric_names or [""] * len(signs)
        reference = np.array([REFERENCES.get(one, worst) for one, worst in zip(names, values.min(axis=0), strict=True)])
        best = np.array([BEST.get(one, math.inf) for one in names])
        gap = widest_promise(places, values, np.log(sorted(running)), math.log(space.high), reference, best)
        if gap is None:
            return usual
        # Not the very middle, so that searches with other seeds are not all the same.
        place = math.exp(self._random.uniform(*np.quantile(gap, MIDDLE)))
        return {name: min(max(place, space.low), space.high)}


def widest_promise(
    places: Values, values: Values, running: Values, end: float, reference: Values, best: Values
) -> tuple[float, float] | None:
    """The ends of the gap that promises most; None where all are narrower than `FINEST`.

    Args:
        places: (n,) ascending, of the points that have values.
        values: (n, m), more is better.
        running: (k,) ascending, of points that have none yet.
        end: of the range.
        reference, best: (m,) of the hypervolume, and what values cannot exceed.
    """
    steepness = np.ptp(values, axis=0) / (end - places[0])
    expected = np.stack([np.interp(running, places, column) for column in values.T], axis=1)
    # The end, where nothing is there yet, may be as good as its neighbour.
    all_places = np.concatenate([places, running, [end] if max([places[-1], *running]) < end else []])
    all_values = np.concatenate([values, expected, values[-1:]])[: len(all_places)]
    order = np.argsort(all_places, kind="stable")
    x, y = all_places[order], all_values[order]
    promises: dict[tuple[float, float], float] = {}
    for left, right, low, high in zip(x, x[1:], y, y[1:], strict=False):
        width = right - left
        if width >= math.log(FINEST):
            corner = np.maximum(np.maximum(low, high), (low + high + steepness * width) / 2)
            promises[float(left), float(right)] = _volume(np.vstack([y, np.minimum(corner, best)]), reference)
    return max(promises, key=lambda gap: promises[gap]) if promises else None


def _volume(values: Values, reference: Values) -> float:
    return float(moocore.hypervolume(values, ref=reference, maximise=True))
