"""Many trials: sweeps and searches on Ray Tune, the command line, and from Python what `search.api` has."""

from typing import TYPE_CHECKING, Any

from mtl import __version__

if TYPE_CHECKING:
    from search.api import Found, Predicted, SweepResult, load, run_search, run_sweep
    from search.recipe import Recipe
    from search.recipe_file import load_recipe

_WHERE = {
    "Recipe": "search.recipe",
    "load_recipe": "search.recipe_file",
    **dict.fromkeys(("Found", "Predicted", "SweepResult", "load", "run_search", "run_sweep"), "search.api"),
}
__all__ = [
    "Found",
    "Predicted",
    "Recipe",
    "SweepResult",
    "__version__",
    "load",
    "load_recipe",
    "run_search",
    "run_sweep",
]


def __getattr__(name: str) -> Any:
    """Import only what is asked for: a driver's processes need little of it."""
    if name not in _WHERE:
        raise AttributeError(f"module 'search' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_WHERE[name]), name)
