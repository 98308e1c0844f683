"""A search from recipe to answer: planned, checked against its study and store, run, and written down."""

import io
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from mtl.config import LONGER, METHOD_VERSION, TrialConfig
from mtl.errors import BadInput
from mtl.vocabulary.constraint import Constraint
from mtl.vocabulary.files import PROPOSALS
from mtl.vocabulary.objective import Objective
from search.early_stopping.objectives import known_objectives, parse_objectives
from search.engine.runner import Runner
from search.listener import Listener
from search.progress import Progress
from search.recipe import MOST_TRIALS, Recipe
from search.run import Run
from search.store.errors import StorageError
from search.store.files import nothing_run_yet, read_sweep_file
from search.store.lease import Lease
from search.store.messages import say
from search.store.results import TrialResult, mixed_versions, read_results, torch_version, write_result
from search.store.reuse import reuse_trials
from search.store.storage import CHECK_SECONDS, PATIENCE_SECONDS, Store
from search.sweep import Sweep, open_sweep
from search.sweep_file import Plan, prepare
from search.tuning.baselines import Baselines
from search.tuning.constraints import parse_constraint, parse_constraints
from search.tuning.proposals import Proposal, proposals_table
from search.tuning.samplers import MakeSampler, find_sampler
from search.tuning.searcher import LambdaSearcher
from search.tuning.space import RETRAINING, SearchSpace, make_space
from search.tuning.study import OpenStudy, StudyPlace, check_study, open_study, study_error, study_errors

# Where no number of proposals is asked for, a budget ends the search.
MANY = 10**6
MOST_HOURS = 100_000  # 11 years


@dataclass(frozen=True)
class Search:
    """A recipe with its space and its study, checked: proposals can be made.

    Attributes:
        proposals: to make in all, those of earlier runs included.
        budget_hours: of this run; None where it has none.
        target: what the answer must keep, besides the recipe's constraints.
        warm_start: another sweep whose trials the study is told of.
    """

    sweep: Sweep
    space: SearchSpace
    make_sampler: MakeSampler
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    place: StudyPlace
    proposals: int = MANY
    budget_hours: float | None = None
    target: Constraint | None = None
    warm_start: Store | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What all proposals of the study have in common."""
        return {
            "objectives": [f"{one.column}:{one.direction}" for one in self.objectives],
            "constraints": [str(one) for one in self.all_constraints],
            "search_space": self.space.described(),
            "data_version": self.space.data_version,
            "retraining": list(self.space.recipe.retraining),
            "method_version": METHOD_VERSION,
        }

    @property
    def all_constraints(self) -> tuple[Constraint, ...]:
        """Those of the recipe and the target."""
        return tuple(dict.fromkeys([*self.constraints, *([self.target] if self.target else [])]))

    def baselines(self) -> Baselines:
        """Those of every task and seed that proposals may have; none where nothing asks for delta_m.

        Beside them, where proposals may be retrained, the dense model with as many epochs as a retrained one.
        """
        columns = {one.column for one in self.objectives} | {one.column for one in self.all_constraints}
        tasks = {task for combination in self.space.task_combinations for task in combination}
        configs = [
            self.space.config(self.space.dense_params, seed).model_copy(update={"tasks": (task,), **self._own})
            for seed in self.space.recipe.seed_list
            for task in self.sweep.recipe.tasks
            if task in tasks
        ]
        dense = self.space.configs(self.space.dense_params) if self.space.retrains else []
        longer = [config.model_copy(update={"retraining": LONGER}) for config in dense]
        return Baselines(configs if "delta_m" in columns else [], self.sweep.primaries, longer)

    @property
    def _own(self) -> dict[str, Any]:
        """The recipe's own settings, whatever the space offers instead; a dense model is never retrained."""
        return {name: self.space.own(name) for name in self.space.settings if name != RETRAINING}


def open_search(
    recipe: Recipe,
    storage: str,
    name: str,
    data: str | None,
    *,
    proposals: int | None,
    budget_hours: float | None = None,
    target: str | None = None,
    study: str | None = None,
    warm_start: str | None = None,
    here: bool = False,
) -> Search:
    """Check everything that can be checked before a trial runs; makes no study. Raises BadInput.

    here: as in `search.sweep.open_sweep`.
    """
    if proposals is None and budget_hours is None:
        raise BadInput("search: neither --trials nor --budget-hours; allowed: --trials N, --budget-hours H, or both")
    if proposals is not None and not 1 <= proposals <= MOST_TRIALS:
        raise BadInput(f"--trials {proposals}; allowed: 1 or more, at most {MOST_TRIALS:,}")
    if budget_hours is not None and not 0 < budget_hours <= MOST_HOURS:
        raise BadInput(f"--budget-hours {budget_hours:g}; allowed: more than 0, at most {MOST_HOURS:,}")
    sweep = open_sweep(recipe, storage, name, data, here=here)
    objectives = parse_objectives(recipe.objectives, sweep.metrics)
    known = known_objectives(sweep.metrics)
    constraints = parse_constraints("constraints", recipe.constraints, known)
    wanted = parse_constraint("--target", target, known) if target is not None else None
    for column in [*recipe.objectives, *(one.column for one in constraints), *([wanted.column] if wanted else [])]:
        if column == "latency_ms" and not recipe.measure_latency:
            raise BadInput("latency_ms is not measured by this recipe; allowed: with --set measure_latency=true")
    space = make_space(sweep.recipe, sweep.dataset.fingerprint(), sweep.weights_version)
    if recipe.sampler == "grid":
        space.grid()
    together = [*constraints, *([wanted] if wanted else [])]
    make_sampler = find_sampler(recipe.sampler, space, objectives, together)
    search = Search(
        sweep,
        space,
        make_sampler,
        objectives,
        constraints,
        StudyPlace(sweep.store, study),
        proposals if proposals is not None else MANY,
        budget_hours,
        wanted,
        _existing(warm_start) if warm_start is not None else None,
    )
    check_study(search.place, search.identity, search.space.distributions)
    return search


def _existing(folder: str) -> Store:
    try:
        store = Store.of_sweep(folder)
        found = read_sweep_file(store.waiting(CHECK_SECONDS))
    except (BadInput, StorageError) as error:
        raise BadInput(f"--warm-start {error}") from error
    if found is None:
        raise BadInput(f"--warm-start {folder}: no sweep is there; allowed: the folder or URL of one, STORAGE/NAME")
    return store


@dataclass(frozen=True)
class Outcome:
    """Every proposal of the study, the results of their trials and of the baselines, and whether all were made."""

    proposals: list[Proposal]
    results: list[TrialResult]
    complete: bool


def run_search(search: Search, runner: Runner) -> Outcome:
    """Make and run the proposals that are left. Raises what `search.run.run_sweep` raises."""
    store = search.sweep.store
    with Lease(store) as lease:
        store.remove_temporaries()
        try:
            return _run(search, runner, lease)
        except study_errors() as error:
            raise study_error(error) from error


def _run(search: Search, runner: Runner, lease: Lease) -> Outcome:
    sweep, store = search.sweep, search.sweep.store
    baselines = search.baselines()
    results, known = _known_results(search, baselines)
    opened = open_study(search.place, search.objectives, search.identity)
    progress = Progress(store, [], 0)

    def write_dropped(result: TrialResult) -> None:
        results[result.config.trial_id] = write_result(store, result)
        progress.expect(result.config)
        progress.ended(result)

    searcher = LambdaSearcher(
        opened.study,
        search.space,
        search.make_sampler,
        search.objectives,
        constraints=search.all_constraints,
        baselines=baselines,
        proposals=search.proposals,
        seed=sweep.recipe.seed_list[0],
        known=known,
        racing=sweep.recipe.racing,
        halving=lambda: sweep.halving,
        on_dropped=write_dropped,
        design=search.space.grid() if sweep.recipe.sampler == "grid" else None,
    )
    opened.flush()
    source = BudgetedSource(searcher, opened, search.budget_hours, progress)
    before = sum(not proposal.seeded for proposal in searcher.proposals)
    left = None if search.proposals == MANY else max(0, search.proposals - before)
    seeds = len(sweep.recipe.seed_list)
    say(
        f"search {store}: {before} proposals made before, {len(searcher.proposals) - before} told from a sweep, "
        f"{'as many as the time allows' if left is None else left} to make, {seeds} seeds each; {search.place}"
    )
    if mixed := mixed_versions(known.values(), "" if searcher.exhausted else torch_version()):
        say(f"search {store}: {mixed}")

    def write_tables(ended: Collection[TrialResult], patience: float) -> None:
        _write_tables(search, searcher, ended, patience)

    if not searcher.exhausted:
        to_come = len(searcher.waiting) + (left or 0) * seeds
        progress.to_come(to_come)
        plan = Plan(_trials(searcher), len(results) + to_come, more=_described(search))
        Run(sweep, lease, results, progress, write_tables, [source]).go(runner, source, plan)
    lease.check()
    if results:
        prepare(sweep, Plan(_trials(searcher), more=_described(search)))
        write_tables(list(results.values()), PATIENCE_SECONDS)
    ids = {config.trial_id for config in _trials(searcher)}
    return Outcome(searcher.proposals, [one for one in results.values() if one.config.trial_id in ids], source.complete)


def _known_results(search: Search, baselines: Baselines) -> tuple[dict[str, TrialResult], dict[str, TrialResult]]:
    """The results of this sweep's trials, with baselines taken over from other sweeps; and these with those of the
    sweep that the search starts from. Baselines that did not end well are left out: they are tried again."""
    store = search.sweep.store
    results = search.sweep.read_results()
    earlier: dict[str, TrialResult] = {}
    if search.warm_start is not None:
        with nothing_run_yet():
            earlier = read_results(search.warm_start)
    missing = []
    for config in (*baselines.configs, *baselines.beside):
        if config.trial_id not in results or results[config.trial_id].status != "done":
            results.pop(config.trial_id, None)
            missing.append(config)
    for result in reuse_trials(store, missing, [search.warm_start] if search.warm_start else []):
        results[result.config.trial_id] = result
    return results, earlier | results


class BudgetedSource(Listener):
    """The searcher's trials, until the time is used up; what it does is kept before a trial starts."""

    def __init__(
        self, searcher: LambdaSearcher, opened: OpenStudy, budget_hours: float | None, progress: Progress
    ) -> None:
        self._searcher, self._opened, self._progress = searcher, opened, progress
        self.policy = searcher
        # With a budget, no trial waits for room: it would start whatever the time is by then.
        self.ahead = len(searcher.space.recipe.seed_list) if budget_hours is None else 1
        self._end = time.monotonic() + 3600 * budget_hours if budget_hours is not None else None
        self._seconds: Callable[[], float] = lambda: _typical_seconds(searcher.proposals)

    def next(self) -> TrialConfig | None:
        if self._end is not None and time.monotonic() + self._seconds() > self._end:
            self._searcher.close()
        config = self._searcher.next()
        self._opened.flush()
        if config is not None:
            self._progress.expect(config)
        return config

    def ended(self, result: TrialResult) -> None:
        self._searcher.ended(result)
        self._opened.flush()

    @property
    def exhausted(self) -> bool:
        return self._searcher.exhausted

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        told = all(proposal.state != "running" for proposal in self._searcher.proposals)
        return self._searcher.exhausted and (told or self._end is not None)


def _typical_seconds(proposals: Collection[Proposal]) -> float:
    """What a trial takes from its start to its end, by those that are done."""
    results = [result for proposal in proposals for result in proposal.results.values() if result.status == "done"]
    return median([_seconds(one.ended_at) - _seconds(one.started_at) for one in results]) if results else 0.0


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _trials(searcher: LambdaSearcher) -> list[TrialConfig]:
    dense = [*searcher.baselines.configs, *searcher.baselines.beside]
    return [*dense, *(config for one in searcher.proposals for config in one.configs)]


def _described(search: Search) -> dict[str, Any]:
    """What sweep.json says of a search."""
    described = {
        "sampler": search.sweep.recipe.sampler,
        "space": search.space.described(),
        "objectives": [one.column for one in search.objectives],
        "constraints": [str(one) for one in search.all_constraints],
        "study": str(search.place),
    }
    more: dict[str, Any] = {"search": described}
    if len(search.objectives) > 1:
        more["objectives"] = [{"column": one.column, "direction": one.direction} for one in search.objectives]
    return more


def _write_tables(search: Search, searcher: LambdaSearcher, results: Collection[TrialResult], patience: float) -> None:
    numbers = {config.trial_id: one.number for one in searcher.proposals for config in one.configs}
    search.sweep.write_tables(results, patience, {"proposal": numbers})
    buffer = io.BytesIO()
    proposals_table(searcher.proposals, search.space.names).to_parquet(buffer, index=False)
    search.sweep.store.waiting(patience).write(PROPOSALS, buffer.getvalue())
