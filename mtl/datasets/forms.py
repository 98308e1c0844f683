"""Whether a sample has the form that `mtl.tasks` fixes; a reader that gives another would train on wrong labels."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.base import Sample
from mtl.errors import BadInput
from mtl.tasks import IGNORE, Task

# How far from 1 the length of a unit normal may be, which float16 files are.
LENGTH_TOLERANCE = 5e-3


def check_form(sample: Sample, tasks: Mapping[str, Task]) -> None:
    """Raises BadInput, one line, for the first of image and targets whose dtype, shape or values are not allowed."""
    image = sample.image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise BadInput(f"the image is {image.dtype} {image.shape}; allowed: uint8 (H, W, 3)")
    if set(sample.targets) != set(tasks):
        found = ", ".join(sample.targets) or "none"
        raise BadInput(f"it has targets {found}; allowed: all of {', '.join(tasks)}")
    for name, task in tasks.items():
        _check_target(task, sample.targets[name])


def _check_target(task: Task, target: NDArray) -> None:
    match task.kind:
        case "segmentation":
            _check_array(task, target, "uint8 (H, W)", np.uint8, 2)
            _check_classes(task, target, len(task.classes))
        case "depth":
            _check_array(task, target, "float32 (H, W)", np.float32, 2)
            wrong = ~(np.isfinite(target) & (target >= 0))
            if wrong.any():
                raise BadInput(f"{task.name} holds {target[wrong][0]}; allowed: metres, and 0 where there is none")
        case "normals":
            _check_array(task, target, "float32 (H, W, 3)", np.float32, 3)
            length = np.sqrt(np.einsum("hwc,hwc->hw", target, target))
            wrong = ~((np.abs(length - 1) <= LENGTH_TOLERANCE) | (length == 0))
            if wrong.any():
                raise BadInput(f"{task.name} holds a vector of length {length[wrong][0]:.3g}; allowed: 1, or all 0")
        case _:
            _check_array(task, target, "uint8 ()", np.uint8, 0)
            _check_classes(task, target, len(task.classes) or 2)


def _check_array(task: Task, target: NDArray, allowed: str, dtype: type, axes: int) -> None:
    right = target.dtype == dtype and target.ndim == axes and target.size
    if not right or (task.kind == "normals" and target.shape[-1] != 3):
        raise BadInput(f"{task.name} is {target.dtype} {target.shape}; allowed: {allowed}")


def _check_classes(task: Task, target: NDArray, classes: int) -> None:
    wrong = (target >= classes) & (target != IGNORE)
    if wrong.any():
        raise BadInput(f"{task.name} holds label {target[wrong][0]}; allowed: 0..{classes - 1}, and {IGNORE} for none")
