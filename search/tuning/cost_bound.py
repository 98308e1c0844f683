"""The targets of a search whose cost its constraints allow, and that its networks can reach."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import get_args

from mtl.config import Compressor
from mtl.errors import BadInput
from mtl.networks.model_size import count_macs
from mtl.networks.smaller import smallest_words
from mtl.tasks import Task
from mtl.vocabulary.constraint import Constraint
from mtl.vocabulary.objective import MODEL_MACS
from search.targets import least_share
from search.tuning.axis import DIGITS, TARGET, Axis, target_axis
from search.tuning.space import OF_COST, PENALTY, SearchSpace

# A search that bounds the cost looks down to this share of the bound, unless its space says otherwise: it is asked for
# the best model within the bound, and the best ones cost nearly as much.
BELOW = 0.5


def bounded_space(space: SearchSpace, constraints: Sequence[Constraint], tasks: Mapping[str, Task]) -> SearchSpace:
    """The space with those targets alone whose models keep the constraints on `model_macs`: what a target costs is
    known before it is trained.

    Raises BadInput if no target is left, and if a compressor cannot reach the smallest one.
    """
    axis = space.axes.get(TARGET)
    if axis is None:
        return space
    least, compressor = _least(space, tasks)
    named = TARGET in space.recipe.search_space
    bounds = [one for one in constraints if one.column == MODEL_MACS and one.relation == "<="]
    # If the network or its tasks are open, the same target has different costs.
    if bounds and not {*OF_COST} & {*space.choices}:
        bound = min(bounds, key=lambda one: one.bound)
        dense = space.config(space.dense_params, 0)
        full = count_macs(dense, [tasks[name] for name in dense.tasks])
        share = bound.bound / full
        values = _below(axis, _to_digits(share, math.floor), named, least)
        if not values:
            lowest = axis.values[0] if named else least
            raise BadInput(
                f"{bound}: {share:.3g} of the dense model's {full:,}; allowed: {math.ceil(lowest * full):,} or more "
                f"with compressor {compressor} and targets of {_to_digits(lowest, math.ceil):g} or more"
            )
        axis = target_axis(values, axis.listed, has_dense=axis.dense is not None)
    if axis.values[0] < least:
        where = "search_space.target_macs" if named else "targets"
        raise BadInput(
            f"{where}: {axis.values[0]:g} with compressor {compressor}; allowed: {_to_digits(least, math.ceil):g} or "
            f"more, the share of the dense model's cost with {smallest_words(compressor, space.recipe)}"
        )
    return replace(space, axes={**space.axes, TARGET: axis})


def _below(axis: Axis, share: float, named: bool, least: float) -> tuple[float, ...]:
    """The axis' values, or the ends of its range, up to this share; none if there are no such values."""
    low, high = axis.values[0], axis.values[-1]
    if axis.listed or share >= high:
        return tuple(value for value in axis.values if value <= share)
    if not named:
        low = share * BELOW if low > share / 2 else max(low, share * BELOW)
        low = max(_to_digits(low, math.ceil), _to_digits(least, math.ceil))
    return (low, share) if low < share else ()


def _least(space: SearchSpace, tasks: Mapping[str, Task]) -> tuple[float, Compressor]:
    """The smallest target that every compressor reaches, and the compressor that reaches no smaller one."""
    others: list[Compressor] = [one for one in get_args(Compressor) if one != PENALTY and one in space.compressors]
    return max((least_share(space.recipe, one, tasks, space.task_combinations)[0], one) for one in others)


def _to_digits(value: float, rounding: Callable[[float], int]) -> float:
    """Rounded up or down to as many digits as proposals have."""
    unit = 10.0 ** (math.floor(math.log10(value)) + 1 - DIGITS)
    return float(f"{rounding(value / unit) * unit:.{DIGITS}g}")
