"""Batches of tensors from the arrays of a split."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch

from mtl.datasets.augmentation import Batch, augment
from mtl.tasks import Task

# ImageNet's statistics, so that pretrained backbones see what they were trained on.
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


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
        batch = _batch(arrays, tasks, order[start : start + batch_size])
        yield augment(batch, tasks, augmentation, generator)


def evaluation_batches(arrays: Mapping[str, np.ndarray], tasks: Sequence[Task], batch_size: int) -> Iterator[Batch]:
    """Every sample once, in order."""
    count = len(arrays["image"])
    for start in range(0, count, batch_size):
        yield _batch(arrays, tasks, np.arange(start, min(start + batch_size, count)))


def _batch(arrays: Mapping[str, np.ndarray], tasks: Sequence[Task], indices: np.ndarray) -> Batch:
    """(N, 3, H, W) float32 normalised images, channels last in memory, and the targets by task."""
    images = torch.from_numpy(arrays["image"][indices]).permute(0, 3, 1, 2)
    targets = {task.name: torch.from_numpy(arrays[task.name][indices]) for task in tasks}
    return (images.float() / 255 - MEAN) / STD, targets
