"""Asynchronous successive halving: after some epochs, only the best of the trials so far go on."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from mtl.config import TrialConfig
from mtl.vocabulary.objective import MODEL_MACS, Objective
from search.early_stopping.objectives import objective_costs
from search.early_stopping.pareto_order import pareto_order

EpochRow = Mapping[str, float]


class SuccessiveHalving:
    """The rungs and the decision at each rung: ASHA with one objective, MO-ASHA with several.

    Rung k is reached after `grace_epochs` · `reduction_factor`^k epochs. A trial that reaches it is recorded there and
    goes on if and only if

        #{recorded trials placed before it} < ceil(n / reduction_factor)

    where n is the number of trials recorded at the rung so far, itself included, and `pareto_order` gives the places.
    This is the stopping variant of ASHA (algorithm 2 of Li et al. 2020, arXiv 1810.05934, is the promotion variant):
    each trial is judged once, when it arrives, and never waits for others. Up to `reduction_factor` records there is
    one place, so the first trial goes on, and then each trial that is the best so far. A trial goes on if it ties with
    one that would. Ray's AsyncHyperBandScheduler compares the value with the quantile 1 - 1 / reduction_factor of the
    earlier values. Its decisions are the same, except for a value between the two from which it interpolates the
    quantile. Several objectives (Schmucker et al. 2021, arXiv 2106.12639) have an order but no quantile, so here trials
    are counted.

    Only trials of the same tasks are compared: other tasks have other metrics.

    Dense trials are never stopped, because delta_m is measured against them. They are recorded as marks:
    a trial that a dense trial dominates is in a later front, and a trial close to it comes late in the net. But they
    count neither in n nor among the trials placed before: a dense trial would take one of the few places without need,
    and in a combination with one seed and few strengths it would leave no place for the trials that the sweep is for.

    A trial without a finite value of an objective is placed last. If all trials lack it, nothing is known: they share
    a place, and none is stopped.

    All state follows from the rows: after a restart, `record` the histories and continue.

    Args:
        objectives: the values that are compared; the first breaks ties in the net.
        primaries: the primary metric of each task, by the task's name, as a column of the history.
        grace_epochs: epochs that every trial gets, at least 1.
        reduction_factor: at least 2; of n trials at a rung about n / reduction_factor go on.
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
        """Record an epoch that a trial has just run; returns whether the trial goes on.

        A trial is judged once at each rung. If it reports an epoch again, for instance after a crash, it goes on.
        """
        if not self.record(config, row) or config.dense:
            return True
        trials = self._rungs[config.tasks, _epochs(row)]
        primaries = [self._primaries[task] for task in config.tasks]
        places = pareto_order(objective_costs(list(trials.values()), self._objectives, primaries)).tolist()
        own = places[list(trials).index(config.trial_id)]
        rivals = [place for trial, place in zip(trials, places, strict=True) if trial not in self._dense]
        allowed = -(-len(rivals) // self._reduction_factor)
        return sum(place < own for place in rivals) < allowed

    def record(self, config: TrialConfig, row: EpochRow) -> bool:
        """Record an epoch without judging; returns whether it is a rung that is new for the trial."""
        if not self._is_rung(_epochs(row)):
            return False
        trials = self._rungs[config.tasks, _epochs(row)]
        if config.trial_id in trials:
            return False
        # Its target stands for its cost: scale does not matter to the order.
        trials[config.trial_id] = {MODEL_MACS: config.target_macs, **row}
        if config.dense:
            self._dense.add(config.trial_id)
        return True

    def why_stopped(self, config: TrialConfig) -> str:
        """Empty: every trial that is stopped was behind others."""
        return ""

    def _is_rung(self, epochs: int) -> bool:
        rung = self._grace_epochs
        while rung < epochs:
            rung *= self._reduction_factor
        return rung == epochs


def _epochs(row: EpochRow) -> int:
    """The number of epochs that a trial has run, this one included."""
    return int(row["epoch"]) + 1
