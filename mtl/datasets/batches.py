"""Batches of tensors from the arrays of a split."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mtl.tasks import Task

# ImageNet's statistics, so that pretrained backbones see what they were trained on.
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)

Batch = tuple[Tensor, dict[str, Tensor]]


def training_batches(
    arrays: Mapping[str, np.ndarray],
    tasks: Sequence[Task],
    batch_size: int,
    augmentation: Sequence[str],
    generator: torch.Generator,
) -> Iterator[Batch]:
    """One epoch in random order; a last batch that is not full is left out, as batch norm wants batches alike."""
    count = len(arrays["image"])
    order = torch.randperm(count, generator=generator).numpy()
    batch_size = min(batch_size, count)
    for start in range(0, count - batch_size + 1, batch_size):
        images, targets = _batch(arrays, tasks, order[start : start + batch_size])
        if "flip" in augmentation:
            images, targets = flip(images, targets, tasks, torch.rand(batch_size, generator=generator) < 0.5)
        yield images, targets


def evaluation_batches(arrays: Mapping[str, np.ndarray], tasks: Sequence[Task], batch_size: int) -> Iterator[Batch]:
    """Every sample once, in order."""
    count = len(arrays["image"])
    for start in range(0, count, batch_size):
        yield _batch(arrays, tasks, np.arange(start, min(start + batch_size, count)))


def flip(images: Tensor, targets: Mapping[str, Tensor], tasks: Sequence[Task], chosen: Tensor) -> Batch:
    """Mirror the chosen images, (N,) bool, left to right with all their targets; the normals' x turns its sign."""

    def mirrored(x: Tensor, dim: int) -> Tensor:
        return torch.where(chosen.view(-1, *[1] * (x.ndim - 1)), x.flip(dim), x)

    flipped = dict(targets)
    for task in tasks:
        if task.dense:
            flipped[task.name] = mirrored(targets[task.name], 2)
        if task.kind == "normals":
            sign = torch.ones(len(chosen), 1, 1, 3)
            sign[chosen, :, :, 0] = -1
            flipped[task.name] = flipped[task.name] * sign
    return mirrored(images, 3), flipped


def _batch(arrays: Mapping[str, np.ndarray], tasks: Sequence[Task], indices: np.ndarray) -> Batch:
    """(N, 3, H, W) float32 normalised images, channels last in memory, and the targets by task."""
    images = torch.from_numpy(arrays["image"][indices]).permute(0, 3, 1, 2)
    targets = {task.name: torch.from_numpy(arrays[task.name][indices]) for task in tasks}
    return (images.float() / 255 - MEAN) / STD, targets
