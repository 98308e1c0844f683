"""The dense single-task models that delta_m is measured against: trials like any other, run once for all sweeps."""

import math
from collections.abc import Iterable, Mapping, Sequence

from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.metrics import MetricInfo
from search.results import TrialResult, read_result, relative_change
from search.storage import Store, trial_file
from search.stored import Damaged, read_sweep_file

CARRIED_OVER = ("model.pt", "result.json")  # the result last: a trial that has one is done


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


def is_baseline(config: TrialConfig) -> bool:
    """Whether delta_m may be measured against this trial."""
    return config.strength == 0 and len(config.tasks) == 1 and config.retraining == "none"


def reuse_trials(store: Store, wanted: Iterable[TrialConfig], besides: Sequence[Store] = ()) -> list[TrialResult]:
    """Take over, into this store, what other sweeps in the same storage, and `besides`, have done of the wanted trials.

    A trial is the same wherever it has run: its id is the hash of all that its result depends on.
    """
    wanted = list(wanted)
    found: list[TrialResult] = []
    for sibling in [*besides, *store.siblings()] if wanted else ():
        ids = _planned(sibling)
        for config in [one for one in wanted if one.trial_id in ids]:
            try:
                result = read_result(sibling, config.trial_id)
            except Damaged:  # that sweep's own run says so; here the trial is run
                continue
            if result is None or result.status != "done":
                continue
            for name in CARRIED_OVER:
                content = sibling.read(trial_file(config.trial_id, name))
                if content is not None:
                    store.write(trial_file(config.trial_id, name), content)
            found.append(result)
            wanted.remove(config)
    return found


def _planned(store: Store) -> set[str]:
    """Ids of a sweep's trials; none where there is no sweep, or none that can be read."""
    try:
        sweep = read_sweep_file(store)
    except BadInput:  # which is that sweep's own affair
        return set()
    return set(sweep.trials) if sweep else set()
