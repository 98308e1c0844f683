"""`parsimony recipes`: the recipes by name, or one printed whole."""

import argparse

from search.recipe import format_recipe, load_recipe, recipe_names


def run(options: argparse.Namespace) -> int:
    """The exit status. Raises BadInput."""
    if options.name:
        print(format_recipe(load_recipe(options.name, options.set)), end="")
        return 0
    for name in recipe_names():
        print(f"{name:16}{load_recipe(name).title}")
    return 0
