"""The loggers that a recipe asks for, checked before anything runs."""

import importlib
from types import ModuleType

from mtl.errors import BadInput
from search.loggers.background import Background
from search.loggers.base import Service
from search.recipe import Recipe
from search.store.storage import Store

# What to install for each field. MLflow's server needs an older pyarrow, so only its client.
DISTRIBUTIONS = {"tensorboard": "tensorboard", "mlflow": "mlflow-skinny", "wandb": "wandb"}


def make_loggers(recipe: Recipe, store: Store) -> list[Background]:
    """A logger for each field of the recipe that is set. The caller closes them.

    Raises BadInput if a package is missing, or if a service cannot be reached.
    """
    services: list[Service] = []
    if recipe.tensorboard:
        services.append(_module("tensorboard", "true").TensorBoard(store))
    if recipe.mlflow:
        services.append(_module("mlflow", recipe.mlflow).MLflow(recipe.mlflow, store.name))
    if recipe.wandb:
        services.append(_module("wandb", recipe.wandb).WeightsAndBiases(recipe.wandb, store))
    # The threads start last, when nothing can fail any more.
    return [Background(service) for service in services]


def _module(field: str, value: str) -> ModuleType:
    """Import search.loggers.FIELD, only if needed: its package takes a second to import, and may not be installed."""
    try:
        return importlib.import_module(f"search.loggers.{field}")
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        reason = f"the package {field} is not installed" if missing == field else f"cannot be used ({error})"
        raise BadInput(f"{field} = {value}: {reason}; allowed: pip install {DISTRIBUTIONS[field]}") from error
