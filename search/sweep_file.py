"""The content of sweep.json: what was run, with which versions, and which trials are planned."""

import contextlib
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtl import __version__
from mtl.config import METHOD_VERSION, TrialConfig
from mtl.datasets.base import Split
from mtl.datasets.cache.build import materialise
from mtl.objectives.constant_predictor import constant_predictor
from mtl.objectives.metrics import primary_metric
from mtl.vocabulary.files import SWEEP
from mtl.vocabulary.objective import COMMON
from mtl.vocabulary.sweep_file import SCHEMA, Machine, SweepFile
from search.store.files import read_sweep_file
from search.store.messages import say
from search.store.storage import Store
from search.sweep import Sweep

OBJECTIVES = ("delta_m", "group_sparsity")
DATA_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class Plan:
    """What a run is going to do.

    Attributes:
        trials: the trials known so far.
        planned: the number of all trials, if not all are known.
        keep: ids of the trials of earlier runs that still count; None for all.
        more: further entries of sweep.json.
    """

    trials: Sequence[TrialConfig]
    planned: int = 0
    keep: Collection[str] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)


def prepare(sweep: Sweep, plan: Plan) -> None:
    """Fetch the pretrained weights, build this node's cache of the data, and write sweep.json."""
    recipe = sweep.recipe
    if recipe.weights:
        from mtl.networks.pretrained import fetch_weights

        fetch_weights(recipe.weights, recipe)
    arrays = materialise(sweep.dataset, recipe.image_size, progress=data_progress())
    earlier = read_sweep_file(sweep.store)
    constants: dict[Split, dict[str, float]] = {"val": {}, "test": {}}
    if earlier is not None and earlier.data_version == sweep.data_version:
        constants = {"val": earlier.constant_predictor_val, "test": earlier.constant_predictor}
    if not all(set(sweep.metrics) <= set(known) for known in constants.values()):
        constants = constant_predictor(arrays, sweep.tasks, recipe.protocol)
    sweep.store.write(SWEEP, make_sweep_file(sweep, constants, plan, earlier).to_json())


def make_sweep_file(
    sweep: Sweep, constants: Mapping[Split, Mapping[str, float]], plan: Plan, earlier: SweepFile | None
) -> SweepFile:
    """The content of sweep.json; `earlier` is the content that it replaces."""
    # In the earlier order: a run that plans the same trials does not change the file.
    asked = [one.trial_id for one in plan.trials]
    before = earlier.trials if earlier else ()
    kept = [one for one in before if plan.keep is None or one in plan.keep or one in set(asked)]
    trials = tuple(dict.fromkeys([*kept, *asked]))
    fields: dict[str, Any] = {
        "schema": SCHEMA,
        "name": sweep.store.name,
        "recipe": sweep.recipe.model_dump(mode="json"),
        "data_version": sweep.data_version,
        "weights_version": sweep.weights_version,
        "network_version": sweep.network_version,
        "setup": sweep.setup_id,
        "validates_on_train": sweep.dataset.validates_on_train,
        "method_version": METHOD_VERSION,
        "versions": versions(),
        "git_commit": git_commit(),
        "trials_planned": max(len(trials), plan.planned),
        "trials": trials,
        "objectives": [{"column": column, "direction": COMMON[column]} for column in OBJECTIVES],
        "tasks": {
            task.name: {"kind": task.kind, "classes": list(task.classes), "primary": primary_metric(task)}
            for task in sweep.tasks
        },
        "metrics": {
            name: {"label": one.label, "direction": one.direction, "unit": one.unit}
            for name, one in sweep.metrics.items()
        },
        "constant_predictor": dict(constants["test"]),
        "constant_predictor_val": dict(constants["val"]),
    }
    if earlier is not None and earlier.hardware:
        fields["hardware"] = [one.model_dump(mode="json") for one in earlier.hardware]
    # A sweep or a single trial in a search's folder keeps the search's entries.
    if earlier is not None and earlier.search is not None:
        fields |= earlier.model_dump(mode="json", include={"search", "objectives"})
    return SweepFile.model_validate_json(json.dumps(fields | dict(plan.more)))


def record_machines(store: Store, machines: Iterable[Machine | None]) -> None:
    """Add the machines to sweep.json that it does not know yet. Raises StorageError."""
    asked = [one for one in dict.fromkeys(machines) if one is not None]
    known = read_sweep_file(store) if asked else None
    if known is None or set(asked) <= set(known.hardware):
        return
    hardware = tuple(dict.fromkeys([*known.hardware, *asked]))
    store.write(SWEEP, known.model_copy(update={"hardware": hardware}).to_json())


def versions() -> dict[str, str]:
    """The versions of the software on which results depend."""
    packages = ("torch", "torchvision", "ray", "optuna", "numpy")
    found = {"python": platform.python_version(), "parsimony": __version__}
    found |= {name: importlib.metadata.version(name) for name in packages}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # only for those who use its networks
        found["timm"] = importlib.metadata.version("timm")
    return found


def git_commit() -> str | None:
    """The commit of the source, with `-dirty` if it was changed since; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def data_progress() -> Callable[[int, int], None]:
    """A callback that prints the progress of the data's cache: at the start, every few seconds, and at the end."""
    said = -DATA_PROGRESS_SECONDS

    def progress(done: int, total: int) -> None:
        nonlocal said
        if done == total or time.monotonic() - said >= DATA_PROGRESS_SECONDS:
            say(f"data: {done} of {total} images prepared")
            said = time.monotonic()

    return progress
