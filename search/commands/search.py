"""`parsimony search`: what is asked for, and the answer."""

import argparse
import sys

from mtl.vocabulary.files import PROPOSALS
from search.commands.answer import format_answer, format_front
from search.commands.opening import recipe_of
from search.engine.placement import trials_run_here
from search.engine.runner import RayRunner
from search.tuning.search import MANY, Search, open_search, run_search


def run(options: argparse.Namespace) -> int:
    """The exit status. Raises BadInput and SweepStopped."""
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
        print(describe(opened))
        return 0
    outcome = run_search(opened, RayRunner(options.address))
    failed = [result for result in outcome.results if result.status == "failed"]
    for result in failed:
        print(f"failed: {result.config}: {result.error}", file=sys.stderr)
    dropped = [one for one in outcome.proposals if one.note and one.state != "failed"]
    for one in dropped:
        print(f"proposal {one.number}, lambda={one.configs[0].strength:g}: {one.note}", file=sys.stderr)
    store = opened.sweep.store
    print(f"{len(outcome.proposals)} proposals, {len(failed)} trials failed: {store.shown(PROPOSALS)}")
    print(format_front(opened, outcome.proposals))
    if any(result.status == "done" for result in outcome.results):
        print(format_answer(store))
    if not outcome.complete:
        print("stopped before its end; the same command goes on with the rest", file=sys.stderr)
    return 1 if failed or not outcome.complete else 0


def describe(opened: Search) -> str:
    """What a search would do."""
    space = opened.space.described()
    lines = [f"{name}: {values}" for name, values in space.items() if values]
    lines += [f"objectives: {', '.join(opened.identity['objectives'])}"]
    lines += [f"constraints: {', '.join(opened.identity['constraints']) or 'none'}"]
    lines += [f"sampler: {opened.sweep.recipe.sampler}", f"study: {opened.place}"]
    count = "as many as the time allows" if opened.proposals == MANY else str(opened.proposals)
    lines += [f"proposals: {count}, each with seeds {list(opened.sweep.recipe.seed_list)}", "baselines:"]
    baselines = opened.baselines()
    return "\n".join([*lines, *(f"  {config}" for config in (*baselines.configs, *baselines.beside))])
