"""From a script or a notebook: run a sweep or a search, and look at what it found.

    from search import load, run_search, run_sweep

    result = run_sweep("rooms", epochs=4, lambdas=[0, 1e-3])
    result.front                       # a table: what no other model beats in both performance and cost
    result.best()                      # the model to use
    model = result.compact()           # it, without its zero channels: an nn.Module

The same as `parsimony sweep`, `search` and `analyze`, which say what the options mean. All of it raises
`mtl.errors.BadInput`, one line, for what cannot work.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from analysis.compute import summary
from analysis.compute.best import asked_for, trials_to_use
from analysis.compute.everything import Computed, compute
from analysis.compute.setting_names import short_names
from analysis.figures.drawing import Drawing
from analysis.figures.every import Figures, draw_all
from analysis.write.tables import best_table, front_table
from mtl.errors import BadInput
from mtl.own_modules import add_module_folders
from mtl.paths import user_path
from mtl.vocabulary.close import did_you_mean
from mtl.vocabulary.files import HISTORY, MODEL, trial_file
from search.engine.runner import LocalRunner, RayRunner, Runner, trials_run_here
from search.predicted import Predicted
from search.recipe import Recipe
from search.recipe_file import load_recipe, make_recipe, recipe_name
from search.store.copies import local_copy
from search.store.storage import CHECK_SECONDS, Store
from search.sweep import open_sweep

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

MAIN_FIGURE = "cost"
SHOWN = 20  # rows of a table in a notebook
FRONT_COLUMNS = (
    *("tasks", "name", "trials", "test_delta_m_mean", "test_delta_m_std"),
    *("model_macs_share_mean", "model_parameters_share_mean", "group_sparsity_mean"),
)


@dataclass(frozen=True)
class Found:
    """The model to use for one combination of tasks.

    Attributes:
        tasks: the combination, such as segmentation+depth.
        trial_id: of its seeds, the best on the validation split; empty where no model will do.
        why: how it was chosen, or why there is none: the end of a sentence.
        row: of `SweepResult.settings`; empty where there is none.
        sentence: all of it in words, as the report has it.
    """

    tasks: str
    trial_id: str
    why: str
    row: Mapping[str, Any] = field(repr=False)
    sentence: str = field(repr=False)

    def __str__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return f"<p>{html.escape(self.sentence)}</p>"


@dataclass(frozen=True)
class SweepResult:
    """What a sweep or a search has found so far. Shares and Δm are fractions, metrics are in their own units.

    Attributes:
        store: the sweep's folder or URL, STORAGE/NAME.
        computed: all that the analysis finds, as typed tables; see `analysis.compute.everything.Computed`.
        history: one row a trial and epoch.
    """

    store: str
    computed: Computed
    history: pd.DataFrame

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial: settings, status, metrics, sparsities, costs, Δm."""
        return self.computed.sweep.results

    @property
    def settings(self) -> pd.DataFrame:
        """One row a combination, method and strength: means and deviations over seeds."""
        return front_table(self.computed.sweep, self.computed.marked)

    @property
    def front(self) -> pd.DataFrame:
        """Those of the settings that no other setting of the same tasks beats in both performance and cost.

        The columns that one reads first, under the names of `settings`, which has all; `name` is the setting in words,
        `trial_id` the trial to use of its seeds, `best` whether it is the model to use.
        """
        settings = self.settings
        named = settings.assign(
            name=short_names(settings), trial_id=trials_to_use(self.computed.sweep, self.computed.marked)
        )
        kept = settings["on_cost_front"] if settings["on_cost_front"].any() else settings["on_front"]
        tested = [f"test_{metric}_mean" for metric in self.computed.sweep.tasks.values()]
        columns = [name for name in (*FRONT_COLUMNS, *tested, "best", "trial_id") if name in named]
        return named.loc[kept, columns].reset_index(drop=True)

    @property
    def summary(self) -> list[str]:
        """The sentences at the head of the report."""
        found = self.computed
        lines = summary.findings(found.sweep, found.marked, found.bests, found.volumes)
        return [summary.progress(found.sweep), *lines, *found.cautions]

    def best(self, tasks: str | None = None) -> Found:
        """The model to use for a combination; left out: for that with the most tasks."""
        known = {one.tasks: one for one in self.computed.bests}
        wanted = tasks or next(iter(asked_for(list(known))), "")
        if wanted not in known:
            hint = did_you_mean(wanted, known)
            raise BadInput(f"tasks {wanted!r}; {hint}allowed: {', '.join(known) or 'none, as no trial is done'}")
        one = known[wanted]
        row = {} if one.row is None else self.settings.loc[one.row].to_dict()
        sentence = summary.model_to_use(self.computed.sweep, self.computed.marked, one)
        return Found(one.tasks, one.trial_id, one.why, {str(name): value for name, value in row.items()}, sentence)

    @property
    def bests(self) -> pd.DataFrame:
        """The model to use of each combination, in numbers."""
        return best_table(self.computed.sweep, self.computed.marked, self.computed.bests)

    @cached_property
    def figures(self) -> Figures:
        """Every figure of the report by name, and for each that could not be drawn why."""
        return draw_all(self.computed)

    def plot(self, name: str = MAIN_FIGURE) -> Drawing:
        """One figure; a notebook shows it. `plot().png` and `plot().svg` are its files, `plot().data` its numbers."""
        figures = self.figures
        if name in figures.drawn:
            return figures.drawn[name]
        if name in figures.absent:
            raise BadInput(f"figure {name}: {figures.absent[name]}")
        raise BadInput(f"figure {name!r}; {did_you_mean(name, figures.drawn)}allowed: {', '.join(figures.drawn)}")

    def plot_front(self) -> Drawing:
        """Performance against the cost of the whole model, or against group sparsity where that is not known."""
        return self.plot(MAIN_FIGURE if MAIN_FIGURE in self.figures.drawn else "front")

    def model_path(self, trial_id: str | None = None) -> Path:
        """The model.pt of a trial; left out: of the model to use. Of a sweep on this machine."""
        chosen = trial_id or self.best().trial_id
        if not chosen:
            raise BadInput(f"no model to use: {self.best().why}; allowed: a trial's id")
        if "://" in self.store:
            raise BadInput(f"{self.store}: not on this machine; allowed: a copy of it, such as `aws s3 sync` makes")
        path = Path(self.store) / trial_file(chosen, MODEL)
        if not path.is_file():
            raise BadInput(f"trial {chosen}: {path} is not there; allowed: a trial of `result.trials` that is done")
        return path

    def compact(self, trial_id: str | None = None, images: "Tensor | None" = None) -> "nn.Module":
        """A trial's model without its zero channels, with the same outputs; left out: of the model to use.

        images: (N, 3, H, W) normalised, on which the outputs are proved equal; left out: random ones.
        """
        # Imported only here: networks take time to import.
        import torch

        from mtl.compaction import certify, compact
        from mtl.networks.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(self.model_path(trial_id))
        if images is None:
            shape = (2, 3, *checkpoint.config.image_size)
            images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        compacted = compact(checkpoint.model, images)
        certify(checkpoint.model, compacted, [images])
        return compacted

    def predict(self, image: "str | Path | Image.Image | NDArray[np.uint8]", trial_id: str | None = None) -> Predicted:
        """What a trial's model says of an image; left out: the model to use.

        image: a file, a picture, or (H, W, 3) uint8.
        """
        from mtl.networks.checkpoint import load_checkpoint
        from mtl.networks.prediction import predict
        from mtl.networks.prediction_pictures import map_picture

        checkpoint = load_checkpoint(self.model_path(trial_id))
        pixels = _pixels(image)
        found = predict(checkpoint.model, checkpoint.tasks, pixels, checkpoint.config.image_size)
        unit = "share of the image's farthest" if checkpoint.config.protocol == "paper" else "m"
        dense = [task for task in checkpoint.tasks if task.dense]
        pictures = {task.name: Image.fromarray(map_picture(task, found.maps[task.name], unit)) for task in dense}
        return Predicted(pixels, found.maps, found.probabilities, pictures)

    def _repr_html_(self) -> str:
        """What a notebook shows: the sentences of the report's head, its first figure, and the front."""
        lines = "".join(f"<p>{html.escape(line)}</p>" for line in self.summary)
        figure = self.plot_front().svg if {MAIN_FIGURE, "front"} & set(self.figures.drawn) else ""
        svg = figure[figure.find("<svg") :]
        return f"<div>{lines}{svg}{self.front.head(SHOWN).to_html(index=False, float_format='{:.4g}'.format)}</div>"


def run_sweep(
    recipe: str | Recipe,
    *,
    storage: str = "./results",
    name: str | None = None,
    data: str | None = None,
    address: str | None = None,
    here: bool = False,
    **fields: Any,
) -> SweepResult:
    """Run every trial of a recipe that is not done yet.

    Args:
        recipe: a shipped recipe's name, a recipe file, or a Recipe.
        storage: a folder, s3://… or gs://…; the sweep lives in STORAGE/NAME.
        name: the sweep's; left out: the recipe's.
        data: the dataset's folder, for a published dataset.
        address: the Ray cluster to join, HOST:PORT, or local to start a new one.
        here: run the trials one after the other in this process, without Ray.
        fields: in place of the recipe's, such as epochs=3, lambdas=[0, 1e-3].

    Raises:
        BadInput: what cannot work, before anything runs. SweepStopped: the storage failed, or another driver took over.
    """
    from search.run import run_sweep as run

    opened, own_name = _recipe(recipe, fields)
    runner, local = _runner(address, here)
    sweep = open_sweep(opened, storage, own_name if name is None else name, data, here=local)
    run(sweep, runner)
    return load(str(sweep.store))


def run_search(
    recipe: str | Recipe,
    *,
    trials: int | None = None,
    budget_hours: float | None = None,
    target: str | None = None,
    study: str | None = None,
    warm_start: str | None = None,
    storage: str = "./results",
    name: str | None = None,
    data: str | None = None,
    address: str | None = None,
    here: bool = False,
    **fields: Any,
) -> SweepResult:
    """Let Optuna propose λ or the cost, and all other open fields; see `parsimony search --help` and `run_sweep`.

    Args:
        trials: how many proposals in all, each trained with every seed.
        budget_hours: start no trial that would end after this time.
        target: find the best model that meets it, such as "model_macs<=5e6".
        study: where Optuna keeps its study.
        warm_start: a sweep, STORAGE/NAME, whose results the search starts from.
    """
    from search.tuning.search import open_search
    from search.tuning.search import run_search as run

    opened, own_name = _recipe(recipe, fields)
    runner, local = _runner(address, here)
    search = open_search(
        opened,
        storage,
        own_name if name is None else name,
        data,
        proposals=trials,
        budget_hours=budget_hours,
        target=target,
        study=study,
        warm_start=warm_start,
        here=local,
    )
    run(search, runner)
    return load(str(search.sweep.store))


def load(folder: str | Path, *more: str | Path) -> SweepResult:
    """What a sweep or search, STORAGE/NAME, has found, finished or running; with more of them, all merged.

    Raises BadInput where there is none, or no trial is done yet.
    """
    if "://" in str(folder):
        if more:
            raise BadInput(f"{folder}: one of {1 + len(more)} sweeps; allowed: a single URL, or folders")
        store = Store.of_sweep(str(folder)).waiting(CHECK_SECONDS)
        with local_copy(store) as copy:
            return _loaded([copy], str(store))
    folders = [user_path("load", str(one)) for one in (folder, *more)]
    return _loaded(folders, str(folders[0]))


def _loaded(folders: Sequence[Path], store: str) -> SweepResult:
    places = [store, *map(str, folders[1:])]
    computed = compute(folders, (), places)
    tables = [pd.read_parquet(one / HISTORY) for one in folders if (one / HISTORY).is_file()]
    return SweepResult(store, computed, pd.concat(tables, ignore_index=True) if tables else pd.DataFrame())


def _pixels(image: "str | Path | Image.Image | NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """(H, W, 3) RGB. Raises BadInput."""
    if isinstance(image, str | Path):
        from mtl.datasets.reading import read_image

        return read_image(user_path("image", str(image)))
    pixels = np.asarray(image.convert("RGB")) if isinstance(image, Image.Image) else image
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        found = f"{pixels.dtype} {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise BadInput(f"image: {found}; allowed: a file, a picture, or uint8 of (height, width, 3)")
    return pixels


def _recipe(recipe: str | Recipe, fields: Mapping[str, Any]) -> tuple[Recipe, str]:
    """The recipe with these fields, and its name."""
    if isinstance(recipe, Recipe):
        given = {one: getattr(recipe, one) for one in recipe.model_fields_set}
        made, name = make_recipe("of the script", given | dict(fields)), recipe.dataset.rpartition(":")[2]
    else:
        made, name = load_recipe(recipe, fields=fields), recipe_name(recipe)
        add_module_folders([user_path("recipe", recipe).absolute().parent])
    add_module_folders([Path.cwd()])
    return made, name


def _runner(address: str | None, here: bool) -> tuple[Runner, bool]:
    """Where trials run, and whether that is sure to be this machine."""
    if here and address:
        raise BadInput(f"here = True with address = {address}; allowed: one of the two")
    return (LocalRunner(), True) if here else (RayRunner(address), trials_run_here(address))
