"""The fields that a search leaves open: the parameters that Optuna proposes, and the trials that they stand for."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import Trial
from pydantic import ValidationError

from mtl.config import LARGEST_STRENGTH, Compressor, TrialConfig
from mtl.errors import BadInput
from mtl.vocabulary.close import did_you_mean
from search.recipe import MOST_TRIALS, SEARCHABLE, Recipe, trial_settings
from search.tuning.axis import LAMBDA, TARGET, Axis, lambda_axis, rounded, target_axis

COMBINATION, RETRAINING, COMPRESSOR = "combination", "retraining", "compressor"
PATH, SELECTION = "path", "selection"
PENALTY = "penalty"  # the compressor whose strength is lambda; all others have a target
STAGES = tuple(f"lambda_stage{stage}" for stage in range(1, 5))
RANGES = tuple(name for name, kind in SEARCHABLE.items() if kind == "range")
CHOICES = ("penalty", *(name for name, kind in SEARCHABLE.items() if kind == "choice"), RETRAINING)
OPEN = (LAMBDA, COMBINATION, *STAGES, COMPRESSOR, TARGET, *RANGES, *CHOICES)
# These have no meaning without a penalty: in the dense model and with other compressors they are the recipe's own.
OF_PENALTY = ("penalty", "metric", RETRAINING, *STAGES)
# These change what a share of the dense model's cost is.
OF_COST = ("backbone", "backbone_width", "head_channels", COMBINATION)
SMALLEST_STRENGTH = 1e-30  # a smaller value is nothing in float32, and soon has no logarithm
LARGEST_TARGET = 0.95  # of a range that ends at 1: what is between costs as much as the dense model

Params = dict[str, Any]


@dataclass(frozen=True)
class SearchSpace:
    """The open fields of a recipe; `search.tuning.make_space` has checked them.

    The space is conditional: a proposal with the compressor `penalty` has a lambda and no target, one with any other
    compressor has a target and nothing that belongs to the penalty.

    Attributes:
        recipe: gives all fields that are not open.
        data_version, weights_version, network_version: as in TrialConfig.
        compressors: those that are searched, `penalty` first; with several of them a proposal chooses one.
        axes: by name, lambda if the penalty is searched and target_macs if another compressor is. The dense model lies
            on the first of them.
        choices: the values of each other categorical parameter.
        ranges: the ends of each other continuous parameter.
    """

    recipe: Recipe
    data_version: str
    weights_version: str
    compressors: tuple[str, ...]
    axes: Mapping[str, Axis]
    choices: Mapping[str, tuple[Any, ...]]
    ranges: Mapping[str, tuple[float, float]]
    network_version: str = ""

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions of all parameters by name; `active` says which of them a proposal has."""
        found: dict[str, BaseDistribution] = {}
        if len(self.compressors) > 1:
            found[COMPRESSOR] = CategoricalDistribution(self.compressors)
        found |= {name: axis.distribution for name, axis in self.axes.items()}
        for name, (low, high) in self.ranges.items():
            found[name] = FloatDistribution(low, high, log=low > 0)
        return found | {name: CategoricalDistribution(values) for name, values in self.choices.items()}

    @property
    def conditional(self) -> bool:
        """Whether proposals differ in which parameters they have."""
        return len(self.axes) > 1

    def active(self, params: Mapping[str, Any]) -> dict[str, BaseDistribution]:
        """The distributions of the parameters that a proposal has, given its compressor."""
        compressor = self.compressor(params)
        without = (TARGET,) if compressor == PENALTY else (LAMBDA, *OF_PENALTY)
        return {name: one for name, one in self.distributions.items() if name not in without}

    def suggest(self, trial: Trial) -> None:
        """Give an Optuna trial its parameters, one after the other; those that it has already stay."""
        if COMPRESSOR in self.distributions:
            trial._suggest(COMPRESSOR, self.distributions[COMPRESSOR])
        for name, distribution in self.active(trial.params).items():
            trial._suggest(name, distribution)

    def compressor(self, params: Mapping[str, Any]) -> str:
        """The compressor of a proposal."""
        return str(params.get(COMPRESSOR, self.compressors[0]))

    def axis(self, params: Mapping[str, Any]) -> Axis:
        """The axis on which a proposal lies."""
        return self._axis_of(self.compressor(params))

    def _axis_of(self, compressor: str) -> Axis:
        return self.axes[LAMBDA if compressor == PENALTY else TARGET]

    @property
    def names(self) -> list[str]:
        """The names of all parameters."""
        return list(self.distributions)

    @property
    def settings(self) -> list[str]:
        """The open parameters that are fields of a trial: all but its compressor and strength, and the tasks."""
        return [name for name in (*self.choices, *self.ranges) if name != COMBINATION and name not in STAGES]

    @property
    def cost_follows(self) -> bool:
        """Whether a proposal's target tells its model's cost, compared with that of every other proposal."""
        return LAMBDA not in self.axes and not {*OF_COST} & {*self.choices}

    # From parameters to trials, and back

    @property
    def unused(self) -> list[str]:
        """The names of the recipe's search_space that nothing looks at, as they are the penalty's and that is not
        searched. They may stand in a recipe for those who search it."""
        if PENALTY in self.compressors:
            return []
        return [name for name in self.recipe.search_space if name in (LAMBDA, *OF_PENALTY)]

    def config(self, params: Mapping[str, Any], seed: int) -> TrialConfig:
        """The trial with these parameters and this seed."""
        values = {name: rounded(params[name], ends) for name, ends in self.ranges.items() if name in params}
        axis = self.axis(params)
        return self._config({**params, **values}, axis.read(params[axis.name]), seed)

    def configs(self, params: Mapping[str, Any]) -> list[TrialConfig]:
        """The trials with these parameters, one for each of the recipe's seeds."""
        return [self.config(params, seed) for seed in self.recipe.seed_list]

    def _config(self, params: Mapping[str, Any], value: float | None, seed: int) -> TrialConfig:
        """value: of lambda or of the target; None for the dense model."""
        settings = trial_settings(self.recipe) | {RETRAINING: self.own(RETRAINING)}
        settings |= {name: params[name] for name in self.settings if name in params}
        factors = zip(STAGES, self.recipe.stage_factors, strict=True)
        settings["stage_factors"] = tuple(params.get(name, own) for name, own in factors)
        compressor = self.compressor(params)
        if value is None or compressor != PENALTY:
            settings |= {name: getattr(self.recipe, name) for name in ("penalty", "metric", "stage_factors")}
            settings[RETRAINING] = "none"
        if value is not None and compressor != PENALTY:
            settings |= {COMPRESSOR: compressor, TARGET: value}
        return TrialConfig(
            **settings,
            tasks=self.recipe.tasks_of(params[COMBINATION]) if COMBINATION in params else self.joint_tasks,
            strength=value if value is not None and compressor == PENALTY else 0.0,
            seed=seed,
            data_version=self.data_version,
            weights_version=self.weights_version,
            network_version=self.network_version,
        )

    def params_of(self, config: TrialConfig) -> Params | None:
        """Parameters that stand for a trial which the search has not proposed; None if it is outside the space."""
        if config.dense:
            value, params = None, self.dense_params
        elif config.compressor not in self.compressors:
            return None
        else:
            axis = self._axis_of(config.compressor)
            value = config.strength if axis.name == LAMBDA else config.target_macs
            if not axis.contains(value):
                return None
            params = self.default_params(value, config.compressor)
        values = dict(zip(STAGES, config.stage_factors, strict=True)) | {COMBINATION: config.combination}
        for name in (*self.choices, *self.ranges):
            if name in params and not (config.dense and name in OF_PENALTY):
                params[name] = values[name] if name in values else getattr(config, name)
        inside = all(contains(distribution, params[name]) for name, distribution in self.active(params).items())
        # Compared unrounded: another sweep's numbers may have more digits.
        if not inside or self._config(params, value, config.seed).trial_id != config.trial_id:
            return None
        return params

    def default_params(self, value: float, compressor: str | None = None) -> Params:
        """The recipe's own settings, or the nearest in the space, with this value of lambda, or of the target.

        compressor: by default the first of those searched.
        """
        compressor = compressor or self.compressors[0]
        params: Params = {COMPRESSOR: compressor} if len(self.compressors) > 1 else {}
        params[self._axis_of(compressor).name] = value
        for name, values in self.choices.items():
            own = "+".join(self.joint_tasks) if name == COMBINATION else self.own(name)
            params[name] = own if own in values else values[0]
        for name, (low, high) in self.ranges.items():
            own = 1.0 if name in STAGES else self.own(name)
            params[name] = min(max(own if own is not None else low, low), high)
        active = self.active(params)
        return {name: one for name, one in params.items() if name in active}

    @property
    def dense_params(self) -> Params:
        """The parameters of the dense model."""
        dense = self._axis_of(self.compressors[0]).dense
        assert dense is not None
        return self.default_params(dense)

    def own(self, name: str) -> Any:
        """The recipe's own value of a trial's field that is open."""
        return self.recipe.retraining[0] if name == RETRAINING else getattr(self.recipe, name)

    @property
    def retrains(self) -> bool:
        """Whether proposals may be retrained."""
        kinds = self.choices.get(RETRAINING, [self.own(RETRAINING)])
        return LAMBDA in self.axes and any(one != "none" for one in kinds)

    @property
    def joint_tasks(self) -> tuple[str, ...]:
        """The largest of the recipe's combinations, which is searched unless the combination is open."""
        return max(self.recipe.task_combinations, key=len)

    @property
    def task_combinations(self) -> list[tuple[str, ...]]:
        """The combinations that a proposal may have."""
        if COMBINATION not in self.choices:
            return [self.joint_tasks]
        return [self.recipe.tasks_of(choice) for choice in self.choices[COMBINATION]]

    def grid(self) -> list[Params]:
        """All combinations of listed values, the dense model first. Raises BadInput if a range is open."""
        if self.ranges:
            raise BadInput(
                f"search_space.{next(iter(self.ranges))} is a range; allowed with sampler grid: a list of values"
            )
        found: dict[str, Params] = {}
        count = 0
        for compressor in self.compressors:
            axis = self._axis_of(compressor)
            values = [*([] if axis.dense is None else [axis.dense]), *axis.values]
            active = self.active({COMPRESSOR: compressor})
            choices = {name: one for name, one in self.choices.items() if name in active}
            count += len(values) * math.prod(map(len, choices.values()))
            if count > MOST_TRIALS:
                raise BadInput(
                    f"search_space has {count:,} combinations of values; allowed with sampler grid: {MOST_TRIALS:,}"
                )
            chosen = {COMPRESSOR: compressor} if COMPRESSOR in active else {}
            for row in itertools.product(values, *choices.values()):
                params = chosen | dict(zip((axis.name, *choices), row, strict=True))
                found.setdefault(self.config(params, 0).trial_id, params)
        return list(found.values())

    def to_plain(self) -> dict[str, Any]:
        """The space as plain data, which a study stores."""
        values = {
            name: [one.low, one.high] if isinstance(one, FloatDistribution) else list(one.choices)
            for name, one in self.distributions.items()
            if isinstance(one, FloatDistribution | CategoricalDistribution)
        }
        listed = {name: list(axis.values) for name, axis in self.axes.items() if axis.listed}
        plain: dict[str, Any] = values | {"listed lambdas": listed.get(LAMBDA, [])}
        if TARGET in self.axes:  # a study from before there were targets does not have these
            plain |= {COMPRESSOR: list(self.compressors), "listed targets": listed.get(TARGET, [])}
        return plain | {
            "tasks": ["+".join(tasks) for tasks in self.task_combinations],
            "seeds": list(self.recipe.seed_list),
        }


def make_space(recipe: Recipe, data_version: str, weights_version: str = "", network_version: str = "") -> SearchSpace:
    """The recipe's space. Raises BadInput for a field that cannot be open and for values that it does not allow."""
    given = {name: list(values) for name, values in recipe.search_space.items()}
    for name in given:
        if name not in OPEN:
            raise BadInput(f"search_space: {name!r}; {did_you_mean(name, OPEN)}allowed: {', '.join(OPEN)}")
    compressors = _compressors(recipe, given)
    strengths, targets = given.pop(LAMBDA, None), given.pop(TARGET, None)
    axes = {}
    if PENALTY in compressors:
        axes[LAMBDA] = _lambdas(recipe, strengths)
        if len(recipe.retraining) > 1:
            given.setdefault(RETRAINING, list(recipe.retraining))
    else:  # as a sweep without the penalty does not look at lambdas
        given = {name: values for name, values in given.items() if name not in OF_PENALTY}
    if compressors != (PENALTY,):
        axes[TARGET] = _targets(recipe, targets, compressors)
    elif targets is not None:
        raise BadInput(
            f"search_space.target_macs = {targets} with compressor penalty, whose lambda decides the cost; allowed: "
            "other compressors, such as search_space.compressor = selection"
        )
    choices = {name: tuple(values) for name, values in given.items() if name in (*CHOICES, COMBINATION)}
    ranges = {name: _range(name, values) for name, values in given.items() if name not in choices}
    space = SearchSpace(recipe, data_version, weights_version, compressors, axes, choices, ranges, network_version)
    _check(space)
    return space


def _compressors(recipe: Recipe, given: dict[str, list[Any]]) -> tuple[str, ...]:
    """Those that are searched, the penalty first; takes them out of `given`."""
    # A path is a chain of trials, each from the model before: its targets are all known before it starts.
    known = tuple(one for one in get_args(Compressor) if one != PATH)
    named = given.pop(COMPRESSOR, None)
    if named is None:
        # Where lambda can only be 0, the penalty stands for the dense model that the others are compared with.
        only_dense = len(recipe.compressors) > 1 and LAMBDA not in given and not any(recipe.lambdas)
        # What a path does to one model is selection.
        asked = {SELECTION if one == PATH else one for one in recipe.compressors}
        return tuple(one for one in known if one in asked and not (only_dense and one == PENALTY))
    for one in named:
        if one not in known:
            raise BadInput(
                f"search_space.compressor has {one!r}; {did_you_mean(one, known)}allowed: {', '.join(known)}"
            )
    if len(set(named)) < len(named) or not named:
        raise BadInput(f"search_space.compressor = {named}; allowed: each value once")
    return tuple(one for one in known if one in named)


def _lambdas(recipe: Recipe, strengths: Sequence[Any] | None) -> Axis:
    listed = strengths is not None and len(strengths) > 2
    if strengths is None:
        strengths = [value for value in recipe.lambdas if value > 0]
        if len(strengths) > 1:
            strengths = [min(strengths), max(strengths)]
    numbers = [float(value) for value in strengths if _is_number(value)]
    positive = sorted({number for number in numbers if number > 0})
    inside = all(SMALLEST_STRENGTH <= number <= LARGEST_STRENGTH for number in positive)
    if len(numbers) < len(strengths) or min(numbers, default=0) < 0 or len(positive) < 2 or not inside:
        raise BadInput(
            f"search_space.lambda = {list(strengths)}; allowed: the two positive ends of a range, or a list of values, "
            f"{SMALLEST_STRENGTH:g} to {LARGEST_STRENGTH:g} (left out: from the smallest to the largest of lambdas; 0 "
            "is always searched too)"
        )
    return lambda_axis(positive, listed)


def _targets(recipe: Recipe, targets: Sequence[Any] | None, compressors: Sequence[str]) -> Axis:
    if targets is None and not recipe.targets:
        others = ", ".join(one for one in compressors if one != PENALTY)
        raise BadInput(f"search_space.target_macs is missing; allowed with {others}: the ends of a range, or a list")
    listed = recipe.sampler == "grid" if targets is None else len(targets) > 2
    if targets is None:
        targets = list(recipe.targets) if listed else [min(recipe.targets), 1.0]
    numbers = [float(value) for value in targets if _is_number(value)]
    # 1 is the dense model.
    below = sorted({number for number in numbers if number < 1})
    if not listed and len(below) == 1 and 1.0 in numbers:
        below.append(LARGEST_TARGET)
    inside = len(numbers) == len(targets) and all(SMALLEST_STRENGTH <= number <= 1 for number in numbers)
    if not inside or len(below) < (1 if listed else 2) or below != sorted(below):
        raise BadInput(
            f"search_space.target_macs = {list(targets)}; allowed: the two ends of a range, or a list of values, above "
            f"0 and at most 1, the smallest below {LARGEST_TARGET:g} (left out: from the smallest of targets to 1; the "
            "dense model is always searched too)"
        )
    return target_axis(below, listed, has_dense=PENALTY not in compressors)


def _range(name: str, values: Sequence[Any]) -> tuple[float, float]:
    if len(values) != 2 or not all(_is_number(value) for value in values) or not 0 <= values[0] < values[1]:
        raise BadInput(f"search_space.{name} = {list(values)}; allowed: two numbers, the lower end of the range first")
    return float(values[0]), float(values[1])


def _check(space: SearchSpace) -> None:
    """Raise BadInput if a value of the space makes no trial."""
    for name, values in (*space.choices.items(), *space.ranges.items()):
        if len(set(values)) < len(values) or not values:
            raise BadInput(f"search_space.{name} = {list(values)}; allowed: each value once")
        for value in values:
            tasks = str(value).split("+")
            if name == COMBINATION and (len(set(tasks)) < len(tasks) or not set(tasks) <= set(space.recipe.tasks)):
                allowed = f"{list(space.recipe.tasks)} joined by +"
                raise BadInput(f"search_space.combination has {value!r}; allowed: {allowed}")
            (axis, *_) = space.axes.values()
            # Of the axis' sparse models: the dense model does without what belongs to the penalty.
            params = space.default_params(axis.values[-1]) | {name: value}
            try:
                space.config(params, 0)
            except ValidationError as error:
                allowed = error.errors()[0]["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
                raise BadInput(f"search_space.{name} has {value!r}; allowed: {allowed}") from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value, of whatever type, is one of the distribution's."""
    if isinstance(distribution, CategoricalDistribution):
        return isinstance(value, int | float | str) and value in distribution.choices
    assert isinstance(distribution, FloatDistribution)
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high
