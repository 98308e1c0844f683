"""`parsimony search`: Optuna proposes trials, and the best models found are printed."""

import argparse
import sys

from mtl.vocabulary.files import PROPOSALS
from search.commands.answer import format_answer, format_front
from search.commands.common import exit_status, recipe_of, report_failures
from search.engine.runner import RayRunner, trials_run_here
from search.tuning.search import MANY, Search, open_search, run_search


def run(options: argparse.Namespace) -> int:
    """Returns the exit status. Raises BadInput and SweepStopped."""
    recipe, name = recipe_of(options)
    opened = open_search(
        recipe,
        options.storage,
        name,
        options.data,
        proposals=options.trials,
        budget_hours=options.budget_hours,
        target=options.target,
        study=options.study,
        warm_start=options.warm_start,
        here=trials_run_here(options.address),
    )
    if options.dry_run:
        print(format_plan(opened))
        return 0
    outcome = run_search(opened, RayRunner(options.address))
    failed = report_failures(outcome.results)
    for one in outcome.proposals:
        if one.note and one.state != "failed":
            print(f"proposal {one.number}, {one.strength}: {one.note}", file=sys.stderr)
    store = opened.sweep.store
    print(f"{len(outcome.proposals)} proposals, {failed} trials failed: {store.shown(PROPOSALS)}")
    print(format_front(opened, outcome.proposals))
    if any(result.status == "done" for result in outcome.results):
        print(format_answer(store))
    return exit_status(failed, outcome.complete)


def format_plan(opened: Search) -> str:
    """What a search would do."""
    space, identity, recipe = opened.space.to_plain(), opened.identity, opened.sweep.recipe
    baselines = opened.baselines()
    return "\n".join(
        [
            *(f"{name}: {values}" for name, values in space.items() if values),
            f"objectives: {', '.join(identity['objectives'])}",
            f"constraints: {', '.join(identity['constraints']) or 'none'}",
            f"sampler: {recipe.sampler}",
            f"study: {opened.place}",
            f"proposals: {'as many as the time allows' if opened.proposals == MANY else opened.proposals}, "
            f"each with seeds {list(recipe.seed_list)}",
            "baselines:",
            *(f"  {config}" for config in (*baselines.configs, *baselines.beside)),
        ]
    )
