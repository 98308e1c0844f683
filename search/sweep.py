"""A sweep: a recipe, its data and its store, checked before anything runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mtl.config import METHOD_VERSION, TrialConfig
from mtl.datasets.base import Dataset, Split
from mtl.datasets.cache.build import check_room
from mtl.datasets.registry import load_dataset
from mtl.errors import BadInput
from mtl.limits import check_memory, machine_memory
from mtl.network_fields import RESNETS, TIMM
from mtl.objectives.metrics import metric_infos, primary_metric
from mtl.own_modules import module_to_ship
from mtl.paths import user_path
from mtl.tasks import Task
from mtl.vocabulary.checked import Damaged, shortened
from mtl.vocabulary.close import did_you_mean
from mtl.vocabulary.files import trial_file
from mtl.vocabulary.metric import Metric
from mtl.vocabulary.sweep_file import SweepFile
from search.early_stopping.objectives import check_running, parse_objectives
from search.early_stopping.successive_halving import SuccessiveHalving
from search.engine.context import RunContext
from search.recipe import Recipe, differing_fields, differing_settings, expand
from search.store.files import read_sweep_file, storage_error_as_bad_input
from search.store.messages import say
from search.store.results import TrialResult, read_result, read_results
from search.store.storage import PATIENCE_SECONDS, Store
from search.store.tables import search_columns, write_tables
from search.targets import check_targets

# Batch normalisation needs two training images.
FEWEST_IMAGES: dict[Split, int] = {"train": 2, "val": 1, "test": 1}


@dataclass(frozen=True)
class Sweep:
    """A recipe with its data and its store; `open_sweep` has checked them."""

    recipe: Recipe
    dataset: Dataset
    data: str | None
    store: Store
    weights_version: str = ""
    network_version: str = ""

    @property
    def tasks(self) -> list[Task]:
        return [self.dataset.tasks[name] for name in self.recipe.tasks]

    @cached_property
    def data_version(self) -> str:
        """The data's fingerprint, computed once: for many files it takes seconds."""
        return self.dataset.fingerprint()

    @cached_property
    def configs(self) -> list[TrialConfig]:
        return expand(self.recipe, self.data_version, self.weights_version, self.network_version)

    @property
    def setup_id(self) -> str:
        """The `TrialConfig.setup_id` of the trials with the recipe's own settings."""
        return self.configs[0].setup_id

    @property
    def metrics(self) -> dict[str, Metric]:
        """Every metric of the recipe's tasks by its full name."""
        infos = {name: info for task in self.tasks for name, info in metric_infos(task, self.recipe.protocol).items()}
        return {name: Metric(name, info.label, info.unit, info.direction) for name, info in infos.items()}

    @property
    def primaries(self) -> dict[str, Metric]:
        """The metric of each task that delta_m is made of."""
        return {task.name: self.metrics[primary_metric(task)] for task in self.tasks}

    @property
    def halving(self) -> SuccessiveHalving | None:
        """A new policy that stops trials early; None if the recipe has none."""
        return self.make_halving(self.recipe.stopping_objectives)

    def make_halving(self, wanted: Sequence[str]) -> SuccessiveHalving | None:
        """The same for these objectives."""
        recipe = self.recipe
        if recipe.early_stopping == "none":
            return None
        objectives = parse_objectives(recipe.compared(wanted), self.metrics)
        primaries = {task: metric.objective("val") for task, metric in self.primaries.items()}
        return SuccessiveHalving(objectives, primaries, recipe.first_rung, recipe.reduction_factor)

    @property
    def _modules_to_ship(self) -> tuple[Path, ...]:
        """Files and packages of the user's own that trials import."""
        found = (module_to_ship(name) for name in (self.recipe.dataset, self.recipe.network))
        return tuple(dict.fromkeys(path for path in found if path is not None))

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
            loader_threads=self.recipe.loader_threads,
            base=self.configs[0],
            own_modules=self._modules_to_ship,
            pack=self.recipe.pack,
        )

    def read_results(self) -> dict[str, TrialResult]:
        """Every finished trial of the sweep, by its id. Raises BadInput if a result is damaged or of other tasks."""
        with storage_error_as_bad_input():
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
        """Write the tables, with the settings that a search has chosen for its trials; see `results_table`."""
        configs = {one.config.trial_id: one.config for one in results}
        differing = {
            trial_id: " ".join(filter(None, [differing_fields(self.recipe, config), _way(config, configs)]))
            for trial_id, config in configs.items()
        }
        columns = {"settings": differing, **(self._searched if more is None else more)}
        write_tables(self.store.waiting(patience), results, self.metrics, self.primaries, columns)


def _way(config: TrialConfig, configs: Mapping[str, TrialConfig]) -> str:
    """The steps of a path that came before this one, such as "via=0.5,0.25": they decide its numbers too."""
    targets: list[str] = []
    before = configs.get(config.warm_started_from)
    while before is not None and before.compressor == "path":
        targets.insert(0, f"{before.target_macs:g}")
        before = configs.get(before.warm_started_from)
    return f"via={','.join(targets)}" if targets else ""


def open_sweep(
    recipe: Recipe,
    storage: str,
    name: str,
    data: str | None,
    *,
    accept_done: bool = False,
    here: bool = False,
    searched: bool = False,
) -> Sweep:
    """Check everything that can be checked before a trial runs; writes nothing. Raises BadInput.

    Args:
        accept_done: allow other settings than the sweep was run with if all trials of the recipe are done there; a
            search makes such trials.
        searched: whether it is for a search, which proposes trials of its own and checks what they are compared by.
        here: whether the trials are sure to run on this machine; then they must fit into its memory.
    """
    root = None if data is None else user_path("--data", data).absolute()
    dataset = load_dataset(recipe.dataset, root, recipe.dataset_options)
    _check_dataset(recipe, dataset)
    network = _check_network(recipe, dataset)
    if not searched:
        check_targets(recipe, dataset.tasks)
    if here and not recipe.gpus_per_trial:
        largest = [dataset.tasks[task] for task in max(recipe.task_combinations, key=len)]
        check_memory(recipe, largest, dataset.size("train"), machine_memory(), pack=recipe.pack)
    check_room(dataset, recipe.image_size)
    version = ""
    if recipe.weights:
        # Imported only if needed: networks take time to import, and memory that a driver of many trials needs.
        from mtl.networks.pretrained import absolute_weights, check_weights, weights_version

        weights = absolute_weights(recipe.weights)
        recipe = recipe.model_copy(update={"weights": weights})
        version = weights_version(weights, recipe)
        check_weights(recipe)
    store = Store(storage, name)
    store.check()
    sweep = Sweep(recipe, dataset, str(root) if root else None, store, version, network)
    with storage_error_as_bad_input():
        earlier = read_sweep_file(store)
    if earlier is not None:
        _check_same(sweep, earlier, accept_done)
    parse_objectives(recipe.stopping_objectives, sweep.metrics)
    if recipe.early_stopping != "none" and not searched:
        check_running(recipe.compared(recipe.stopping_objectives), cost_follows=recipe.cost_follows)
    if dataset.validates_on_train:
        say(f"dataset {recipe.dataset}: validates on images that it trains on; choose no model by val_… or delta_m")
    return sweep


def _check_network(recipe: Recipe, dataset: Dataset) -> str:
    """Raise BadInput for a network that does not fit the recipe; what identifies the code of one of the user's own."""
    if recipe.head == "deeplabv3" and {recipe.network, *recipe.search_space.get("backbone", ())} <= {*RESNETS}:
        return ""
    # Imported only if needed, as the weights' module is.
    from mtl.networks.checks import check_compaction, check_network
    from mtl.networks.own_network import network_version

    version = network_version(recipe)
    largest = [dataset.tasks[task] for task in max(recipe.task_combinations, key=len)]
    for backbone in dict.fromkeys([recipe.backbone, *recipe.search_space.get("backbone", ())]):
        if backbone != recipe.backbone and ":" in str(backbone) and not str(backbone).startswith(TIMM):
            raise BadInput(
                f"search_space.backbone has {backbone!r}, a class of your own; allowed: our names and timm's, as a "
                "trial's id has the code of one class"
            )
        one = recipe.model_copy(update={"backbone": backbone})
        check_network(one, largest, recipe.retraining, recipe.compressors)
        if backbone not in RESNETS:
            check_compaction(one, largest)
    return version


def _check_dataset(recipe: Recipe, dataset: Dataset) -> None:
    """Raise BadInput if the dataset has too few images or lacks a task."""
    for split, fewest in FEWEST_IMAGES.items():
        if (found := dataset.size(split)) < fewest:
            raise BadInput(f"dataset {recipe.dataset}: its {split} split has {found} images; allowed: {fewest} or more")
    for task in recipe.tasks:
        if task not in dataset.tasks:
            hint = did_you_mean(task, dataset.tasks)
            allowed = ", ".join(dataset.tasks)
            raise BadInput(
                f"tasks: {task!r}; {hint}allowed, because dataset {dataset.name} has their labels: {allowed}"
            )


def _check_same(sweep: Sweep, earlier: SweepFile, accept_done: bool) -> None:
    """Raise BadInput if the sweep was run with another method, other settings, other data or other weights before."""
    recipe, store = sweep.recipe, sweep.store
    if earlier.method_version != METHOD_VERSION:
        raise BadInput(
            f"sweep {store} was run with method {earlier.method_version}, this version of parsimony has method "
            f"{METHOD_VERSION}, which gives other numbers for the same settings: allowed: another --name"
        )
    before = earlier.recipe.model_dump(mode="json")
    fields = differing_settings(before, recipe)
    if fields and not (accept_done and all(_is_done(store, config) for config in sweep.configs)):
        asked = recipe.model_dump(mode="json")[fields[0]]
        why = f", so its trials use {recipe.trial_precision}" if fields[0] == "gpus_per_trial" else ""
        raise BadInput(
            f"sweep {store} was run with {fields[0]} = {shortened(before.get(fields[0]))}, this recipe has {asked}{why}"
            ": allowed: the same settings, or another --name"
        )
    # A trial's id contains the version of its data, so trials that are done with other data are never this recipe's.
    if earlier.data_version and earlier.data_version != sweep.data_version:
        raise BadInput(
            f"sweep {store} was run with data of version {shortened(earlier.data_version)}, dataset "
            f"{recipe.dataset}{f' in {sweep.data}' if sweep.data else ''} has version {sweep.data_version}: "
            "allowed: the same files and the same code that reads them, or another --name"
        )
    if sweep.network_version != earlier.network_version:
        raise BadInput(
            f"sweep {store} was run with code of {recipe.network} of version "
            f"{shortened(earlier.network_version) or 'none'}, which has version {sweep.network_version or 'none'} now: "
            "allowed: the same code, or another --name"
        )
    if sweep.weights_version != earlier.weights_version:
        known = shortened(earlier.weights_version) if earlier.weights_version else "none"
        raise BadInput(
            f"sweep {store} was run with weights of version {known}, this recipe's weights = {recipe.weights} has "
            f"version {sweep.weights_version or 'none'}: allowed: the same weights, or another --name"
        )


def _is_done(store: Store, config: TrialConfig) -> bool:
    try:
        result = read_result(store, config.trial_id)
    except Damaged:
        return False
    return result is not None and result.status == "done"
