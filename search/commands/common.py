"""What several commands share: the recipe and the sweep that the options name, and how a run is reported."""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from mtl.own_modules import add_module_folders
from mtl.paths import user_path
from search.recipe import Recipe
from search.recipe_file import load_recipe, recipe_name
from search.store.results import TrialResult
from search.sweep import Sweep, open_sweep


def recipe_of(options: argparse.Namespace) -> tuple[Recipe, str]:
    """The recipe and the sweep's name. The recipe's folder and the current one may hold modules of the user's own."""
    recipe = load_recipe(options.recipe, options.set)
    add_module_folders([user_path("recipe", options.recipe).absolute().parent, Path.cwd()])
    return recipe, recipe_name(options.recipe) if options.name is None else options.name


def sweep_of(options: argparse.Namespace, *, here: bool, accept_done: bool = False) -> Sweep:
    """The sweep, checked by `search.sweep.open_sweep`. Raises BadInput."""
    recipe, name = recipe_of(options)
    return open_sweep(recipe, options.storage, name, options.data, accept_done=accept_done, here=here)


def report_failures(results: Iterable[TrialResult]) -> int:
    """Print each failed trial; returns how many there are."""
    failed = [result for result in results if result.status == "failed"]
    for result in failed:
        print(f"failed: {result.config}: {result.error}", file=sys.stderr)
    return len(failed)


def exit_status(failed: int, complete: bool) -> int:
    """Of a run with so many failed trials; says how to continue if it is not complete."""
    if not complete:
        print("stopped before its end; the same command continues it", file=sys.stderr)
    return 1 if failed or not complete else 0
