"""The fields that a search leaves open: the parameters that Optuna proposes, and the trials that they stand for."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from pydantic import ValidationError

from mtl.config import LARGEST_STRENGTH, TrialConfig
from mtl.errors import BadInput
from search.recipe import MOST_TRIALS, SEARCHABLE, Recipe, trial_settings

LAMBDA, COMBINATION, RETRAINING = "lambda", "combination", "retraining"
STAGES = tuple(f"lambda_stage{stage}" for stage in range(1, 5))
RANGES = tuple(name for name, kind in SEARCHABLE.items() if kind == "range")
CHOICES = ("penalty", *(name for name, kind in SEARCHABLE.items() if kind == "choice"), RETRAINING)
OPEN = (LAMBDA, COMBINATION, *STAGES, *RANGES, *CHOICES)
# These have no meaning without a penalty: in the dense model they are the recipe's own.
OF_PENALTY = ("penalty", "metric", RETRAINING, *STAGES)
# 0 has no logarithm: values below the range of lambda stand for the dense model, in a bin of this relative width.
DENSE_BIN = 0.9
SMALLEST_STRENGTH = 1e-30  # a smaller value is nothing in float32, and soon has no logarithm
DIGITS = 3  # of a proposed number: more would only be noise, and hide that two proposals are the same

Params = dict[str, Any]


@dataclass(frozen=True)
class SearchSpace:
    """The open fields of a recipe; `make_space` has checked them.

    Attributes:
        recipe: gives all fields that are not open.
        data_version, weights_version: as in TrialConfig.
        lambdas: the two ends of the range of lambda, or all allowed values if `listed`; 0 is always allowed too.
        choices: the values of each categorical parameter.
        ranges: the ends of each continuous parameter.
    """

    recipe: Recipe
    data_version: str
    weights_version: str
    lambdas: tuple[float, ...]
    listed: bool
    choices: Mapping[str, tuple[Any, ...]]
    ranges: Mapping[str, tuple[float, float]]

    @cached_property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions by the parameter's name."""
        found: dict[str, BaseDistribution] = {
            LAMBDA: FloatDistribution(self.lambdas[0] * DENSE_BIN, self.lambdas[-1], log=True)
        }
        for name, (low, high) in self.ranges.items():
            found[name] = FloatDistribution(low, high, log=low > 0)
        return found | {name: CategoricalDistribution(values) for name, values in self.choices.items()}

    @property
    def names(self) -> list[str]:
        """The names of all parameters."""
        return list(self.distributions)

    @property
    def settings(self) -> list[str]:
        """The open parameters that are fields of a trial: all but lambda, its factors and the tasks."""
        return [name for name in (*self.choices, *self.ranges) if name != COMBINATION and name not in STAGES]

    # From parameters to trials, and back

    def strength(self, params: Mapping[str, Any]) -> float:
        """Lambda itself: rounded, or the nearest of the listed values; 0 below the range."""
        value = params[LAMBDA]
        if value < self.lambdas[0] * math.sqrt(DENSE_BIN):
            return 0.0
        if self.listed:
            return min(self.lambdas, key=lambda one: abs(math.log(one / value)))
        return _rounded(value, (self.lambdas[0], self.lambdas[-1]))

    def config(self, params: Mapping[str, Any], seed: int) -> TrialConfig:
        """The trial with these parameters and this seed."""
        rounded = {name: _rounded(params[name], ends) for name, ends in self.ranges.items() if name in params}
        return self._config({**params, **rounded}, self.strength(params), seed)

    def configs(self, params: Mapping[str, Any]) -> list[TrialConfig]:
        """The trials with these parameters, one for each of the recipe's seeds."""
        return [self.config(params, seed) for seed in self.recipe.seed_list]

    def _config(self, params: Mapping[str, Any], strength: float, seed: int) -> TrialConfig:
        settings = trial_settings(self.recipe) | {RETRAINING: self.own(RETRAINING)}
        settings |= {name: params[name] for name in self.settings if name in params}
        factors = zip(STAGES, self.recipe.stage_factors, strict=True)
        settings["stage_factors"] = tuple(params.get(name, own) for name, own in factors)
        if strength == 0:
            settings |= {name: getattr(self.recipe, name) for name in ("penalty", "metric", "stage_factors")}
            settings[RETRAINING] = "none"
        return TrialConfig(
            **settings,
            tasks=self.recipe.tasks_of(params[COMBINATION]) if COMBINATION in params else self.joint_tasks,
            strength=strength,
            seed=seed,
            data_version=self.data_version,
            weights_version=self.weights_version,
        )

    def params_of(self, config: TrialConfig) -> Params | None:
        """Parameters that stand for a trial which the search has not proposed; None if it is outside the space."""
        dense = config.strength == 0
        if not dense and not self.lambdas[0] <= config.strength <= self.lambdas[-1]:
            return None
        params = self.default_params(self.lambdas[0] * DENSE_BIN if dense else config.strength)
        values = dict(zip(STAGES, config.stage_factors, strict=True)) | {COMBINATION: config.combination}
        for name in (*self.choices, *self.ranges):
            if not (dense and name in OF_PENALTY):
                params[name] = values[name] if name in values else getattr(config, name)
        inside = all(contains(distribution, params[name]) for name, distribution in self.distributions.items())
        # Compared unrounded: another sweep's numbers may have more digits.
        if not inside or self._config(params, config.strength, config.seed).trial_id != config.trial_id:
            return None
        return params

    def default_params(self, value: float) -> Params:
        """The recipe's own settings, or the nearest in the space, with this value of the parameter lambda."""
        params: Params = {LAMBDA: value}
        for name, values in self.choices.items():
            own = "+".join(self.joint_tasks) if name == COMBINATION else self.own(name)
            params[name] = own if own in values else values[0]
        for name, (low, high) in self.ranges.items():
            own = 1.0 if name in STAGES else self.own(name)
            params[name] = min(max(own if own is not None else low, low), high)
        return params

    @property
    def dense_params(self) -> Params:
        """The parameters of the dense model."""
        return self.default_params(self.lambdas[0] * DENSE_BIN)

    def own(self, name: str) -> Any:
        """The recipe's own value of a trial's field that is open."""
        return self.recipe.retraining[0] if name == RETRAINING else getattr(self.recipe, name)

    @property
    def retrains(self) -> bool:
        """Whether proposals may be retrained."""
        return any(one != "none" for one in self.choices.get(RETRAINING, [self.own(RETRAINING)]))

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
        count = (1 + len(self.lambdas)) * math.prod(map(len, self.choices.values()))
        if count > MOST_TRIALS:
            raise BadInput(
                f"search_space has {count:,} combinations of values; allowed with sampler grid: {MOST_TRIALS:,}"
            )
        found: dict[str, Params] = {}
        for values in itertools.product((self.lambdas[0] * DENSE_BIN, *self.lambdas), *self.choices.values()):
            params = dict(zip((LAMBDA, *self.choices), values, strict=True))
            found.setdefault(self.config(params, 0).trial_id, params)
        return list(found.values())

    def to_plain(self) -> dict[str, Any]:
        """The space as plain data, which a study stores."""
        values = {
            name: [one.low, one.high] if isinstance(one, FloatDistribution) else list(self.choices[name])
            for name, one in self.distributions.items()
        }
        return values | {
            "listed lambdas": list(self.lambdas) if self.listed else [],
            "tasks": ["+".join(tasks) for tasks in self.task_combinations],
            "seeds": list(self.recipe.seed_list),
        }


def make_space(recipe: Recipe, data_version: str, weights_version: str = "") -> SearchSpace:
    """The recipe's space. Raises BadInput for a field that cannot be open and for values that it does not allow."""
    given = {name: list(values) for name, values in recipe.search_space.items()}
    for name in given:
        if name not in OPEN:
            raise BadInput(f"search_space: {name!r}; allowed: {', '.join(OPEN)}")
    strengths = given.pop(LAMBDA, None)
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
    if len(recipe.retraining) > 1:
        given.setdefault(RETRAINING, list(recipe.retraining))
    choices = {name: tuple(values) for name, values in given.items() if name in (*CHOICES, COMBINATION)}
    ranges = {name: _range(name, values) for name, values in given.items() if name not in choices}
    space = SearchSpace(recipe, data_version, weights_version, tuple(positive), listed, choices, ranges)
    _check(space)
    return space


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
            params = space.default_params(space.lambdas[-1]) | {name: value}
            try:
                space.config(params, 0)
            except ValidationError as error:
                allowed = error.errors()[0]["msg"].removeprefix("Input should be ")
                raise BadInput(f"search_space.{name} has {value!r}; allowed: {allowed}") from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _rounded(value: float, ends: tuple[float, float]) -> float:
    """Rounded, but still inside the range if its ends have more digits."""
    return min(max(float(f"{value:.{DIGITS}g}"), ends[0]), ends[1])


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value, of whatever type, is one of the distribution's."""
    if isinstance(distribution, CategoricalDistribution):
        return isinstance(value, int | float | str) and value in distribution.choices
    assert isinstance(distribution, FloatDistribution)
    return isinstance(value, int | float) and distribution.low <= value <= distribution.high
