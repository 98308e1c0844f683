"""Batches of tensors from the arrays of a split."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mtl.datasets.batches.augmentation import Batch, augment
from mtl.tasks import Task

# One split, by "image" and the tasks' names: memory maps of the cache, or tensors that `resident` made of them.
SplitArrays = Mapping[str, np.ndarray] | Mapping[str, Tensor]

# ImageNet's statistics, so that pretrained backbones see what they were trained on.
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def resident(arrays: SplitArrays, tasks: Sequence[Task], device: torch.device) -> SplitArrays:
    """A split's images and the tasks' targets as tensors in a device's memory, for batches that never leave it."""
    return {name: torch.from_numpy(np.array(arrays[name])).to(device) for name in ("image", *(t.name for t in tasks))}


def training_batches(
    arrays: SplitArrays,
    tasks: Sequence[Task],
    batch_size: int,
    augmentation: Sequence[str],
    generator: torch.Generator,
) -> Iterator[Batch]:
    """One epoch in random order; a last batch that is not full is left out, for the sake of batch norm."""
    count = len(arrays["image"])
    order = torch.randperm(count, generator=generator).numpy()
    batch_size = min(batch_size, count)
    for start in range(0, count - batch_size + 1, batch_size):
        batch = _read(arrays, tasks, order[start : start + batch_size])
        images, targets = augment(batch, tasks, augmentation, generator)
        yield _normalise(images), targets


def evaluation_batches(arrays: SplitArrays, tasks: Sequence[Task], batch_size: int) -> Iterator[Batch]:
    """Every sample once, in order."""
    count = len(arrays["image"])
    for start in range(0, count, batch_size):
        images, targets = _read(arrays, tasks, np.arange(start, min(start + batch_size, count)))
        yield _normalise(images), targets


def _read(arrays: SplitArrays, tasks: Sequence[Task], indices: np.ndarray) -> Batch:
    """(N, 3, H, W) float32 images in [0, 1], channels last in memory, and the targets by task; all of them copies."""

    def chosen(name: str) -> Tensor:
        array = arrays[name]
        if isinstance(array, Tensor):
            return array.index_select(0, torch.from_numpy(indices).to(array.device))
        # Half the time of indexing the memory map, which wraps the copy as a map again.
        return torch.from_numpy(np.take(np.asarray(array), indices, axis=0))

    return chosen("image").permute(0, 3, 1, 2).float().div_(255), {task.name: chosen(task.name) for task in tasks}


def _normalise(images: Tensor) -> Tensor:
    """(N, 3, H, W) images in [0, 1] with ImageNet's mean and deviation taken out, channels last in memory.

    Done in place, if they are channels last already, on whole rows of pixels: the three numbers of `MEAN` repeated
    along a row take an eighth of the time that broadcasting them over each pixel does.
    """
    count, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(count, height, width * channels)
    mean, deviation = (value.to(images.device).flatten().repeat(width) for value in (MEAN, STD))
    rows.sub_(mean).div_(deviation)
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)
