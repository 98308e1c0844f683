"""Asks an Optuna study for parameters that have not been proposed before."""

from collections.abc import Callable, Sequence

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from search.tuning.axis import LAMBDA, TARGET
from search.tuning.samplers import STARTUP, MakeSampler
from search.tuning.space import COMPRESSOR, PENALTY, Params, SearchSpace

# How often a sampler may repeat an earlier proposal before a new one is drawn at random.
TRIES = 4
# Attributes of the study's trials: the earlier trial that it repeats, whether a sweep has run it already, the ids of
# our trials, and how many seeds had run when racing last tested it.
DUPLICATE, SEEDED, TRIALS, LOOKED = "duplicate_of", "seeded", "trial_ids", "looked"

# The number of the proposal that has the trial with this id, or None.
NumberOf = Callable[[str], int | None]


class Asker:
    """Asks a search's study for proposals. If the driver dies meanwhile, the next driver finishes what it began."""

    def __init__(self, study: optuna.Study, space: SearchSpace, make_sampler: MakeSampler, seed: int) -> None:
        self.study, self._space, self.make_sampler, self._seed = study, space, make_sampler, seed

    def trials(self) -> list[FrozenTrial]:
        """The study's trials in the order of their numbers; do not change them."""
        return self.study.get_trials(deepcopy=False)

    def ask(self, number_of: NumberOf) -> Trial | None:
        """A trial with new parameters, the queued ones first; None if nothing new was found.

        Duplicates are told as failed; samplers ignore failed trials.
        """
        tries = 0
        while True:
            # A queued trial may be a duplicate too; only the sampler's own duplicates count as tries.
            if all(trial.state != TrialState.WAITING for trial in self.trials()):
                if tries >= TRIES and not self._enqueue_unseen(number_of):
                    return None
                tries += 1
            self.study.sampler = self._sampler(self._asked())
            trial = self.study.ask()
            self._space.suggest(trial)
            if self._is_new(trial, number_of):
                return trial

    def finish_asking(self, number: int, number_of: NumberOf) -> Trial | None:
        """Finish this trial, for which an earlier driver was asking when it died; a queued trial would be lost else."""
        self.study.sampler = self._sampler(self._asked() - 1)
        trial = Trial(self.study, self.trials()[number]._trial_id)
        self._space.suggest(trial)
        return trial if self._is_new(trial, number_of) else None

    def lay_out(self, design: Sequence[Params]) -> None:
        """Queue the first proposals, except those that an earlier run has queued already."""
        before = sum(SEEDED not in trial.user_attrs for trial in self.trials())
        for params in design[before:] if before < len(design) else ():
            self.study.enqueue_trial(dict(params))

    def _asked(self) -> int:
        return sum(trial.state != TrialState.WAITING for trial in self.trials())

    def _sampler(self, asked: int) -> BaseSampler:
        """The sampler for the proposal after so many."""
        return self.make_sampler(mixed(self._seed, asked))

    def _first_id(self, params: Params) -> str:
        return self._space.config(params, self._space.recipe.seed_list[0]).trial_id

    def _is_new(self, trial: Trial, number_of: NumberOf) -> bool:
        """Whether the trial is no duplicate. Notes in the study which it is, and queues a neighbour of a duplicate."""
        configs = self._space.configs(trial.params)
        twin = number_of(configs[0].trial_id)
        if twin is None:
            trial.set_user_attr(LAMBDA, configs[0].strength)
            if configs[0].compressor != PENALTY:
                trial.set_user_attr(TARGET, configs[0].target_macs)
            trial.set_user_attr(TRIALS, [config.trial_id for config in configs])
            return True
        trial.set_user_attr(DUPLICATE, twin)
        self.study.tell(trial, state=TrialState.FAIL)
        neighbour = self._neighbour(trial.params, number_of)
        if neighbour is not None:
            self.study.enqueue_trial(neighbour)
        return False

    def _neighbour(self, params: Params, number_of: NumberOf) -> Params | None:
        """If lambdas or targets are listed: the same parameters with the nearest value that is new."""
        axis = self._space.axis(params)
        for value in axis.nearest_first(params[axis.name]) if axis.listed else ():
            if number_of(self._first_id(params | {axis.name: value})) is None:
                return params | {axis.name: value}
        return None

    def _enqueue_unseen(self, number_of: NumberOf) -> bool:
        """Queue a new proposal drawn at random; False if none was found."""
        for attempt in range(100):
            scratch = optuna.create_study(sampler=RandomSampler(mixed(self._seed, len(self.trials()), attempt)))
            trial = scratch.ask()
            self._space.suggest(trial)
            params = trial.params
            if number_of(self._first_id(params)) is None:
                self.study.enqueue_trial(params)
                return True
        return False


def first_design(space: SearchSpace, covered: bool, number_of: NumberOf) -> list[Params]:
    """The first proposals: the dense model, and values over the range of lambda or of the target. If the range is
    covered, only what is missing of the dense model and of the ends of targets.

    Several compressors have equally many of them.
    """

    def is_known(params: Params) -> bool:
        return number_of(space.config(params, space.recipe.seed_list[0]).trial_id) is not None

    several = len(space.compressors) > 1
    count = -(-(STARTUP - 1) // len(space.compressors))
    design: list[Params] = []
    for compressor in space.compressors:
        chosen: Params = {COMPRESSOR: compressor} if several else {}
        axis = space.axis(chosen)
        ends = [value for value in axis.ends if not is_known(space.default_params(value, compressor))]
        design += [chosen | {axis.name: value} for value in (ends if covered else axis.first(count))]
    return design if is_known(space.dense_params) else [space.dense_params, *design]


def mixed(*numbers: int) -> int:
    """A seed made from several numbers; neighbouring numbers give very different seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
