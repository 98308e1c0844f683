"""`parsimony recipes`: the recipes by name, or one recipe in full."""

import argparse

from search.recipe_file import format_recipe, load_recipe, recipe_names


def run(options: argparse.Namespace) -> int:
    """Returns the exit status. Raises BadInput."""
    if options.name:
        print(format_recipe(load_recipe(options.name, options.set)), end="")
        return 0
    names = recipe_names()
    width = max(map(len, names)) + 2
    for name in names:
        print(f"{name:{width}}{load_recipe(name).title}")
    return 0
