"""Searches on made-up results: the searcher as the runner drives it, without Ray, data or training."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna

from mtl.config import TrialConfig
from mtl.vocabulary.metric import Metric
from mtl.vocabulary.objective import Objective
from search.recipe_file import load_recipe
from search.store.results import TrialResult
from search.tuning.baselines import Baselines
from search.tuning.proposals import Proposal
from search.tuning.samplers import find_sampler
from search.tuning.searcher import LambdaSearcher
from search.tuning.space import SearchSpace, make_space
from tests.support.in_process import PENALTY_ALONE

OBJECTIVES = (Objective("delta_m", "maximize"), Objective("group_sparsity", "maximize"))
NAMES = {"segmentation": "segmentation_miou", "depth": "depth_delta1", "normals": "normals_cos"}
PRIMARIES = {task: Metric(name, name, "", "maximize") for task, name in NAMES.items()}
NOISE = 0.01

Outcome = Callable[[TrialConfig], TrialResult]


def space(*overrides: str) -> SearchSpace:
    """Of rooms with these fields overridden."""
    return make_space(load_recipe("rooms", [*PENALTY_ALONE, *overrides]), "made up")


def study(objectives: Sequence[Objective] = OBJECTIVES) -> optuna.Study:
    """One in memory."""
    return optuna.create_study(directions=[one.direction for one in objectives])


def result(config: TrialConfig, status: Any = "done", error: str = "", **metrics: float) -> TrialResult:
    moment = "2026-01-01T00:00:00+00:00"
    return TrialResult(config, status, moment, moment, 1.0, metrics, error=error)


def well(config: TrialConfig) -> TrialResult:
    """Sparsity that grows with lambda, at a price; with noise of its own for each trial, whenever it runs."""
    x = math.log10(config.strength / 1e-3) / 4 if config.strength else 0.0
    noise = NOISE * float(np.random.default_rng(int(config.trial_id, 16)).normal())
    metrics = {f"val_{name}": 1 - 0.5 * x**2 + noise for name in NAMES.values()}
    return result(config, **metrics, group_sparsity=min(1.0, max(0.0, x + noise)))


def baselines(of: SearchSpace) -> Baselines:
    """Of every task and seed."""
    configs = [
        of.config(of.dense_params, seed).model_copy(update={"tasks": (task,)})
        for seed in of.recipe.seed_list
        for task in PRIMARIES
    ]
    return Baselines(configs, PRIMARIES)


def none_wanted() -> Baselines:
    """For objectives that need no baseline."""
    return Baselines([], PRIMARIES)


def searcher(of: SearchSpace, proposals: int, in_study: optuna.Study | None = None, **more: Any) -> LambdaSearcher:
    """As `parsimony search` makes one; `more` goes before what is made here."""
    objectives = more.pop("objectives", OBJECTIVES)
    name = more.pop("sampler", "random")
    settings: dict[str, Any] = {"baselines": baselines(of)} | more
    make = find_sampler(name, of, objectives, more.get("constraints", ()))
    return LambdaSearcher(in_study or study(objectives), of, make, objectives, proposals=proposals, **settings)


def run(one: LambdaSearcher, outcome: Outcome = well, at_once: int = 1) -> list[TrialConfig]:
    """Run its trials to the end, so many at once, the first started ending first; returns them as they were started."""
    started: list[TrialConfig] = []
    running: list[TrialConfig] = []
    while True:
        while len(running) < at_once and (config := one.next()) is not None:
            started.append(config)
            running.append(config)
        if not running:
            return started
        one.ended(outcome(running.pop(0)))


def summary(proposals: Sequence[Proposal]) -> list[tuple[Any, ...]]:
    """What two searches must agree in."""
    return [
        (one.number, one.configs[0].trial_id, one.state, one.note, sorted(one.values), _plain(one.means()))
        for one in sorted(proposals, key=lambda one: one.number)
    ]


def _plain(values: Mapping[str, float]) -> list[tuple[str, str]]:
    return sorted((name, f"{value:.12g}") for name, value in values.items())
