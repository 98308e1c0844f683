"""The recipe and the sweep that a command's options name."""

import argparse
from pathlib import Path

from mtl.datasets.registry import add_module_folders
from mtl.paths import user_path
from search.recipe import Recipe, load_recipe, recipe_name
from search.sweep import Sweep, open_sweep


def recipe_of(options: argparse.Namespace) -> tuple[Recipe, str]:
    """The recipe, whose folder and the current one may hold modules of the user's, and the sweep's name."""
    recipe = load_recipe(options.recipe, options.set)
    add_module_folders([user_path("recipe", options.recipe).absolute().parent, Path.cwd()])
    return recipe, recipe_name(options.recipe) if options.name is None else options.name


def sweep_of(options: argparse.Namespace, *, here: bool, done_will_do: bool = False) -> Sweep:
    """Checked as `search.sweep.open_sweep` says. Raises BadInput."""
    recipe, name = recipe_of(options)
    return open_sweep(recipe, options.storage, name, options.data, done_will_do=done_will_do, here=here)
