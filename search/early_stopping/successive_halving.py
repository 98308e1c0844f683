"""Asynchronous successive halving: which running trials are worth more epochs, judged by those that came as far."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from mtl.config import TrialConfig
from mtl.vocabulary.objective import Objective
from search.early_stopping.objectives import objective_costs
from search.early_stopping.pareto_order import pareto_order

EpochRow = Mapping[str, float]


class SuccessiveHalving:
    """Rungs of trials, and the decision at each: ASHA with one objective, MO-ASHA with several.

    Rung k is reached after `grace_epochs` · `reduction_factor`^k epochs. A trial that reaches it is recorded there and
    goes on if and only if

        #{recorded trials placed before it} < ceil(n / reduction_factor)

    with n the trials recorded at the rung so far, itself included, and places as `pareto_order` gives them. This is the
    stopping variant of ASHA (algorithm 2 of Li et al. 2020, arXiv 1810.05934, is the promotion variant): each trial is
    judged once, as it arrives, and never waits for others. With up to `reduction_factor` records there is one place, so
    that the first trial goes on, and after it those that are the best so far; whoever ties with a trial that would go
    on goes on too. Ray's AsyncHyperBandScheduler compares the value with the quantile 1 - 1 / reduction_factor of those
    before it; its decisions are the same but for a value between the two from which it interpolates that quantile.
    Several objectives (Schmucker et al. 2021, arXiv 2106.12639) have an order but no quantile, hence the count.

    Trials are compared with those of the same tasks only: other tasks, other metrics.

    Dense trials (strength 0) are never stopped: delta_m is measured against them. They are recorded as marks: a trial
    that a dense one dominates comes in a later front, and one that is next to it comes late in the net. But they count
    neither in n nor among those placed before: a dense trial would hold one of the few places without need, and in
    a combination with one seed and few strengths it would leave none to the trials that the sweep is for.

    Where an objective's value is missing or not finite a trial is placed last; where all lack it nothing is known, all
    share a place, and none is stopped.

    What it knows follows from the rows alone: after a restart, `record` the histories and go on.

    Args:
        objectives: what trials are compared by; the first breaks ties in the net.
        primaries: the primary metric of each task, by the task's name, as a column of the history.
        grace_epochs: epochs that every trial gets, at least 1.
        reduction_factor: of n trials at a rung about n / reduction_factor go on; at least 2.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        primaries: Mapping[str, Objective],
        grace_epochs: int,
        reduction_factor: int,
    ) -> None:
        self._objectives, self._primaries = tuple(objectives), dict(primaries)
        self._grace_epochs, self._reduction_factor = grace_epochs, reduction_factor
        # By tasks and epochs, then by trial.
        self._rungs: defaultdict[tuple[tuple[str, ...], int], dict[str, EpochRow]] = defaultdict(dict)
        self._dense: set[str] = set()

    def report(self, config: TrialConfig, row: EpochRow) -> bool:
        """Record an epoch that a trial has just run; whether the trial goes on.

        A trial is judged once at a rung: one that reports an epoch again, as after a crash, goes on.
        """
        if not self.record(config, row) or config.strength == 0:
            return True
        trials = self._rungs[config.tasks, _epochs(row)]
        primaries = [self._primaries[task] for task in config.tasks]
        places = pareto_order(objective_costs(list(trials.values()), self._objectives, primaries)).tolist()
        own = places[list(trials).index(config.trial_id)]
        rivals = [place for trial, place in zip(trials, places, strict=True) if trial not in self._dense]
        allowed = -(-len(rivals) // self._reduction_factor)
        return sum(place < own for place in rivals) < allowed

    def record(self, config: TrialConfig, row: EpochRow) -> bool:
        """Record an epoch without judging; whether that is news, the epoch being a rung's and the trial new to it."""
        if not self._is_rung(_epochs(row)):
            return False
        trials = self._rungs[config.tasks, _epochs(row)]
        if config.trial_id in trials:
            return False
        trials[config.trial_id] = row
        if config.strength == 0:
            self._dense.add(config.trial_id)
        return True

    def why_stopped(self, config: TrialConfig) -> str:
        """Nothing: a row that was stopped is of a trial that fell behind."""
        return ""

    def _is_rung(self, epochs: int) -> bool:
        rung = self._grace_epochs
        while rung < epochs:
            rung *= self._reduction_factor
        return rung == epochs


def _epochs(row: EpochRow) -> int:
    """Epochs that a trial has run with this one."""
    return int(row["epoch"]) + 1
