"""A search from recipe to result: it is checked against its study and store, run, and written to its tables."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

from mtl.config import LONGER, METHOD_VERSION, TrialConfig
from mtl.errors import BadInput
from mtl.vocabulary.constraint import Constraint, parse_constraint
from mtl.vocabulary.files import PROPOSALS
from mtl.vocabulary.objective import LATENCIES, Objective
from search.early_stopping.objectives import check_running, known_objectives, parse_objectives
from search.engine.runner import Runner
from search.listener import Listener
from search.progress import Progress
from search.recipe import BY_COST, BY_SPARSITY, MOST_TRIALS, Recipe
from search.run import Run
from search.store.errors import StorageError
from search.store.files import parquet_bytes, read_sweep_file, storage_error_as_bad_input
from search.store.lease import Lease
from search.store.messages import say
from search.store.results import TrialResult, mixed_versions, read_results, torch_version, write_result
from search.store.reuse import reuse_trials
from search.store.storage import CHECK_SECONDS, Store
from search.sweep import Sweep, open_sweep
from search.sweep_file import Plan, prepare
from search.tuning.axis import TARGET
from search.tuning.baselines import Baselines
from search.tuning.best_proposal import best_proposal
from search.tuning.cost_bound import bounded_space
from search.tuning.proposals import Proposal, proposals_table
from search.tuning.samplers import MakeSampler, find_sampler
from search.tuning.searcher import LambdaSearcher
from search.tuning.space import RETRAINING, SearchSpace, make_space
from search.tuning.study import OpenStudy, StudyPlace, check_study, open_study, study_errors

# Stands for no limit: the time budget ends the search.
MANY = 10**6
MOST_HOURS = 100_000  # 11 years


@dataclass(frozen=True)
class Search:
    """A recipe with its space and its study; `open_search` has checked them.

    Attributes:
        proposals: how many to make in all, with those of earlier runs.
        budget_hours: of this run; None for no limit.
        target: what the answer must meet, besides the recipe's constraints.
        warm_start: another sweep, whose trials the search starts from.
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

    def best(self, proposals: Sequence[Proposal]) -> str:
        """The best of these in a few words."""
        return best_proposal(proposals, self.objectives, self.all_constraints)

    @property
    def identity(self) -> dict[str, Any]:
        """What all proposals of the study have in common."""
        return {
            "objectives": [f"{one.column}:{one.direction}" for one in self.objectives],
            "constraints": [str(one) for one in self.all_constraints],
            "search_space": self.space.to_plain(),
            "data_version": self.space.data_version,
            "retraining": list(self.space.recipe.retraining),
            "method_version": METHOD_VERSION,
        }

    @property
    def all_constraints(self) -> tuple[Constraint, ...]:
        """The recipe's constraints and the target."""
        return tuple(dict.fromkeys([*self.constraints, *([self.target] if self.target else [])]))

    def baselines(self) -> Baselines:
        """The baselines of every task and seed that proposals may have; none if nothing needs delta_m.

        If proposals may be retrained, a dense model with as many epochs as a retrained one runs beside them.
        """
        # The recipe's own settings, whatever the space offers; a dense model is never retrained.
        own = {name: self.space.own(name) for name in self.space.settings if name != RETRAINING}
        columns = {one.column for one in self.objectives} | {one.column for one in self.all_constraints}
        tasks = {task for combination in self.space.task_combinations for task in combination}
        configs = [
            self.space.config(self.space.dense_params, seed).model_copy(update={"tasks": (task,), **own})
            for seed in self.space.recipe.seed_list
            for task in self.sweep.recipe.tasks
            if task in tasks
        ]
        dense = self.space.configs(self.space.dense_params) if self.space.retrains else []
        longer = [config.model_copy(update={"retraining": LONGER}) for config in dense]
        return Baselines(configs if "delta_m" in columns else [], self.sweep.primaries, longer)


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

    here: see `search.sweep.open_sweep`.
    """
    if proposals is None and budget_hours is None:
        raise BadInput("search: neither --trials nor --budget-hours; allowed: --trials N, --budget-hours H, or both")
    if proposals is not None and not 1 <= proposals <= MOST_TRIALS:
        raise BadInput(f"--trials {proposals}; allowed: 1 or more, at most {MOST_TRIALS:,}")
    if budget_hours is not None and not 0 < budget_hours <= MOST_HOURS:
        raise BadInput(f"--budget-hours {budget_hours:g}; allowed: more than 0, at most {MOST_HOURS:,}")
    if recipe.pack > 1 and recipe.racing and len(recipe.seed_list) > 1:
        raise BadInput(
            f"search: pack = {recipe.pack} with racing = true; allowed: pack = 1, or racing = false, as the trials of "
            "a pack train together to their ends"
        )
    sweep = open_sweep(recipe, storage, name, data, here=here, searched=True)
    space = make_space(sweep.recipe, sweep.data_version, sweep.weights_version, sweep.network_version)
    wanted = recipe.objectives or (BY_COST if TARGET in space.axes else BY_SPARSITY)
    objectives = parse_objectives(wanted, sweep.metrics)
    if recipe.early_stopping != "none":
        check_running(recipe.compared(wanted), cost_follows=space.cost_follows)
    known = known_objectives(sweep.metrics)
    constraints = tuple(dict.fromkeys(parse_constraint("constraints", text, known) for text in recipe.constraints))
    goal = parse_constraint("--target", target, known) if target is not None else None
    together = [*constraints, *([goal] if goal else [])]
    for column in (*wanted, *(one.column for one in together)):
        if column in LATENCIES and not recipe.measure_latency:
            raise BadInput(f"{column} is not measured by this recipe; allowed: with --set measure_latency=true")
    space = bounded_space(space, together, sweep.dataset.tasks)
    if recipe.sampler == "grid":
        space.grid()
    search = Search(
        sweep,
        space,
        find_sampler(recipe.sampler, space, objectives, together),
        objectives,
        constraints,
        StudyPlace(sweep.store, study),
        proposals if proposals is not None else MANY,
        budget_hours,
        goal,
        _existing(warm_start) if warm_start is not None else None,
    )
    check_study(search.place, search.identity, search.space)
    return search


def _existing(folder: str) -> Store:
    try:
        store = Store.of_sweep(folder)
        found = read_sweep_file(store.waiting(CHECK_SECONDS))
    except (BadInput, StorageError) as error:
        raise BadInput(f"--warm-start {error}") from error
    if found is None:
        raise BadInput(f"--warm-start {folder}: no sweep is there; allowed: the folder or URL of a sweep, STORAGE/NAME")
    return store


@dataclass(frozen=True)
class Outcome:
    """Every proposal of the study, the results of their trials and of the baselines, and whether nothing is left."""

    proposals: list[Proposal]
    results: list[TrialResult]
    complete: bool


def run_search(search: Search, runner: Runner) -> Outcome:
    """Make and run the remaining proposals. Raises the errors of `search.run.run_sweep`."""
    store = search.sweep.store
    with Lease(store) as lease, study_errors():
        store.remove_temporaries()
        return _run(search, runner, lease)


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
        halving=lambda: sweep.make_halving([one.column for one in search.objectives]),
        on_dropped=write_dropped,
        design=search.space.grid() if sweep.recipe.sampler == "grid" else None,
    )
    opened.flush()
    source = BudgetedSource(searcher, opened, search.budget_hours, progress, search.best)
    before = sum(not proposal.seeded for proposal in searcher.proposals)
    left = None if search.proposals == MANY else max(0, search.proposals - before)
    seeds = len(sweep.recipe.seed_list)
    say(
        f"search {store}: {before} proposals made before, {len(searcher.proposals) - before} taken from a sweep, "
        f"{'as many as the time allows' if left is None else left} to make, {seeds} seeds each; {search.place}"
    )
    if unused := search.space.unused:
        say(f"search {store}: does not search the penalty, so that nothing looks at search_space.{', '.join(unused)}")
    if mixed := mixed_versions(known.values(), "" if searcher.exhausted else torch_version()):
        say(f"search {store}: {mixed}")

    def write_tables(ended: Collection[TrialResult], patience: float) -> None:
        numbers = {config.trial_id: one.number for one in searcher.proposals for config in one.configs}
        sweep.write_tables(ended, patience, {"proposal": numbers})
        proposals = proposals_table(searcher.proposals, search.space.names)
        store.waiting(patience).write(PROPOSALS, parquet_bytes(proposals))

    run = Run(sweep, lease, results, progress, write_tables, [source])
    if not searcher.exhausted:
        to_come = searcher.waiting + (left or 0) * seeds
        progress.add_unknown(to_come)
        run.go(runner, source, Plan(searcher.trials, len(results) + to_come, more=_plain(search)))
    lease.check()
    if results:
        prepare(sweep, Plan(searcher.trials, more=_plain(search)))
        run.finish()
    ids = {config.trial_id for config in searcher.trials}
    return Outcome(searcher.proposals, [one for one in results.values() if one.config.trial_id in ids], source.complete)


def _known_results(search: Search, baselines: Baselines) -> tuple[dict[str, TrialResult], dict[str, TrialResult]]:
    """The results of this sweep's trials, with baselines copied from other sweeps; and the same together with the
    results of the sweep that the search starts from. Baselines that are not done are left out: they run again."""
    store = search.sweep.store
    results = search.sweep.read_results()
    earlier: dict[str, TrialResult] = {}
    if search.warm_start is not None:
        with storage_error_as_bad_input():
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
    """The searcher's trials until the time is used up. The study is saved before each trial starts."""

    def __init__(
        self,
        searcher: LambdaSearcher,
        opened: OpenStudy,
        budget_hours: float | None,
        progress: Progress,
        best: Callable[[Sequence[Proposal]], str] = lambda _: "",
    ) -> None:
        self._searcher, self._opened, self._progress, self._best = searcher, opened, progress, best
        progress.best = best(searcher.proposals)
        self.policy = searcher
        # With a budget no trial is taken before there is room for it: it would start even if the time is used up.
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
        self._progress.best = self._best(self._searcher.proposals)

    @property
    def exhausted(self) -> bool:
        return self._searcher.exhausted

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        told = all(proposal.state != "running" for proposal in self._searcher.proposals)
        return self._searcher.exhausted and (told or self._end is not None)


def _typical_seconds(proposals: Collection[Proposal]) -> float:
    """The median duration of the done trials."""
    seconds = [
        (datetime.fromisoformat(result.ended_at) - datetime.fromisoformat(result.started_at)).total_seconds()
        for proposal in proposals
        for result in proposal.results.values()
        if result.status == "done"
    ]
    return median(seconds) if seconds else 0.0


def _plain(search: Search) -> dict[str, Any]:
    """A search's entries of sweep.json."""
    described = {
        "sampler": search.sweep.recipe.sampler,
        "space": search.space.to_plain(),
        "objectives": [one.column for one in search.objectives],
        "constraints": [str(one) for one in search.all_constraints],
        "study": str(search.place),
    }
    more: dict[str, Any] = {"search": described}
    if len(search.objectives) > 1:
        more["objectives"] = [{"column": one.column, "direction": one.direction} for one in search.objectives]
    return more
