"""A wrapper for a sampler of the user's own: its errors name the place in the user's code."""

from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mtl.errors import BadInput
from mtl.own_code import defined_at, own_code, shown
from search.tuning.space import contains


class OwnSampler(BaseSampler):
    """Passes every call on to the user's sampler. Raises BadInput with the method, file and line of its errors."""

    def __init__(self, name: str, sampler: BaseSampler) -> None:
        """name: as in the recipe, my_module:MySampler."""
        self._what, self._sampler = f"sampler = {name}", sampler

    def _call(self, method: str, *arguments: Any) -> Any:
        with own_code(self._what, method, type(self._sampler)):
            return getattr(self._sampler, method)(*arguments)

    def _wrong(self, method: str, gave: str, allowed: str) -> BadInput:
        place = defined_at(type(self._sampler), method)
        return BadInput(f"{self._what}: {method} gave {gave}; allowed: {allowed}{place}")

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._call("infer_relative_search_space", study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        found = self._call("sample_relative", study, trial, search_space)
        if not isinstance(found, dict):
            raise self._wrong("sample_relative", shown(found), "a dict by parameter")
        return found

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        value = self._call("sample_independent", study, trial, param_name, param_distribution)
        if isinstance(value, np.generic):
            value = value.item()
        # Optuna does not check this value.
        if not contains(param_distribution, value):
            if isinstance(param_distribution, CategoricalDistribution):
                allowed = str(list(param_distribution.choices))
            else:
                assert isinstance(param_distribution, FloatDistribution)
                allowed = f"{param_distribution.low:g} to {param_distribution.high:g}"
            raise self._wrong("sample_independent", f"{shown(value)} for {param_name}", allowed)
        return value

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._call("before_trial", study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self._call("after_trial", study, trial, state, values)

    def reseed_rng(self) -> None:
        self._call("reseed_rng")
