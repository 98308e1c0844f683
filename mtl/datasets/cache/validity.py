"""Whether a sample's image and targets are what `mtl.tasks` says, so that no trial has to find out."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.base import Sample
from mtl.tasks import IGNORE, Kind, Task

# The type and the axes of an image, and of a target of each kind.
Form = tuple[str, tuple[str | int, ...]]
IMAGE_FORM: Form = ("uint8", ("height", "width", 3))
FORMS: Mapping[Kind, Form] = {
    "segmentation": ("uint8", ("height", "width")),
    "depth": ("float32", ("height", "width")),
    "disparity": ("float32", ("height", "width")),
    "normals": ("float32", ("height", "width", 3)),
    "edges": ("uint8", ("height", "width")),
    "classification": ("uint8", ()),
    "binary": ("uint8", ()),
    "regression": ("float32", ()),
}
# Unit vectors stored in 8 or 16 bits are off by this much.
UNIT_TOLERANCE = 0.02


def form_of(task: Task) -> Form:
    """The type and the axes of a task's targets."""
    dtype, axes = FORMS[task.kind]
    return dtype, (len(task.values),) if task.values else axes


def invalidity(sample: Sample, tasks: Mapping[str, Task]) -> str | None:
    """What is wrong with a sample, at any size: the target, what was found and what is allowed. None: nothing."""
    image = sample.image
    if not isinstance(image, np.ndarray):
        return f"its image is a {type(image).__name__}; allowed: a uint8 array (height, width, 3)"
    if wrong := _wrong_form(image, IMAGE_FORM) or ("allowed: one pixel or more" if not image.size else ""):
        return f"its image is {image.dtype} {image.shape}; {wrong}"
    if not isinstance(sample.targets, Mapping):
        return f"its targets are a {type(sample.targets).__name__}; allowed: a dict of arrays by task"
    if set(sample.targets) != set(tasks):
        return f"it has targets for {sorted(map(str, sample.targets))}; allowed: exactly {sorted(tasks)}"
    for name, target in sample.targets.items():
        if not isinstance(target, np.ndarray | np.generic):
            return f"its {name} is a {type(target).__name__}; allowed: an array"
        if not target.size:
            return f"its {name} is {target.dtype} {target.shape}; allowed: one value or more"
    for name, task in tasks.items():
        target = np.asarray(sample.targets[name])
        if wrong := _wrong_form(target, form_of(task)):
            return f"its {name} is {target.dtype} {target.shape}; {wrong}{', in metres' * (task.kind == 'depth')}"
        if wrong := _wrong_value(task, target):
            return f"its {name} holds {wrong}"
    return None


def _wrong_form(array: NDArray, form: Form) -> str:
    dtype, axes = form
    fits = array.dtype == dtype and array.ndim == len(axes)
    if fits and all(axis in (length, "height", "width") for axis, length in zip(axes, array.shape, strict=True)):
        return ""
    return f"allowed: {dtype} ({', '.join(map(str, axes))})"


def _wrong_value(task: Task, target: NDArray) -> str:
    if task.kind in ("depth", "disparity"):
        # The sum is not finite where a value is not, and is taken without a copy.
        if not (np.isfinite(target.sum(dtype=np.float64)) and target.min() >= 0):
            wrong = target[~(np.isfinite(target) & (target >= 0))][0]
            allowed = "metres" if task.kind == "depth" else task.unit or "0 or more"
            return f"{wrong}; allowed: {allowed}, and 0 where there is none"
    elif task.kind == "regression":
        if np.isinf(target).any():
            return "inf; allowed: numbers, and NaN where there is none"
    elif task.kind == "normals":
        square = np.einsum("hwc,hwc->hw", target, target)
        off = square[~((np.abs(square - 1) <= 2 * UNIT_TOLERANCE) | (square == 0))]
        if off.size:
            return f"a vector of length {float(off[0]) ** 0.5:.3g}; allowed: 1, and 0 where there is none"
    else:
        last = max(2, task.channels) - 1
        outside = target[(target > last) & (target != IGNORE)]
        if outside.size:
            return f"{outside.flat[0]}; allowed: 0..{last}, and {IGNORE} where there is none"
    return ""
