"""A sweep from recipe to results: planned, checked against what the store has, run, and written down."""

import difflib
import importlib.metadata
import json
import platform
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from mtl.config import METHOD_VERSION, TrialConfig
from mtl.datasets.base import Dataset, Split
from mtl.datasets.cache.build import check_room, materialise
from mtl.datasets.registry import load_dataset
from mtl.errors import BadInput
from mtl.limits import check_memory, machine_memory
from mtl.objectives.constant_predictor import constant_predictor
from mtl.objectives.metrics import MetricInfo, metric_infos, primary_metric
from mtl.paths import user_path
from mtl.tasks import Task
from search.early_stopping.objectives import Objective, check_running, parse_objectives
from search.early_stopping.successive_halving import SuccessiveHalving
from search.engine.context import RunContext
from search.engine.drive import drive, say
from search.recipe import Recipe, differing_fields, differing_settings, expand
from search.store.files import SCHEMA, Damaged, nothing_run_yet, read_sweep_file, shortened
from search.store.lease import Lease
from search.store.progress import Progress
from search.store.results import (
    TrialResult,
    mixed_versions,
    read_result,
    read_results,
    search_columns,
    torch_version,
    write_tables,
)
from search.store.reuse import is_baseline, reuse_trials
from search.store.storage import PATIENCE_SECONDS, SWEEP, Store, trial_file

OBJECTIVES = (("delta_m", "maximize"), ("group_sparsity", "maximize"))
# Batch norm needs two images to train on.
FEWEST_IMAGES: dict[Split, int] = {"train": 2, "val": 1, "test": 1}
DATA_PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class Sweep:
    """A recipe with its data and its store, checked: the trials can be listed and run."""

    recipe: Recipe
    dataset: Dataset
    data: str | None
    store: Store
    weights_version: str = ""

    @property
    def tasks(self) -> list[Task]:
        return [self.dataset.tasks[name] for name in self.recipe.tasks]

    @cached_property
    def data_version(self) -> str:
        """The data's fingerprint, found once: of many files it takes seconds."""
        return self.dataset.fingerprint()

    @cached_property
    def configs(self) -> list[TrialConfig]:
        return expand(self.recipe, self.data_version, self.weights_version)

    @property
    def setup_id(self) -> str:
        """Of the trials with the recipe's own settings; see `TrialConfig.setup_id`."""
        return self.configs[0].setup_id

    @property
    def metrics(self) -> dict[str, MetricInfo]:
        """Every metric of the recipe's tasks by its full name."""
        return {name: info for task in self.tasks for name, info in metric_infos(task, self.recipe.protocol).items()}

    @property
    def primaries(self) -> dict[str, str]:
        return {task.name: primary_metric(task) for task in self.tasks}

    @property
    def halving(self) -> SuccessiveHalving | None:
        """What decides which trials are stopped early, as it is before any has run; None where none is to be."""
        recipe = self.recipe
        if recipe.early_stopping == "none":
            return None
        objectives = parse_objectives(recipe.objectives, self.metrics)
        primaries = {
            task: Objective(f"val_{metric}", self.metrics[metric].direction) for task, metric in self.primaries.items()
        }
        used = objectives[:1] if recipe.early_stopping == "asha" else objectives
        return SuccessiveHalving(used, primaries, recipe.first_rung, recipe.reduction_factor)

    @property
    def context(self) -> RunContext:
        return RunContext(
            storage=self.store.storage,
            name=self.store.name,
            data=self.data,
            threads=self.recipe.cpus_per_trial,
            gpus=self.recipe.gpus_per_trial,
            checkpoint_seconds=self.recipe.checkpoint_seconds,
            retries=self.recipe.max_retries,
        )

    def read_results(self) -> dict[str, TrialResult]:
        """Every finished trial of the sweep, by its id. Raises BadInput where one is damaged or of other tasks."""
        with nothing_run_yet():
            results = read_results(self.store)
        for trial_id, result in results.items():
            if not set(result.config.tasks) <= set(self.recipe.tasks):
                raise BadInput(
                    f"{self.store.shown(trial_file(trial_id, ''))}: is a trial of {result.config.combination}; "
                    f"allowed: of {', '.join(self.recipe.tasks)}, as the recipe's are; or remove the folder"
                )
        return results

    @cached_property
    def _searched(self) -> dict[str, dict[str, Any]]:
        return search_columns(self.store)

    def write_tables(
        self,
        results: Collection[TrialResult],
        patience: float = PATIENCE_SECONDS,
        more: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """As `search.store.results.write_tables`, with the settings of trials that a search made."""
        differing = {one.config.trial_id: differing_fields(self.recipe, one.config) for one in results}
        columns = {"settings": differing, **(self._searched if more is None else more)}
        write_tables(self.store.waiting(patience), results, self.metrics, self.primaries, columns)


def open_sweep(
    recipe: Recipe, storage: str, name: str, data: str | None, *, done_will_do: bool = False, here: bool = False
) -> Sweep:
    """Check everything that can be checked before a trial runs; writes nothing. Raises BadInput.

    here: whether the trials are sure to run on this machine, so that they must fit into its memory.
    done_will_do: settings that the sweep was not run with are allowed where all of the recipe's trials are done there:
    a search makes trials with settings of their own.
    """
    root = None if data is None else user_path("--data", data).absolute()
    dataset = load_dataset(recipe.dataset, root, recipe.dataset_options)
    for split, fewest in FEWEST_IMAGES.items():
        if dataset.size(split) < fewest:
            found = dataset.size(split)
            raise BadInput(f"dataset {recipe.dataset}: its {split} split has {found} images; allowed: {fewest} or more")
    for task in recipe.tasks:
        if task not in dataset.tasks:
            names = {name.lower(): name for name in dataset.tasks}
            close = difflib.get_close_matches(task.lower(), names, n=1)
            hint = f"did you mean {names[close[0]]}? " if close else ""
            allowed = ", ".join(dataset.tasks)
            raise BadInput(f"tasks: {task!r}; {hint}allowed, as dataset {dataset.name} has labels for them: {allowed}")
    if here and not recipe.gpus_per_trial:
        largest = [dataset.tasks[task] for task in max(recipe.task_combinations, key=len)]
        check_memory(recipe, largest, dataset.size("train"), machine_memory())
    check_room(dataset, recipe.image_size)
    version = ""
    if recipe.weights:
        # Networks take their time to import, and memory that a driver of many trials needs for other things.
        from mtl.networks.pretrained import absolute_weights, check_weights, weights_version

        weights = absolute_weights(recipe.weights)
        recipe = recipe.model_copy(update={"weights": weights})
        version = weights_version(weights)
        check_weights(recipe)
    store = Store(storage, name)
    store.check()
    sweep = Sweep(recipe, dataset, str(root) if root else None, store, version)
    with nothing_run_yet():
        earlier = read_sweep_file(store)
    if earlier is not None:
        if earlier.method_version != METHOD_VERSION:
            raise BadInput(
                f"sweep {store} was run with method {earlier.method_version}, this version of parsimony has "
                f"{METHOD_VERSION}, by which the same settings come to other numbers: allowed: another --name"
            )
        fields = differing_settings(earlier.recipe, recipe)
        if fields and not (done_will_do and all(_is_done(store, config) for config in sweep.configs)):
            before, asked = earlier.recipe.get(fields[0]), recipe.model_dump(mode="json")[fields[0]]
            why = f", so that trials are of {recipe.trial_precision}" if fields[0] == "gpus_per_trial" else ""
            raise BadInput(
                f"sweep {store} was run with {fields[0]} = {shortened(before)}, this recipe has {asked}{why}: "
                "allowed: the same settings, or another --name"
            )
        # Trials have their data's version in their ids, so that done ones of other data are never this recipe's.
        if earlier.data_version and earlier.data_version != sweep.data_version:
            raise BadInput(
                f"sweep {store} was run with data of version {shortened(earlier.data_version)}, dataset "
                f"{recipe.dataset}{f' in {root}' if root else ''} has version {sweep.data_version}: "
                "allowed: the same files and the same code that reads them, or another --name"
            )
        if version != earlier.weights_version:
            known = shortened(earlier.weights_version) if earlier.weights_version else "none"
            raise BadInput(
                f"sweep {store} was run with weights of version {known}, this recipe's weights = {recipe.weights} has "
                f"version {version or 'none'}: allowed: the same weights, or another --name"
            )
    parse_objectives(recipe.objectives, sweep.metrics)
    if recipe.early_stopping != "none":
        check_running(recipe.objectives)
    if dataset.validates_on_train:
        say(f"dataset {recipe.dataset}: validates on images that it trains on; choose no model by val_… or delta_m")
    return sweep


def _is_done(store: Store, config: TrialConfig) -> bool:
    try:
        result = read_result(store, config.trial_id)
    except Damaged:
        return False
    return result is not None and result.status == "done"


def run_sweep(sweep: Sweep, address: str | None) -> list[TrialResult]:
    """Run the trials that have no result yet; returns the results of the recipe's trials, failed ones among them.

    Raises BadInput where another driver runs the sweep, and SweepStopped where the storage fails or another took over.
    """
    with Lease(sweep.store) as lease:
        sweep.store.remove_temporaries()
        return _run_sweep(sweep, address, lease)


def _run_sweep(sweep: Sweep, address: str | None, lease: Lease) -> list[TrialResult]:
    recipe, store = sweep.recipe, sweep.store
    results = sweep.read_results()
    # A trial that was stopped early has ended, unless this run is to stop none.
    again = {"failed"} if sweep.halving else {"failed", "stopped"}
    to_run = [c for c in sweep.configs if c.trial_id not in results or results[c.trial_id].status in again]
    # Δm of every sweep in the storage is against the same models.
    reused = {one.config.trial_id: one for one in reuse_trials(store, [one for one in to_run if is_baseline(one)])}
    results |= reused
    to_run = [config for config in to_run if config.trial_id not in reused]
    done_before = len(sweep.configs) - len(to_run)
    others = f" ({len(reused)} baselines of other sweeps in the storage)" if reused else ""
    say(f"sweep {store}: {len(sweep.configs)} trials, {done_before} done before{others}, {len(to_run)} to run")
    if mixed := mixed_versions(results.values(), torch_version() if to_run else ""):
        say(f"sweep {store}: {mixed}")
    # What an earlier run planned and never ran is not missing, unless this recipe asks for it too.
    ended = set(results)
    if to_run:
        from search.engine.trial_source import ListedTrials

        for config in to_run:
            results.pop(config.trial_id, None)
        halving = sweep.halving
        if halving is not None:
            for result in results.values():
                for row in result.history:
                    halving.record(result.config, row)
        drive(
            recipe,
            store,
            sweep.context,
            ListedTrials(to_run),
            to_run[0],
            results,
            address=address,
            lease=lease,
            progress=Progress(store, to_run, done_before),
            prepare=lambda: prepare(sweep, sweep.configs, keep=ended),
            write_tables=sweep.write_tables,
            policy=halving,
        )
    elif reused or _behind(sweep, ended):
        prepare(sweep, sweep.configs, keep=ended)
    lease.check()
    sweep.write_tables(list(results.values()))
    return [results[c.trial_id] for c in sweep.configs if c.trial_id in results]


def _behind(sweep: Sweep, ended: Collection[str]) -> bool:
    """Whether sweep.json is of an earlier version, or has trials without a result that this recipe does not ask for."""
    earlier = read_sweep_file(sweep.store)
    if earlier is None:
        return False
    return not earlier.setup or not set(earlier.trials) <= {*ended, *(one.trial_id for one in sweep.configs)}


def run_one(sweep: Sweep, config: TrialConfig) -> TrialResult:
    """One trial of the sweep in this process, into the same store; not run again where it has been done.

    It writes the sweep's tables, so it drives the sweep as `run_sweep` does, and raises the same.
    """
    with Lease(sweep.store) as lease:
        return _run_one(sweep, config, lease)


def _run_one(sweep: Sweep, config: TrialConfig, lease: Lease) -> TrialResult:
    results = sweep.read_results()
    done = results.get(config.trial_id)
    if done is not None and done.status == "done":
        say(f"trial {config.trial_id} was done before")
        return done
    if sweep.recipe.gpus_per_trial and not torch.cuda.is_available():
        raise BadInput(f"gpus_per_trial = {sweep.recipe.gpus_per_trial:g}; allowed: 0, as this machine has no GPU")
    prepare(sweep, sweep.configs)
    if mixed := mixed_versions(results.values(), torch_version()):
        say(f"sweep {sweep.store}: {mixed}")
    from search.engine.trial import TrialRun

    run = TrialRun(config, sweep.context)
    while run.result is None:
        row = run.step()
        lease.check()
        if row:
            values = "  ".join(
                f"{name} {row[f'val_{name}']:.4g}" for name in (sweep.primaries[t] for t in config.tasks)
            )
            epoch = f"epoch {row['epoch'] + 1:.0f}/{config.total_epochs}"
            say(f"{epoch}  {values}  group_sparsity {row['group_sparsity']:.3f}")
    results[config.trial_id] = run.result
    sweep.write_tables(list(results.values()))
    return run.result


def prepare(
    sweep: Sweep,
    trials: Sequence[TrialConfig],
    planned: int = 0,
    keep: Collection[str] | None = None,
    **more: Any,
) -> None:
    """Fetch the pretrained weights, build this node's cache of the data and write sweep.json.

    trials: those known so far; planned: how many there are to be, where these are not all; keep: of the trials that
    earlier runs planned those that still count, left out: all; more: entries of sweep.json.
    """
    if sweep.recipe.weights:
        from mtl.networks.pretrained import fetch_weights

        fetch_weights(sweep.recipe.weights)
    recipe = sweep.recipe
    arrays = materialise(sweep.dataset, recipe.image_size, progress=data_progress())
    earlier = read_sweep_file(sweep.store)
    same_data = earlier is not None and earlier.data_version == sweep.data_version
    constants: dict[Split, dict[str, float]] = {"val": {}, "test": {}}
    if earlier is not None and same_data:
        constants = {"val": earlier.constant_predictor_val, "test": earlier.constant_predictor}
    if not all(set(sweep.metrics) <= set(known) for known in constants.values()):
        constants = constant_predictor(arrays, sweep.tasks, recipe.protocol)
    # In the order of before: a run that plans the same trials leaves the file as it is.
    asked = {one.trial_id for one in trials}
    before = [one for one in (earlier.trials if earlier else ()) if keep is None or one in keep or one in asked]
    description = describe(sweep, constants, trials, before)
    description["trials_planned"] = max(description["trials_planned"], planned)
    # A sweep or a single trial in a search's folder leaves it a search's.
    if earlier is not None and earlier.search is not None:
        description |= {"search": earlier.search, "objectives": list(earlier.objectives)}
    description |= more
    sweep.store.write(SWEEP, json.dumps(description, indent=1, ensure_ascii=False).encode())


def describe(
    sweep: Sweep,
    constants: Mapping[Split, Mapping[str, float]],
    configs: Sequence[TrialConfig],
    planned_before: Sequence[str],
) -> dict[str, Any]:
    """The content of sweep.json: the recipe of this run, and the trials planned by this run and those before."""
    trials = list(dict.fromkeys([*planned_before, *(config.trial_id for config in configs)]))
    return {
        "schema": SCHEMA,
        "name": sweep.store.name,
        "recipe": sweep.recipe.model_dump(mode="json"),
        "data_version": sweep.data_version,
        "weights_version": sweep.weights_version,
        "setup": sweep.setup_id,
        "validates_on_train": sweep.dataset.validates_on_train,
        "method_version": METHOD_VERSION,
        "versions": versions(),
        "git_commit": git_commit(),
        "trials_planned": len(trials),
        "trials": trials,
        "objectives": [{"column": column, "direction": direction} for column, direction in OBJECTIVES],
        "tasks": {
            task.name: {"kind": task.kind, "classes": list(task.classes), "primary": primary_metric(task)}
            for task in sweep.tasks
        },
        "metrics": {name: asdict(info) for name, info in sweep.metrics.items()},
        "constant_predictor": dict(constants["test"]),
        "constant_predictor_val": dict(constants["val"]),
    }


def versions() -> dict[str, str]:
    """Of what a result depends on."""
    packages = ("parsimony", "torch", "torchvision", "ray", "optuna", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in packages}


def git_commit() -> str | None:
    """The commit of the source, `-dirty` where it was changed since; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def data_progress() -> Callable[[int, int], None]:
    """Says how far the data's cache is: as it is begun, every few seconds, and when it is complete."""
    said = -DATA_PROGRESS_SECONDS

    def progress(done: int, total: int) -> None:
        nonlocal said
        if done == total or time.monotonic() - said >= DATA_PROGRESS_SECONDS:
            say(f"data: {done} of {total} images prepared")
            said = time.monotonic()

    return progress
