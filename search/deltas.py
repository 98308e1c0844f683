"""Δm of each trial, and its share of the dense model's cost, as soon as what it is measured against is done.

The same numbers as in the results and in the report, for those who watch a run.
"""

from collections.abc import Iterable, Mapping
from math import isfinite

from mtl.config import TrialConfig
from mtl.vocabulary.delta_m import relative_change
from mtl.vocabulary.metric import Metric
from mtl.vocabulary.objective import MODEL_MACS
from search.store.results import TrialResult

SPLITS = {"delta_m": "val", "test_delta_m": "test"}
SHARE = f"{MODEL_MACS}_share"
NAMES = (*SPLITS, SHARE)


class Deltas:
    """Keeps what it needs of the results that it is given.

    Args:
        primaries: the metric of each task that Δm is made of.
        setup: of the trials with the recipe's own settings (`TrialConfig.setup_id`), which others are measured against.
        results: of earlier runs.
    """

    def __init__(self, primaries: Mapping[str, Metric], setup: str, results: Iterable[TrialResult] = ()) -> None:
        self._primaries, self._setup = primaries, setup
        self._single: dict[tuple[str, int], Mapping[str, float]] = {}
        self._dense_macs: dict[tuple[str, ...], float] = {}
        self._open: dict[str, TrialResult] = {}
        self._known: dict[str, dict[str, float]] = {}
        for result in results:
            self.add(result)

    def add(self, result: TrialResult) -> dict[str, tuple[TrialResult, Mapping[str, float]]]:
        """A trial has ended. Returns, by trial id, the trials of which more is known now, with all that is known: at
        most `delta_m` (validation), `test_delta_m` and `model_macs_share`, fractions. Those that failed have none."""
        config = result.config
        self._known.pop(config.trial_id, None)
        if result.status == "failed":
            self._open.pop(config.trial_id, None)
            return {}
        self._open[config.trial_id] = result
        looked = [result]
        if result.status == "done" and config.dense and config.retraining == "none" and config.setup_id == self._setup:
            if len(config.tasks) == 1:
                self._single[config.tasks[0], config.seed] = result.metrics
            if MODEL_MACS in result.metrics:
                self._dense_macs.setdefault(config.tasks, result.metrics[MODEL_MACS])
            looked = list(self._open.values())
        found: dict[str, tuple[TrialResult, Mapping[str, float]]] = {}
        for one in looked:
            trial, values = one.config.trial_id, self._values(one)
            if values.keys() - self._known.get(trial, {}).keys():
                self._known[trial] = values
                found[trial] = (one, values)
            if set(values) >= {name for name in NAMES if self._possible(one, name)}:
                self._open.pop(trial, None)
        return found

    def _possible(self, result: TrialResult, name: str) -> bool:
        """Whether the trial itself has what the value is made of."""
        if name == SHARE:
            return MODEL_MACS in result.metrics
        columns = (f"{SPLITS[name]}_{self._primaries[task].name}" for task in result.config.tasks)
        return all(column in result.metrics for column in columns)

    def _values(self, result: TrialResult) -> dict[str, float]:
        config = result.config
        values = {name: self._delta(config, result.metrics, split) for name, split in SPLITS.items()}
        if dense := self._dense_macs.get(config.tasks, 0.0):
            values[SHARE] = result.metrics.get(MODEL_MACS, float("nan")) / dense
        return {name: value for name, value in values.items() if isfinite(value)}

    def _delta(self, config: TrialConfig, metrics: Mapping[str, float], split: str) -> float:
        """NaN where a metric, or a dense model of the seed, is missing."""
        changes = []
        for task in config.tasks:
            metric = self._primaries[task]
            column = f"{split}_{metric.name}"
            base = self._single.get((task, config.seed), {}).get(column, float("nan"))
            changes.append(float(relative_change(metrics.get(column, float("nan")), base, metric.maximize)))
        return sum(changes) / len(changes)
