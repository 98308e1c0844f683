"""The dense single-task models that delta_m is measured against: trials like any other, run once for all sweeps."""

import math
from collections.abc import Mapping, Sequence

from mtl.config import TrialConfig
from mtl.objectives.metrics import MetricInfo
from search.store.results import TrialResult, relative_change


class Baselines:
    """One for each task and seed, and what follows from those that have ended.

    beside: further dense trials, to be run with them, that nothing is measured against while others run.
    """

    def __init__(
        self,
        configs: Sequence[TrialConfig],
        infos: Mapping[str, MetricInfo],
        primaries: Mapping[str, str],
        beside: Sequence[TrialConfig] = (),
    ) -> None:
        self.configs, self.beside = tuple(configs), tuple(beside)
        self._ids = {config.trial_id for config in configs}
        self._infos, self._primaries = infos, primaries
        self._metrics: dict[tuple[str, int], Mapping[str, float]] = {}

    def __contains__(self, trial_id: object) -> bool:
        return trial_id in self._ids

    def record(self, result: TrialResult) -> None:
        """A baseline has ended; one that failed leaves delta_m of its seed unknown."""
        if result.status == "done":
            self._metrics[result.config.combination, result.config.seed] = result.metrics

    def delta_m(self, config: TrialConfig, values: Mapping[str, float]) -> float:
        """Of a trial with these validation metrics, a fraction; NaN where a baseline is missing."""
        changes = []
        for task in config.tasks:
            column = f"val_{self._primaries[task]}"
            base = self._metrics.get((task, config.seed), {}).get(column, math.nan)
            maximize = self._infos[self._primaries[task]].direction == "maximize"
            changes.append(relative_change(values.get(column, math.nan), base, maximize))
        return sum(changes) / len(changes)
