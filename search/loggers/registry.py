"""The loggers that a recipe asks for, checked before anything runs."""

import importlib
from types import ModuleType

from mtl.errors import BadInput
from search.loggers.background import Background
from search.loggers.base import Service
from search.recipe import Recipe
from search.store.storage import Store

# What to install for each field. MLflow without its server, which wants an older pyarrow than there is.
DISTRIBUTIONS = {"tensorboard": "tensorboard", "mlflow": "mlflow-skinny", "wandb": "wandb"}


def make_loggers(recipe: Recipe, store: Store) -> list[Background]:
    """One for each field of the recipe that is set; each is to be closed at the end.

    Raises BadInput where a package is missing, or where a service cannot be reached.
    """
    services: list[Service] = []
    if recipe.tensorboard:
        services.append(_module("tensorboard", "true").TensorBoard(store))
    if recipe.mlflow:
        services.append(_module("mlflow", recipe.mlflow).MLflow(recipe.mlflow, store.name))
    if recipe.wandb:
        services.append(_module("wandb", recipe.wandb).WeightsAndBiases(recipe.wandb, store))
    # Threads start only once nothing can be refused any more.
    return [Background(service) for service in services]


def _module(field: str, value: str) -> ModuleType:
    """search.loggers.FIELD, imported only where it is asked for: its package takes a second, and may not be there."""
    try:
        return importlib.import_module(f"search.loggers.{field}")
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        reason = f"the package {field} is not installed" if missing == field else f"cannot be used ({error})"
        raise BadInput(f"{field} = {value}: {reason}; allowed: pip install {DISTRIBUTIONS[field]}") from error
