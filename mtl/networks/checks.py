"""Whether a recipe's network can be made and does what its tasks need, found before any trial starts."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.compaction.trace import trace
from mtl.config import RETRAINED, TrialSettings
from mtl.errors import BadInput
from mtl.network_fields import RESNETS
from mtl.networks.built_size import build_on_meta
from mtl.networks.dry_run import check_outputs
from mtl.networks.measurement import run_on_meta
from mtl.networks.model import shares_features
from mtl.own_code import first_line, shown
from mtl.tasks import Task

# They weigh the tasks by their gradients of features that all tasks share.
BY_FEATURES = ("gradnorm", "pcgrad", "cagrad", "nash_mtl", "mgda")


def check_compaction(settings: TrialSettings, tasks: Sequence[Task]) -> None:
    """Raise BadInput, naming the module or operation, for a network that could not be made smaller at a trial's end."""
    model = build_on_meta(settings, tasks)
    try:
        trace(model, torch.empty(1, 3, *settings.image_size, device="meta"))
    except BadInput as error:
        raise BadInput(f"{_what(settings)}: {error}") from error


def _what(settings: TrialSettings) -> str:
    return f"model = {settings.model}" if settings.model else f"backbone = {settings.backbone}"


def check_network(
    settings: TrialSettings, tasks: Sequence[Task], retraining: Sequence[str], compressors: Sequence[str]
) -> None:
    """Raise BadInput, one line, for a network that cannot be made, does not take the recipe's images, or does not give
    its tasks' outputs; and for a whole model of the user's own with what needs to know its parts.

    tasks: the largest combination. retraining, compressors: all that the recipe asks for. It runs on the meta device,
    in at most seconds.
    """
    what = _what(settings)
    if settings.network not in RESNETS and "shallow" in compressors:
        raise BadInput(f"compressors has shallow with {what}, whose blocks are not known; allowed: without shallow")
    if settings.network in RESNETS and settings.head == "deeplabv3":
        return
    model = build_on_meta(settings, tasks)
    try:
        if not settings.model:
            height, width = settings.image_size
            features = run_on_meta(model.backbone, settings.image_size, torch.no_grad())  # type: ignore[arg-type]
            channels = model.backbone.out_channels  # type: ignore[union-attr]
            shape = tuple(features.shape) if isinstance(features, Tensor) else ()
            if len(shape) != 4 or shape[:2] != (1, channels) or 0 in shape:
                found = f"a map of shape {shape}" if shape else shown(features)
                raise BadInput(f"gives {found}; allowed: one map of shape (1, {channels}, height, width)")
        check_outputs(model, tasks, settings.image_size)
    except BadInput as error:
        raise BadInput(f"{what}: {error}") from error
    # Whatever the network raises for such images.
    except Exception as error:
        raise BadInput(
            f"{what}: does not take images of {height} x {width} ({type(error).__name__}: {first_line(error)}); "
            "allowed: an image_size that it takes"
        ) from error
    if shares_features(model):
        return
    if settings.task_weighting in BY_FEATURES:
        raise BadInput(
            f"task_weighting = {settings.task_weighting} with {what}, which has no backbone, heads and decode; "
            "allowed: uncertainty, equal, dwa"
        )
    if again := [one for one in retraining if one in RETRAINED]:
        raise BadInput(f"retraining has {again[0]} with {what}, which has no backbone, heads and decode; allowed: none")
