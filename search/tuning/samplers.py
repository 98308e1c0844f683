"""The samplers of a search: Optuna's by name, our own front sampler, and samplers of the user's own."""

import importlib
import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler

from mtl.errors import BadInput
from mtl.own_code import describe, line_of, own_code
from mtl.vocabulary.constraint import Constraint
from mtl.vocabulary.objective import COSTS, MODEL_MACS, Objective
from search.tuning.axis import LAMBDA, TARGET
from search.tuning.front_sampler import FrontSampler, KnownOf
from search.tuning.own_sampler import OwnSampler
from search.tuning.space import SearchSpace

# Proposals before a sampler models the objectives: the dense model and some values over the range of lambda.
STARTUP = 4
# Optuna's default, 50, is more than the proposals of most searches.
POPULATION = 12
TRIED_OUT = 15
# These can propose in a space where not every proposal has the same parameters; others would draw lambda and targets
# at random.
CONDITIONAL = ("tpe", "random", "grid")
FRONT = "front"
SHARES = ("group_sparsity", "parameter_sparsity")

Direction = Literal["maximize", "minimize"]
MakeSampler = Callable[[int], BaseSampler]

NAMED: dict[str, MakeSampler] = {
    "tpe": lambda seed: TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True),
    "gp": lambda seed: GPSampler(seed=seed, n_startup_trials=STARTUP, warn_independent_sampling=False),
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=POPULATION),
    "nsga3": lambda seed: NSGAIIISampler(seed=seed, population_size=POPULATION),
    "random": lambda seed: RandomSampler(seed=seed),
    # The points of the grid are queued first; after them nothing is left to propose.
    "grid": lambda seed: RandomSampler(seed=seed),
}


def find_sampler(
    name: str,
    space: SearchSpace,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint] = (),
) -> MakeSampler:
    """The function that makes the sampler of this name from a seed.

    A search makes a new sampler for each proposal, from its own seed and the proposal's number. So a search that was
    interrupted and continues proposes the same as an uninterrupted one. Raises BadInput for an unknown name, and for a
    sampler that cannot be made or cannot propose for these objectives and this space.
    """
    alone = space.names in ([LAMBDA], [TARGET]) and len(objectives) > 1
    if name == "auto":
        name = FRONT if alone else "tpe"
    if name == FRONT:
        if not alone:
            raise BadInput(
                f"sampler = {FRONT}: {len(objectives)} objectives over {', '.join(space.names)}; allowed: two or more "
                "objectives over lambda or target_macs alone"
            )
        return lambda seed: make_front_sampler(objectives, constraints, seed, space)
    if name in NAMED and space.conditional:
        if name not in CONDITIONAL:
            raise BadInput(
                f"sampler = {name} with compressors {', '.join(space.compressors)}: a proposal has lambda or "
                f"target_macs, which it cannot model; allowed: auto, {', '.join(CONDITIONAL)}, or my_module:MySampler"
            )
        if name == "tpe":
            return _grouped_tpe
    if name in NAMED:
        return NAMED[name]
    module_name, colon, class_name = name.partition(":")
    if not colon:
        raise BadInput(f"sampler = {name}; allowed: auto, {FRONT}, {', '.join(NAMED)}, or my_module:MySampler")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # importing a user's module may raise anything, even SystemExit
        raise BadInput(
            f"sampler = {name}: cannot be imported ({describe(error)}){line_of(error)}; allowed: my_module:MySampler"
        ) from error
    if not (inspect.isclass(found) and issubclass(found, BaseSampler)):
        raise BadInput(f"sampler = {name}: not a sampler; allowed: a class derived from optuna.samplers.BaseSampler")
    cls: Any = found

    def make(seed: int) -> BaseSampler:
        return cls(seed=seed) if "seed" in inspect.signature(cls).parameters else cls()

    def checked(seed: int) -> OwnSampler:
        with own_code(f"sampler = {name}", "__init__", cls):
            return OwnSampler(name, make(seed))

    _try_out(name, make, space, [objective.direction for objective in objectives])
    return checked


def _grouped_tpe(seed: int) -> BaseSampler:
    """A model of its own for the proposals of each kind: those with lambda, and those with a target."""
    return TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, group=True, constant_liar=True)


def make_front_sampler(
    objectives: Sequence[Objective], constraints: Sequence[Constraint], seed: int, space: SearchSpace | None = None
) -> FrontSampler:
    """The hypervolume's corner is at sparsity 0 and at the worst Δm known, which is mostly that of a model without any
    channels left: a model that ignores the image is worth nothing. If a constraint bounds an objective, the bound is
    its corner. Costs count by their logarithm.

    space: if targets are searched, a model's cost is known before it is trained, and it is never that of the dense one.
    """
    bounds = {one.column: one.bound for one in constraints}
    targets = space.axes.get(TARGET) if space is not None else None
    axes = []
    for column in (one.column for one in objectives):
        share = column in SHARES
        axes.append(
            KnownOf(
                reference=bounds.get(column, 0.0 if share else None),
                best=1.0 if share else None,
                log=column in COSTS,
                follows=column == MODEL_MACS and targets is not None,
            )
        )
    return FrontSampler(axes, (targets.values[0], targets.values[-1]) if targets else None, seed)


def _try_out(name: str, make: MakeSampler, space: SearchSpace, directions: Sequence[Direction]) -> None:
    """Raise BadInput if the sampler fails on a study with made-up values: many work for one objective only."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(directions=directions)
            for number in range(TRIED_OUT):
                study.sampler = make(number)
                trial = study.ask()
                space.suggest(trial)
                study.tell(trial, [math.sin(number + place) for place in range(len(directions))])
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's code may raise anything, even SystemExit
        raise BadInput(
            f"sampler = {name}: fails with {len(directions)} objectives ({describe(error)}){line_of(error)}; allowed: "
            "a sampler that can propose for them"
        ) from error


def quiet() -> None:
    """Switch off Optuna's log of each trial and its warnings about experimental features."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
