"""Our own searcher as a strategy of a replay, on a study in memory and without Ray."""

from collections.abc import Mapping

import optuna

from benchmarks.search_peers import span
from benchmarks.search_recording import Recording
from benchmarks.search_replay import MAXIMIZE, OBJECTIVES
from mtl.config import TrialConfig, TrialSettings
from mtl.vocabulary.metric import Metric
from mtl.vocabulary.objective import Objective
from search.early_stopping.successive_halving import SuccessiveHalving
from search.recipe import Recipe
from search.store.results import TrialResult
from search.tuning.baselines import Baselines
from search.tuning.samplers import FRONT, Direction, find_sampler, quiet
from search.tuning.searcher import LambdaSearcher
from search.tuning.space import make_space

# More than any replay comes to.
PROPOSALS = 1000
DIRECTIONS: list[Direction] = ["maximize" if more else "minimize" for more in MAXIMIZE]


class Ours:
    """What `parsimony search` proposes for the recording's range of λ."""

    def __init__(
        self, recording: Recording, seed: int, *, sampler: str = FRONT, racing: bool = True, halving: bool = False
    ) -> None:
        quiet()
        recipe = recipe_of(recording, seed)
        space = make_space(recipe, recording.settings["data_version"])
        counted = {
            task: Metric(name, name, "", "maximize" if recording.maximize[name] else "minimize")
            for task, name in recording.primaries.items()
        }
        baselines = [
            recording.config(0, one).model_copy(update={"tasks": (task,)})
            for task in recipe.tasks
            for one in recording.seeds
        ]
        objectives = [Objective(name, "maximize") for name in OBJECTIVES]
        primaries = {task: metric.objective("val") for task, metric in counted.items()}

        def make_halving() -> SuccessiveHalving | None:
            if not halving:
                return None
            return SuccessiveHalving(objectives, primaries, recipe.first_rung, recipe.reduction_factor)

        study = optuna.create_study(directions=DIRECTIONS)
        study.set_metric_names(list(OBJECTIVES))
        self.searcher = LambdaSearcher(
            study,
            space,
            find_sampler(sampler, space, objectives),
            objectives,
            baselines=Baselines(baselines, counted),
            proposals=PROPOSALS,
            seed=seed,
            racing=racing,
            halving=make_halving,
        )

    @property
    def done(self) -> bool:
        return self.searcher.exhausted

    def next(self) -> TrialConfig | None:
        return self.searcher.next()

    def report(self, config: TrialConfig, row: Mapping[str, float]) -> bool:
        return self.searcher.report(config, row)

    def ended(self, result: TrialResult) -> None:
        self.searcher.ended(result)


def recipe_of(recording: Recording, seed: int) -> Recipe:
    """The recipe whose search has the recording's trials."""
    settings = {name: recording.settings[name] for name in TrialSettings.model_fields if name in recording.settings}
    return Recipe(
        **settings,
        tasks=tuple(recording.joint.split("+")),
        combinations=(recording.joint,),
        lambdas=(0.0, *span(recording, seed)),
        seeds=tuple(recording.seeds),
    )
