"""Optuna's samplers by name, and those of the user."""

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
from mtl.vocabulary.objective import Objective
from search.tuning.front_sampler import FrontSampler
from search.tuning.own_sampler import OwnSampler
from search.tuning.space import LAMBDA, SearchSpace

# Proposals before a model of the objectives is worth making: the dense model and some over the range of lambda.
STARTUP = 4
# Optuna's 50 would be more than most searches have proposals.
POPULATION = 12
TRIED_OUT = 15
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
    # The grid's points are queued before all others; should a search ask for more there is nothing left to propose.
    "grid": lambda seed: RandomSampler(seed=seed),
}


def find_sampler(
    name: str,
    space: SearchSpace,
    objectives: Sequence[Objective],
    constraints: Sequence[Constraint] = (),
) -> MakeSampler:
    """What makes the sampler of this name from a seed.

    A search makes a new one for each proposal, from its own seed and the proposal's number: so a search that is broken
    off and goes on proposes what an unbroken one does. Raises BadInput for an unknown name, and for a sampler that
    cannot be made or cannot propose for these objectives and this space.
    """
    alone = space.names == [LAMBDA] and len(objectives) > 1
    if name == "auto":
        name = FRONT if alone else "tpe"
    if name == FRONT:
        if not alone:
            raise BadInput(
                f"sampler = {FRONT}: {len(objectives)} objectives over {', '.join(space.names)}; allowed: two or more "
                "objectives over lambda alone"
            )
        return lambda seed: make_front_sampler(objectives, constraints, seed)
    if name in NAMED:
        return NAMED[name]
    module_name, colon, class_name = name.partition(":")
    if not colon:
        raise BadInput(f"sampler = {name}; allowed: auto, {FRONT}, {', '.join(NAMED)}, or my_module:MySampler")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a user's module may fail in any way as it is imported, also by SystemExit
        raise BadInput(
            f"sampler = {name}: cannot be imported ({describe(error)}){line_of(error)}; allowed: my_module:MySampler"
        ) from error
    if not (inspect.isclass(found) and issubclass(found, BaseSampler)):
        raise BadInput(f"sampler = {name}: no sampler; allowed: a class derived from optuna.samplers.BaseSampler")
    cls: Any = found

    def make(seed: int) -> BaseSampler:
        seeded = "seed" in inspect.signature(cls).parameters
        return cls(**({"seed": seed} if seeded else {}))

    def checked(seed: int) -> OwnSampler:
        with own_code(f"sampler = {name}", "__init__", cls):
            return OwnSampler(name, make(seed))

    _try_out(name, make, space, [objective.direction for objective in objectives])
    return checked


def make_front_sampler(objectives: Sequence[Objective], constraints: Sequence[Constraint], seed: int) -> FrontSampler:
    """Its corner is no channel removed and the worst Δm known, mostly that of a model whose every channel is: of what
    sees nothing of the image nothing is to be gained. Where a constraint bounds an objective, that is its corner.
    """
    bounds = {one.column: one.bound for one in constraints}
    columns = [one.column for one in objectives]
    return FrontSampler(
        [bounds.get(column, 0.0 if column in SHARES else None) for column in columns],
        [1.0 if column in SHARES else None for column in columns],
        seed,
    )


def _try_out(name: str, make: MakeSampler, space: SearchSpace, directions: Sequence[Direction]) -> None:
    """Raise BadInput where the sampler fails on a study of made-up values: many are for one objective only."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study = optuna.create_study(directions=directions)
            for number in range(TRIED_OUT):
                study.sampler = make(number)
                trial = study.ask(space.distributions)
                study.tell(trial, [math.sin(number + place) for place in range(len(directions))])
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the user's own code, which may also exit
        raise BadInput(
            f"sampler = {name}: fails with {len(directions)} objectives ({describe(error)}){line_of(error)}; allowed: "
            "a sampler that can propose for them"
        ) from error


def quiet() -> None:
    """Optuna logs each trial, and warns of each feature that may yet change."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
