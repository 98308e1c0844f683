"""The dense single-task models against which delta_m is measured: ordinary trials, run once for all sweeps."""

import math
from collections.abc import Mapping, Sequence

from mtl.config import TrialConfig
from mtl.vocabulary.delta_m import relative_change
from mtl.vocabulary.metric import Metric
from search.store.results import TrialResult


class Baselines:
    """A baseline for each task and seed, and delta_m from those that have ended.

    primaries: the metric of each task that delta_m is made of.
    beside: further dense trials that run too, but against which nothing is measured during the search.
    """

    def __init__(
        self, configs: Sequence[TrialConfig], primaries: Mapping[str, Metric], beside: Sequence[TrialConfig] = ()
    ) -> None:
        self.configs, self.beside = tuple(configs), tuple(beside)
        self._ids = {config.trial_id for config in configs}
        self._primaries = primaries
        self._metrics: dict[tuple[str, int], Mapping[str, float]] = {}

    def __contains__(self, trial_id: object) -> bool:
        return trial_id in self._ids

    def record(self, result: TrialResult) -> None:
        """A baseline has ended. If it failed, delta_m of its seed stays unknown."""
        if result.status == "done":
            self._metrics[result.config.combination, result.config.seed] = result.metrics

    def delta_m(self, config: TrialConfig, values: Mapping[str, float]) -> float:
        """The delta_m of a trial with these validation metrics, a fraction; NaN if a baseline is missing."""
        changes = []
        for task in config.tasks:
            column = f"val_{self._primaries[task].name}"
            base = self._metrics.get((task, config.seed), {}).get(column, math.nan)
            changes.append(relative_change(values.get(column, math.nan), base, self._primaries[task].maximize))
        return float(sum(changes) / len(changes))
