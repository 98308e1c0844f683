"""What a search leaves open: the parameters that Optuna proposes, and the trials that follow from them."""

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
from search.recipe import MOST_TRIALS, Recipe, trial_settings

LAMBDA, COMBINATION, RETRAINING = "lambda", "combination", "retraining"
STAGES = tuple(f"lambda_stage{stage}" for stage in range(1, 5))
RANGES = ("lr", "weight_decay", "label_smoothing")
CHOICES = (
    *("penalty", "metric", "task_weighting", "lr_schedule", "batch_size"),
    *("backbone", "backbone_width", "head_channels", RETRAINING),
)
OF_PENALTY = ("penalty", "metric", RETRAINING)  # what besides its factors has no meaning at lambda 0
OPEN = (LAMBDA, COMBINATION, *STAGES, *RANGES, *CHOICES)
# The dense model has no logarithm: what lies below the range of lambda stands for 0, in a bin of this width.
DENSE_BIN = 0.9
SMALLEST_STRENGTH = 1e-30  # less is nothing in a float32, and its logarithm soon none
DIGITS = 3  # of a proposed number: more would be noise, and hide that two proposals are the same

Params = dict[str, Any]


@dataclass(frozen=True)
class SearchSpace:
    """The open fields of a recipe, checked.

    Attributes:
        recipe: all that is not open.
        data_version, weights_version: as in TrialConfig.
        lambdas: the two ends of the range of lambda, or all allowed values where they are listed; 0 comes besides.
        listed: whether they are.
        choices: the values of each categorical parameter.
        ranges: the ends of each continuous one.
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
        """Optuna's, by the parameter's name."""
        found: dict[str, BaseDistribution] = {
            LAMBDA: FloatDistribution(self.lambdas[0] * DENSE_BIN, self.lambdas[-1], log=True)
        }
        for name, (low, high) in self.ranges.items():
            found[name] = FloatDistribution(low, high, log=low > 0)
        return found | {name: CategoricalDistribution(values) for name, values in self.choices.items()}

    def strength(self, params: Mapping[str, Any]) -> float:
        """Lambda itself: rounded, or the nearest of the listed values, and 0 below the range."""
        value = params[LAMBDA]
        if value < self.lambdas[0] * math.sqrt(DENSE_BIN):
            return 0.0
        if self.listed:
            return min(self.lambdas, key=lambda one: abs(math.log(one / value)))
        return _rounded(value, (self.lambdas[0], self.lambdas[-1]))

    def config(self, params: Mapping[str, Any], seed: int) -> TrialConfig:
        """The trial of these parameters and this seed."""
        return self._config(params, self.strength(params), seed)

    def configs(self, params: Mapping[str, Any]) -> list[TrialConfig]:
        """One for each of the recipe's seeds."""
        return [self.config(params, seed) for seed in self.recipe.seed_list]

    def params_of(self, config: TrialConfig) -> Params | None:
        """Parameters that stand for a trial which was not proposed; None where it does not lie in the space."""
        if config.strength == 0:
            value = self.lambdas[0] * DENSE_BIN
        elif self.lambdas[0] <= config.strength <= self.lambdas[-1]:
            value = config.strength
        else:
            return None
        # How a dense model would be penalised is the recipe's own, which may not lie in the space.
        params = self.default_params(value)
        for name in (*self.choices, *self.ranges):
            if config.strength == 0 and name in (*STAGES, *OF_PENALTY):
                continue
            if name == COMBINATION:
                params[name] = config.combination
            elif name in STAGES:
                params[name] = config.stage_factors[STAGES.index(name)]
            else:
                params[name] = getattr(config, name)
        inside = all(_inside(distribution, params[name]) for name, distribution in self.distributions.items())
        if not inside or self._config(params, config.strength, config.seed, exact=True).trial_id != config.trial_id:
            return None
        return params

    def default_params(self, value: float) -> Params:
        """The recipe's own settings where they lie in the space, at this value of the parameter lambda."""
        params: Params = {LAMBDA: value}
        for name, values in self.choices.items():
            own = "+".join(self.joint_tasks) if name == COMBINATION else self.own(name)
            params[name] = own if own in values else values[0]
        for name, (low, high) in self.ranges.items():
            own = 1.0 if name in STAGES else self.own(name)
            params[name] = min(max(own if own is not None else low, low), high)
        return params

    def own(self, name: str) -> Any:
        """What the recipe itself has for an open field of a trial."""
        return self.recipe.retraining[0] if name == RETRAINING else getattr(self.recipe, name)

    @property
    def retrains(self) -> bool:
        """Whether proposals may be retrained."""
        return any(one != "none" for one in self.choices.get(RETRAINING, [self.own(RETRAINING)]))

    @property
    def names(self) -> list[str]:
        """Of all parameters."""
        return list(self.distributions)

    @property
    def settings(self) -> list[str]:
        """Fields of a trial that are open, but for lambda, its factors and the tasks."""
        return [name for name in (*self.choices, *self.ranges) if name != COMBINATION and name not in STAGES]

    @property
    def dense_params(self) -> Params:
        """Those of the dense model."""
        return self.default_params(self.lambdas[0] * DENSE_BIN)

    def grid(self) -> list[Params]:
        """All combinations of listed values, the dense model first. Raises BadInput where a range is open."""
        if self.ranges:
            raise BadInput(
                f"search_space.{next(iter(self.ranges))} is a range; allowed with sampler grid: a list of values"
            )
        count = (1 + len(self.lambdas)) * math.prod(map(len, self.choices.values()))
        if count > MOST_TRIALS:
            raise BadInput(
                f"search_space has {count:,} combinations of values; allowed with sampler grid: {MOST_TRIALS:,}"
            )
        names = list(self.choices)
        found: dict[str, Params] = {}
        for value in (self.lambdas[0] * DENSE_BIN, *self.lambdas):
            for values in itertools.product(*self.choices.values()):
                params = {LAMBDA: value} | dict(zip(names, values, strict=True))
                found.setdefault(self.config(params, 0).trial_id, params)
        return list(found.values())

    @property
    def joint_tasks(self) -> tuple[str, ...]:
        """The largest of the recipe's combinations, which is searched where the combination is not open."""
        return max(self.recipe.task_combinations, key=len)

    @property
    def task_combinations(self) -> list[tuple[str, ...]]:
        """Those that a proposal may have."""
        if COMBINATION not in self.choices:
            return [self.joint_tasks]
        return [self._tasks(choice) for choice in self.choices[COMBINATION]]

    def described(self) -> dict[str, Any]:
        """The space in plain data, as a study remembers it."""
        return {name: _plain(distribution) for name, distribution in self.distributions.items()} | {
            "listed lambdas": list(self.lambdas) if self.listed else [],
            "tasks": ["+".join(tasks) for tasks in self.task_combinations],
            "seeds": list(self.recipe.seed_list),
        }

    def _tasks(self, combination: str) -> tuple[str, ...]:
        return tuple(task for task in self.recipe.tasks if task in combination.split("+"))

    def _config(self, params: Mapping[str, Any], strength: float, seed: int, exact: bool = False) -> TrialConfig:
        settings = trial_settings(self.recipe)
        settings[RETRAINING] = self.own(RETRAINING)
        factors = list(self.recipe.stage_factors)
        tasks = self.joint_tasks
        for name, value in params.items():
            if name == COMBINATION:
                tasks = self._tasks(value)
            elif name in STAGES:
                factors[STAGES.index(name)] = value if exact else _rounded(value, self.ranges[name])
            elif name in self.ranges:
                settings[name] = value if exact else _rounded(value, self.ranges[name])
            elif name in self.choices:
                settings[name] = value
        settings["stage_factors"] = tuple(factors)
        if strength == 0:
            # Nothing is penalised, so that how it would be makes no other trial.
            for name in ("penalty", "metric", "stage_factors"):
                settings[name] = getattr(self.recipe, name)
            settings[RETRAINING] = "none"
        return TrialConfig(
            **settings,
            tasks=tasks,
            strength=strength,
            seed=seed,
            data_version=self.data_version,
            weights_version=self.weights_version,
        )


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
            f"search_space.lambda = {list(strengths)}; allowed: two positive ends of a range, or a list of values, "
            f"{SMALLEST_STRENGTH:g} to {LARGEST_STRENGTH:g} (left out: from the least to the greatest of lambdas; 0 "
            "always comes besides)"
        )
    if len(recipe.retraining) > 1:
        given.setdefault(RETRAINING, list(recipe.retraining))
    choices: dict[str, tuple[Any, ...]] = {}
    ranges: dict[str, tuple[float, float]] = {}
    for name, values in given.items():
        if name in CHOICES or name == COMBINATION:
            choices[name] = tuple(values)
        else:
            ranges[name] = _range(name, values)
    space = SearchSpace(recipe, data_version, weights_version, tuple(positive), listed, choices, ranges)
    _check(space)
    return space


def _range(name: str, values: Sequence[Any]) -> tuple[float, float]:
    if len(values) != 2 or not all(_is_number(value) for value in values) or not 0 <= values[0] < values[1]:
        raise BadInput(f"search_space.{name} = {list(values)}; allowed: two numbers, the lower end of its range first")
    return float(values[0]), float(values[1])


def _check(space: SearchSpace) -> None:
    """Raise BadInput where a value of the space makes no trial."""
    for name, values in (*space.choices.items(), *space.ranges.items()):
        if len(set(values)) < len(values) or not values:
            raise BadInput(f"search_space.{name} = {list(values)}; allowed: each value once")
        for value in values:
            if name == COMBINATION:
                _check_combination(space, value)
            params = space.default_params(space.lambdas[-1]) | {name: value}
            try:
                space.config(params, 0)
            except ValidationError as error:
                allowed = error.errors()[0]["msg"].removeprefix("Input should be ")
                raise BadInput(f"search_space.{name} has {value!r}; allowed: {allowed}") from error


def _check_combination(space: SearchSpace, value: Any) -> None:
    names = str(value).split("+")
    if len(set(names)) < len(names) or not set(names) <= set(space.recipe.tasks):
        raise BadInput(f"search_space.combination has {value!r}; allowed: {list(space.recipe.tasks)} joined by +")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _rounded(value: float, ends: tuple[float, float]) -> float:
    """Within its range also where the range's ends have more digits."""
    return min(max(float(f"{value:.{DIGITS}g}"), ends[0]), ends[1])


def _inside(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution)
    return value is not None and distribution.low <= value <= distribution.high


def _plain(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution)
    return [distribution.low, distribution.high]
