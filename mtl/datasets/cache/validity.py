"""Whether a sample's image and targets are what `mtl.tasks` says, so that no trial has to find out."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.base import Sample
from mtl.tasks import IGNORE, Task

# Unit vectors stored in 8 or 16 bits are off by this much.
UNIT_TOLERANCE = 0.02


def invalidity(sample: Sample, tasks: Mapping[str, Task]) -> str | None:
    """What is wrong with a sample, at any size: the target, what was found and what is allowed. None: nothing."""
    if not isinstance(sample.image, np.ndarray):
        return f"its image is a {type(sample.image).__name__}; allowed: a uint8 array (height, width, 3)"
    if sample.image.dtype != np.uint8 or sample.image.ndim != 3 or sample.image.shape[2] != 3:
        return f"its image is {_form(sample.image)}; allowed: uint8 (height, width, 3)"
    if not sample.image.size:
        return f"its image is {_form(sample.image)}; allowed: one pixel or more"
    if not isinstance(sample.targets, Mapping):
        return f"its targets are a {type(sample.targets).__name__}; allowed: a dict of arrays by task"
    if set(sample.targets) != set(tasks):
        return f"it has targets for {sorted(map(str, sample.targets))}; allowed: exactly {sorted(tasks)}"
    for name, target in sample.targets.items():
        if not isinstance(target, np.ndarray | np.generic):
            return f"its {name} is a {type(target).__name__}; allowed: an array"
        if not target.size:
            return f"its {name} is {_form(np.asarray(target))}; allowed: one value or more"
    wrong = ((name, _wrong(task, np.asarray(sample.targets[name]))) for name, task in tasks.items())
    return next((f"its {name} {what}" for name, what in wrong if what), None)


def _wrong(task: Task, target: NDArray) -> str | None:
    match task.kind:
        case "depth":
            if target.dtype != np.float32 or target.ndim != 2:
                return f"is {_form(target)}; allowed: float32 (height, width), in metres"
            # The sum is not finite where a value is not, and is taken without a copy.
            if not (np.isfinite(target.sum(dtype=np.float64)) and target.min(initial=0) >= 0):
                wrong = target[~(np.isfinite(target) & (target >= 0))][0]
                return f"holds {wrong}; allowed: metres, and 0 where there is none"
        case "normals":
            if target.dtype != np.float32 or target.ndim != 3 or target.shape[2] != 3:
                return f"is {_form(target)}; allowed: float32 (height, width, 3)"
            square = np.einsum("hwc,hwc->hw", target, target)
            off = ~((np.abs(square - 1) <= 2 * UNIT_TOLERANCE) | (square == 0))
            if off.any():
                length = float(square[off][0]) ** 0.5
                return f"holds a vector of length {length:.3g}; allowed: 1, and 0 where there is none"
        case _:
            dimensions = 2 if task.dense else 0
            if target.dtype != np.uint8 or target.ndim != dimensions:
                return f"is {_form(target)}; allowed: uint8 {'(height, width)' if dimensions else '()'}"
            count = max(2, task.channels)
            outside = target[(target >= count) & (target != IGNORE)]
            if outside.size:
                return f"holds {outside.flat[0]}; allowed: 0..{count - 1}, and {IGNORE} where there is none"
    return None


def _form(array: NDArray) -> str:
    return f"{array.dtype} {array.shape}"
