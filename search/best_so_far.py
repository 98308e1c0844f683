"""The best model so far, in a few words for the line that people watch."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean

from mtl.config import TrialConfig
from search.deltas import SHARE, Deltas
from search.store.results import TrialResult

UNITS = ((1e12, "T "), (1e9, "G "), (1e6, "M "), (1e3, "k "), (1, ""))
SMALLER = 0.95  # of the dense model's MACs: what costs as much as the dense model is no answer


class BestOfSweep:
    """The setting with the highest Δm on validation, the mean over the seeds that are done.

    Of those with the most tasks that cost less than the dense model, or of all while there is none that does.
    """

    def __init__(self, deltas: Deltas) -> None:
        self._deltas = deltas
        # By the number of tasks and what the seeds of a setting have in common, then by trial.
        self._rows: defaultdict[tuple[int, str], dict[str, Mapping[str, float]]] = defaultdict(dict)

    def add(self, result: TrialResult) -> str:
        """A trial has ended. Returns the best so far, such as "Δm +1.2 % at 25 % of the MACs"; empty if not known."""
        for one, values in self._deltas.add(result).values():
            if one.status == "done" and "delta_m" in values:
                self._rows[_setting(one.config)][one.config.trial_id] = values
        return self.words()

    def words(self) -> str:
        most = max((tasks for tasks, _ in self._rows), default=0)
        settings = [_means(rows.values()) for (tasks, _), rows in self._rows.items() if tasks == most]
        smaller = [one for one in settings if one.get(SHARE, 1.0) < SMALLER]
        best = max(smaller or settings, key=lambda one: one["delta_m"], default=None)
        if best is None:
            return ""
        share = f" at {100 * best[SHARE]:.0f} % of the MACs" if SHARE in best else ""
        return f"{value_in_words('delta_m', best['delta_m'])}{share}"


def value_in_words(column: str, value: float) -> str:
    """Such as Δm +1.2 %, 3.1 M MACs, 61 % of groups zero, depth_mae 0.412."""
    if column == "delta_m":
        return f"Δm {100 * value:+z.1f} %".replace("-", "\N{MINUS SIGN}")
    if column in ("group_sparsity", "parameter_sparsity"):
        return f"{100 * value:.0f} % of {'groups' if column == 'group_sparsity' else 'weights'} zero"
    if column in ("macs", "model_macs"):
        return next(f"{value / size:.3g} {unit}MACs" for size, unit in UNITS if value >= size or size == 1)
    return f"{column.removeprefix('val_')} {value:.4g}"


def _setting(config: TrialConfig) -> tuple[int, str]:
    return len(config.tasks), config.model_copy(update={"seed": 0, "warm_started_from": ""}).trial_id


def _means(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    found = list(rows)
    return {name: fmean(row[name] for row in found) for name in found[0] if all(name in row for row in found)}
