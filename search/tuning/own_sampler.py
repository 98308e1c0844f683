"""A sampler of the user's own, whose errors say where in the user's code they are."""

from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mtl.errors import BadInput
from mtl.own_code import defined_at, own_code, shown


class OwnSampler(BaseSampler):
    """Passes everything on. Raises BadInput, with the class's method, file and line, for what the sampler raises."""

    def __init__(self, name: str, sampler: BaseSampler) -> None:
        """name: as the recipe has it, my_module:MySampler."""
        self._what, self._sampler = f"sampler = {name}", sampler

    def _call(self, method: str, *arguments: Any) -> Any:
        with own_code(self._what, method, type(self._sampler)):
            return getattr(self._sampler, method)(*arguments)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._call("infer_relative_search_space", study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        found = self._call("sample_relative", study, trial, search_space)
        if not isinstance(found, dict):
            place = defined_at(type(self._sampler), "sample_relative")
            raise BadInput(f"{self._what}: sample_relative gave {shown(found)}; allowed: a dict by parameter{place}")
        return found

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        value = self._call("sample_independent", study, trial, param_name, param_distribution)
        if isinstance(value, np.generic):
            value = value.item()
        # Optuna itself takes what it is given here.
        if isinstance(param_distribution, CategoricalDistribution):
            known = isinstance(value, int | float | str) and value in param_distribution.choices
            inside, allowed = known, str(list(param_distribution.choices))
        else:
            assert isinstance(param_distribution, FloatDistribution)
            low, high = param_distribution.low, param_distribution.high
            inside, allowed = isinstance(value, int | float) and low <= value <= high, f"{low:g} to {high:g}"
        if not inside:
            place = defined_at(type(self._sampler), "sample_independent")
            raise BadInput(
                f"{self._what}: sample_independent gave {shown(value)} for {param_name}; allowed: {allowed}{place}"
            )
        return value

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._call("before_trial", study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self._call("after_trial", study, trial, state, values)

    def reseed_rng(self) -> None:
        self._call("reseed_rng")
