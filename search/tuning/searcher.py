"""Proposals by Optuna's ask and tell: which trials run next, which are dropped, and what the study is told."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from mtl.config import TrialConfig
from mtl.vocabulary.constraint import Constraint
from mtl.vocabulary.objective import Objective
from search.early_stopping.successive_halving import SuccessiveHalving
from search.store.clock import now
from search.store.results import TrialResult
from search.tuning.ask import LOOKED, SEEDED, TRIALS, Asker, first_design
from search.tuning.axis import LAMBDA
from search.tuning.baselines import Baselines
from search.tuning.proposals import Proposal, State
from search.tuning.racing import WRONG, p_not_dominated
from search.tuning.samplers import MakeSampler
from search.tuning.space import Params, SearchSpace

STOPPED_EARLY = "stopped early"


class LambdaSearcher:
    """The trials of a search, in their order, as a source for the runner.

    A proposal is one trial of Optuna's, and one trial of ours for each seed. The study is told once all of them have
    ended: complete, with the mean of each objective over the seeds; pruned if the proposal was stopped early, so that
    values from half a training are not taken for values of a whole one; failed if a seed failed or an objective is not
    a number. Several proposals run at once; Optuna's samplers know of the ones that are still running.

    No proposal is run twice. The baselines of delta_m come first, then the dense model and a few values over the range
    of lambda or of the target, then the sampler's proposals.

    All state follows from the study and the trials' results, so a restarted search continues where it was.

    Args:
        study: made by `search.tuning.study.open_study`.
        make_sampler: made by `search.tuning.samplers.find_sampler`.
        objectives: the study's, in its order.
        constraints: conditions on a proposal's means; the samplers prefer proposals that meet them.
        baselines: run after the first proposal, with the trials beside them; they may have results already.
        proposals: how many to make in all, with those of earlier runs.
        seed: of the samplers.
        known: results of trials that have ended in any sweep, by id.
        racing: whether to drop the remaining seeds of a proposal that is certainly dominated.
        halving: makes the policy that stops trials early, one for each seed; it may return None.
        on_dropped: called with the result of each trial that was dropped before it started.
        design: the first proposals; by default those of `search.tuning.ask.first_design`.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        make_sampler: MakeSampler,
        objectives: Sequence[Objective],
        *,
        constraints: Sequence[Constraint] = (),
        baselines: Baselines,
        proposals: int,
        seed: int = 0,
        known: Mapping[str, TrialResult] | None = None,
        racing: bool = True,
        halving: Callable[[], SuccessiveHalving | None] = lambda: None,
        on_dropped: Callable[[TrialResult], None] = lambda result: None,
        design: Sequence[Params] | None = None,
    ) -> None:
        self.study, self.space, self.baselines = study, space, baselines
        self._asker = Asker(study, space, make_sampler, seed)
        self._objectives, self._constraints = tuple(objectives), tuple(constraints)
        self._wanted, self._racing, self._on_dropped = proposals, racing, on_dropped
        self._known = dict(known or {})
        # Trials are compared with others of the same seed: the seeds of a proposal do not compete.
        self._policies = {one: policy for one in space.recipe.seed_list if (policy := halving()) is not None}
        self.proposals: list[Proposal] = []
        self._of_trial: dict[str, Proposal] = {}
        self._queue: deque[TrialConfig] = deque()
        self._closed = False
        self._open_baselines: set[str] = set()
        for config in baselines.configs:
            if config.trial_id in self._known:
                baselines.record(self._known[config.trial_id])
            else:
                self._open_baselines.add(config.trial_id)
                self._queue.append(config)
        self._beside = [config for config in baselines.beside if config.trial_id not in self._known]
        self._restore()
        self._seed_from_known()
        # A sweep whose trials the search starts from has covered the range; baselines alone have not.
        covered = any(proposal.seeded and not proposal.dense for proposal in self.proposals)
        self._asker.lay_out(first_design(space, covered, self._number_of) if design is None else design)
        for proposal in self.proposals:  # a driver may have died before it tested a proposal after a trial's end
            if proposal.state == "running":
                self._race(proposal)

    # The source of trials

    def next(self) -> TrialConfig | None:
        """The next trial to start; None if there is none at the moment."""
        if not self._queue:
            while not self._queue and not self._closed and self._made < self._wanted:
                trial = self._asker.ask(self._number_of)
                if trial is None:
                    self._closed = True  # nothing new is left to propose
                else:
                    self._begin_asked(trial)
            # These come last: the dense proposal is made while its trials, which may be baselines, still run.
            self._queue += self._beside
            self._beside.clear()
        return self._queue.popleft() if self._queue else None

    @property
    def exhausted(self) -> bool:
        """Whether no trial is left to start."""
        return not self._queue and not self._beside and (self._closed or self._made >= self._wanted)

    @property
    def waiting(self) -> int:
        """The number of known trials that have not started yet."""
        return len(self._queue) + len(self._beside)

    @property
    def trials(self) -> list[TrialConfig]:
        """All known trials: the baselines, those beside them, and those of proposals."""
        dense = (*self.baselines.configs, *self.baselines.beside)
        return [*dense, *(config for one in self.proposals for config in one.configs)]

    def close(self) -> None:
        """Start no more trials; proposals that are not told stay open for another run."""
        self._closed = True
        self._queue.clear()
        self._beside.clear()

    # What happens to trials

    def record(self, config: TrialConfig, row: Mapping[str, float]) -> None:
        """An epoch after which nothing is decided, for instance of a resumed trial."""
        if config.trial_id in self._of_trial and config.seed in self._policies:
            self._policies[config.seed].record(config, row)

    def report(self, config: TrialConfig, row: Mapping[str, float]) -> bool:
        """An epoch of a trial has ended; whether the trial goes on."""
        proposal = self._of_trial.get(config.trial_id)
        if proposal is None:
            return True
        if proposal.note:
            return False
        if config.seed in self._policies and not self._policies[config.seed].report(config, row):
            self._drop(
                proposal, f"{STOPPED_EARLY}: behind others with seed {config.seed} after epoch {row['epoch'] + 1:g}"
            )
            proposal.early = True
            return False
        return True

    def why_stopped(self, config: TrialConfig) -> str:
        """Why the trial does not go on, in one line."""
        return self._of_trial[config.trial_id].note

    def ended(self, result: TrialResult) -> None:
        """A trial has ended: done, failed or stopped."""
        trial_id = result.config.trial_id
        self._known[trial_id] = result
        proposal = self._of_trial.get(trial_id)
        if trial_id in self._open_baselines:
            self._open_baselines.discard(trial_id)
            self.baselines.record(result)
            for waiting in [one for one in self.proposals if one.state == "running" and one is not proposal]:
                for taken in list(waiting.results.values()):
                    self._take(waiting, taken)  # again, with the delta_m that the baseline makes known
                self._tell_if_ended(waiting)
            self._seed_from_known()
        if proposal is not None:
            self._take(proposal, result)
            if result.status == "failed" and not proposal.note:
                self._drop(proposal, _failure(result))
            self._race(proposal)
            self._tell_if_ended(proposal)

    # Proposing

    @property
    def _made(self) -> int:
        return sum(not proposal.seeded for proposal in self.proposals)

    def _begin_asked(self, trial: Trial) -> None:
        self._begin(Proposal(trial.number, trial.params, tuple(self.space.configs(trial.params))))

    def _number_of(self, trial_id: str) -> int | None:
        proposal = self._of_trial.get(trial_id)
        return None if proposal is None else proposal.number

    def _add(self, proposal: Proposal) -> None:
        self.proposals.append(proposal)
        self._of_trial |= {config.trial_id: proposal for config in proposal.configs}

    def _begin(self, proposal: Proposal) -> None:
        """Queue the proposal's trials, except those that have ended in this search or in another sweep."""
        self._add(proposal)
        for config in proposal.configs:
            if config.trial_id in self._known:
                self._take_known(proposal, self._known[config.trial_id])
            elif config.trial_id not in self.baselines:  # these are queued or running already
                self._queue.append(config)
        for result in proposal.results.values():
            if result.status == "failed":
                proposal.note = proposal.note or _failure(result)
            elif result.status == "stopped":
                proposal.note = proposal.note or result.error or STOPPED_EARLY
                proposal.early |= proposal.note.startswith(STOPPED_EARLY)
        if proposal.note:
            self._drop(proposal, proposal.note)
        self._tell_if_ended(proposal)

    # Dropping and telling

    def _take_known(self, proposal: Proposal, result: TrialResult) -> None:
        """Take an earlier result as if it had ended now, so that its epochs count for stopping other trials early."""
        for row in result.history:
            self.record(result.config, row)
        self._take(proposal, result)

    def _take(self, proposal: Proposal, result: TrialResult) -> None:
        proposal.results[result.config.trial_id] = result
        if result.status == "done":
            proposal.values[result.config.trial_id] = self._columns(result)

    def _columns(self, result: TrialResult) -> dict[str, float]:
        columns = dict(result.metrics) | {"train_seconds": result.train_seconds}
        return columns | {"delta_m": self.baselines.delta_m(result.config, result.metrics)}

    def _drop(self, proposal: Proposal, note: str) -> None:
        """Drop a proposal: its waiting trials are not started, and its running trials stop after their epoch."""
        proposal.note = note
        ids = {config.trial_id for config in proposal.configs}
        dropped = [config for config in self._queue if config.trial_id in ids]
        self._queue = deque(config for config in self._queue if config.trial_id not in ids)
        for config in dropped:
            moment = now()
            result = TrialResult(config, "stopped", moment, moment, error=note)
            proposal.results[config.trial_id] = result
            self._on_dropped(result)

    def _race(self, proposal: Proposal) -> None:
        """Drop the proposal if it is certainly dominated and some of its seeds have not run.

        It is tested once after each of its own seeds, and not after seeds of others: each test may be wrong, and the
        tests share the probability `WRONG`.
        """
        seeds, run = len(proposal.configs), len(proposal.values)
        if not self._racing or proposal.note or proposal.dense or run in (0, proposal.looked, seeds):
            return
        costs = {one.number: self._costs(one) for one in self.proposals if one.values}
        costs = {number: values for number, values in costs.items() if np.isfinite(values).all()}
        if proposal.number not in costs:
            return
        proposal.looked = run
        self._handle(proposal.number).set_user_attr(LOOKED, run)
        p = p_not_dominated(list(costs.values()), list(costs).index(proposal.number)) * (seeds - 1)
        if p <= WRONG:
            self._drop(proposal, f"dropped: dominated by another proposal after {run} of {seeds} seeds (p = {p:.2g})")
            self._tell_if_ended(proposal)

    def _costs(self, proposal: Proposal) -> NDArray[np.float64]:
        """(done seeds, objectives), less is better."""
        signs = np.array([-objective.sign for objective in self._objectives])
        return signs * proposal.columns([objective.column for objective in self._objectives])

    def _tell_if_ended(self, proposal: Proposal) -> None:
        if proposal.state != "running" or not proposal.ended:
            return
        if self._open_baselines:
            return  # delta_m is not known yet
        state, values = self._outcome(proposal)
        trial = self._handle(proposal.number)
        means = proposal.means()
        if state == "complete":
            for constraint in self._constraints:
                trial.set_constraint(str(constraint), constraint.violation(means[constraint.column]))
        trial.set_user_attr("seeds_run", len(proposal.values))
        trial.set_user_attr("means", _finite(means))
        trial.set_user_attr("deviations", _finite(proposal.deviations()))
        if proposal.note:
            trial.set_user_attr("note", proposal.note)
        self.study.tell(proposal.number, values, _TOLD[state])
        proposal.state = state

    def _outcome(self, proposal: Proposal) -> tuple[State, list[float] | None]:
        """What to tell the study about a proposal that has ended."""
        if proposal.failed:
            return "failed", None
        if proposal.early or not proposal.values:
            return "pruned", None
        needed = [one.column for one in self._objectives] + [one.column for one in self._constraints]
        means = proposal.columns(needed).mean(axis=0)
        if not np.isfinite(means).all():
            column = needed[int(np.flatnonzero(~np.isfinite(means))[0])]
            proposal.note = proposal.note or f"{column} is not a number"
            return "failed", None
        return "complete", means[: len(self._objectives)].tolist()

    def _handle(self, number: int) -> Trial:
        """Optuna's trial of this number for writing, whichever run has asked for it."""
        self.study.sampler = RandomSampler()  # Trial's constructor calls its study's sampler, for nothing
        return Trial(self.study, self._asker.trials()[number]._trial_id)

    # Continuing a study, and starting from the results of a sweep

    def _restore(self) -> None:
        """Restore the proposals from the study."""
        half_made = []
        for trial in self._asker.trials():
            if TRIALS not in trial.user_attrs:
                if trial.state == TrialState.RUNNING:
                    half_made.append(trial.number)
                continue
            configs = tuple(self._configs_of(trial))
            proposal = Proposal(trial.number, trial.params, configs, seeded=SEEDED in trial.user_attrs)
            proposal.looked = trial.user_attrs.get(LOOKED, 0)
            if trial.state == TrialState.RUNNING:
                self._begin(proposal)
                continue
            proposal.state = _STATES[trial.state]
            proposal.note = trial.user_attrs.get("note", "")
            proposal.told_means = trial.user_attrs.get("means", {})
            proposal.told_deviations = trial.user_attrs.get("deviations", {})
            self._add(proposal)
            for config in configs:
                if config.trial_id in self._known:
                    self._take_known(proposal, self._known[config.trial_id])
        for number in half_made:
            asked = self._asker.finish_asking(number, self._number_of)
            if asked is not None:
                self._begin_asked(asked)

    def _configs_of(self, trial: FrozenTrial) -> list[TrialConfig]:
        ids = trial.user_attrs[TRIALS] if SEEDED in trial.user_attrs else ()
        return [self._known[one].config for one in ids if one in self._known] or self.space.configs(trial.params)

    def _seed_from_known(self) -> None:
        """Add to the study the trials that a sweep has done with every seed, as complete proposals."""
        if self._open_baselines:
            return
        found: dict[str, dict[int, TrialResult]] = {}
        for result in self._known.values():
            if result.status == "done" and result.config.trial_id not in self._of_trial:
                twin = result.config.model_copy(update={"seed": 0})
                found.setdefault(twin.trial_id, {})[result.config.seed] = result
        for by_seed in found.values():
            if not set(self.space.recipe.seed_list) <= set(by_seed):
                continue
            results = [by_seed[seed] for seed in self.space.recipe.seed_list]
            params = self.space.params_of(results[0].config)
            if params is not None:
                self._add_seeded(params, results)

    def _add_seeded(self, params: Params, results: Sequence[TrialResult]) -> None:
        proposal = Proposal(-1, params, tuple(result.config for result in results), seeded=True)
        for result in results:
            self._take(proposal, result)
        proposal.state, values = self._outcome(proposal)
        if proposal.state != "complete":
            return
        means = proposal.means()
        self.study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE,
                values=values,
                params=dict(params),
                distributions=self.space.active(params),
                constraints={str(one): one.violation(means[one.column]) for one in self._constraints},
                user_attrs={
                    LAMBDA: results[0].config.strength,
                    TRIALS: [result.config.trial_id for result in results],
                    SEEDED: True,
                    "means": _finite(means),
                    "deviations": _finite(proposal.deviations()),
                },
            )
        )
        proposal.number = len(self._asker.trials()) - 1
        self._add(proposal)
        for result in results:
            self._take_known(proposal, result)


_TOLD: dict[State, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_STATES = {told: state for state, told in _TOLD.items()}


def _failure(result: TrialResult) -> str:
    return f"seed {result.config.seed} failed: {result.error}"


def _finite(values: Mapping[str, float]) -> dict[str, Any]:
    """Without the values that JSON cannot hold."""
    return {name: value for name, value in values.items() if math.isfinite(value)}
