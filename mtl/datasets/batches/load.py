"""Batches of tensors from the arrays of a split, on the device that trains.

Samples travel as they are stored: images as bytes, a quarter of their size as numbers. Threads read the next batches
while the network is busy (`mtl.datasets.batches.prefetch`); for CUDA they read into pinned memory, from which the copy
to the device runs by itself. Conversion, augmentation and normalisation are done where the network is.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from mtl.datasets.batches.augmentation import Batch, augment, draw
from mtl.datasets.batches.prefetch import read_ahead
from mtl.tasks import Task

# One split, by "image" and the tasks' names: memory maps of the cache, or tensors that `resident` made of them.
SplitArrays = Mapping[str, np.ndarray] | Mapping[str, Tensor]

# What `resident` has put on devices, by the array and the device, as long as a training reads it.
_HELD: WeakValueDictionary[tuple[int, str], Tensor] = WeakValueDictionary()

# ImageNet's statistics, so that pretrained backbones see what they were trained on.
MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
CPU = torch.device("cpu")
# Of a GPU's free memory: what a dataset may take that is kept there unasked. The rest is for the networks of this trial
# and of those that share the GPU, each of which keeps a dataset of its own.
RESIDENT_SHARE = 0.25


class _Plan(NamedTuple):
    """A batch that is not read yet: the indices of its samples, and what was drawn for them."""

    indices: Tensor
    drawn: dict[str, Tensor]


class _Stored(NamedTuple):
    """A batch as it is stored, by "image" and the tasks' names, and what was drawn for it."""

    arrays: dict[str, Tensor]
    drawn: dict[str, Tensor]


def keeps_resident(
    wanted: bool | Literal["auto"], arrays: Iterable[SplitArrays], tasks: Sequence[Task], device: torch.device
) -> bool:
    """Whether these splits are kept in the device's memory; auto: on CUDA, if a quarter of what is free holds them."""
    if device.type != "cuda" or wanted != "auto":
        return device.type == "cuda" and wanted is True
    free, _ = torch.cuda.mem_get_info(device)
    return stored_bytes(arrays, tasks) <= RESIDENT_SHARE * free


def stored_bytes(arrays: Iterable[SplitArrays], tasks: Sequence[Task]) -> int:
    """Of the splits' images and the tasks' targets."""
    return sum(split[name].nbytes for split in arrays for name in ("image", *(task.name for task in tasks)))


def resident(arrays: SplitArrays, tasks: Sequence[Task], device: torch.device) -> SplitArrays:
    """A split's images and the tasks' targets as tensors in a device's memory, for batches that never leave it.

    Trainings of one process that are given the same arrays share them: they only read them.
    """
    return {name: _held(arrays[name], device) for name in ("image", *(task.name for task in tasks))}


def _held(array: np.ndarray | Tensor, device: torch.device) -> Tensor:
    key = (id(array), str(device))
    held = _HELD.get(key)
    if held is None:
        held = _HELD[key] = torch.from_numpy(np.array(array)).to(device)
        held.source = array  # type: ignore[attr-defined]  # no other array can have its id as long as it is there
    return held


def training_batches(
    arrays: SplitArrays,
    tasks: Sequence[Task],
    batch_size: int,
    augmentation: Sequence[str],
    generator: torch.Generator,
    device: torch.device = CPU,
    threads: int = 1,
) -> Iterator[Batch]:
    """One epoch in random order; a last batch that is not full is left out, for the sake of batch norm.

    threads: that read, each a batch ahead. The batches are the same with any number of them.
    """
    count = len(arrays["image"])
    batch_size = min(batch_size, count)
    order = torch.randperm(count, generator=generator)
    if isinstance(arrays["image"], Tensor):
        order = _moved(_pinned(order, device), device)  # once, and not with each batch
    starts = range(0, count - batch_size + 1, batch_size)
    # Drawn batch by batch, as these are asked for: the same numbers in the same order however far ahead is read.
    plans = (_Plan(order[start : start + batch_size], draw(augmentation, batch_size, generator)) for start in starts)
    for stored in _stored(arrays, tasks, plans, len(starts), device, threads):
        images, targets = _decoded(stored)
        images, targets = augment((images, targets), tasks, stored.drawn)
        yield _normalise(images), targets


def evaluation_batches(
    arrays: SplitArrays, tasks: Sequence[Task], batch_size: int, device: torch.device = CPU, threads: int = 1
) -> Iterator[Batch]:
    """Every sample once, in order."""
    count = len(arrays["image"])
    order = torch.arange(count, device=arrays["image"].device if isinstance(arrays["image"], Tensor) else CPU)
    starts = range(0, count, batch_size)
    plans = (_Plan(order[start : start + batch_size], {}) for start in starts)
    for stored in _stored(arrays, tasks, plans, len(starts), device, threads):
        images, targets = _decoded(stored)
        yield _normalise(images), targets


def _stored(
    arrays: SplitArrays,
    tasks: Sequence[Task],
    plans: Iterable[_Plan],
    count: int,
    device: torch.device,
    threads: int,
) -> Iterator[_Stored]:
    """The batches on the device. What is there already, or is a single batch, needs no thread that reads ahead."""
    names = ("image", *(task.name for task in tasks))

    def read(plan: _Plan) -> _Stored:
        chosen = {name: _chosen(arrays[name], plan.indices, device) for name in names}
        return _Stored(chosen, {name: _pinned(numbers, device) for name, numbers in plan.drawn.items()})

    there = isinstance(arrays["image"], Tensor)
    for stored in map(read, plans) if there or count <= 1 else read_ahead(read, plans, threads):
        yield _Stored(*({name: _moved(x, device) for name, x in part.items()} for part in stored))


def _chosen(array: np.ndarray | Tensor, indices: Tensor, device: torch.device) -> Tensor:
    """Copies of the samples at the indices: on the array's device, or in memory from which the device can read."""
    if isinstance(array, Tensor):
        return array.index_select(0, indices)
    # As a plain array, half the time of indexing the memory map, which wraps the copy as a map again.
    plain, rows = np.asarray(array), indices.numpy()
    if device.type != "cuda":
        return torch.from_numpy(np.take(plain, rows, axis=0))
    first = torch.from_numpy(plain[:0].copy())
    result = torch.empty((len(rows), *first.shape[1:]), dtype=first.dtype, pin_memory=True)
    # "clip" never clips here; with the usual mode numpy would write to a buffer first.
    np.take(plain, rows, axis=0, out=result.numpy(), mode="clip")
    return result


def _pinned(x: Tensor, device: torch.device) -> Tensor:
    return x.pin_memory() if device.type == "cuda" else x


def _moved(x: Tensor, device: torch.device) -> Tensor:
    # torch keeps a pinned tensor's memory until the copy has ended, whoever else lets go of it.
    return x.to(device, non_blocking=True)


def _decoded(stored: _Stored) -> Batch:
    """(N, 3, H, W) float32 images in [0, 1], channels last in memory, and the targets by task."""
    targets = dict(stored.arrays)
    return targets.pop("image").permute(0, 3, 1, 2).float().div_(255), targets


def _normalise(images: Tensor) -> Tensor:
    """(N, 3, H, W) images in [0, 1] with ImageNet's mean and deviation taken out, channels last in memory.

    Done in place, if they are channels last already, on whole rows of pixels: the three numbers of `MEAN` repeated
    along a row take an eighth of the time that broadcasting them over each pixel does.
    """
    count, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(count, height, width * channels)
    mean, deviation = _row_statistics(width, images.device)
    rows.sub_(mean).div_(deviation)
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)


@functools.lru_cache(maxsize=16)
def _row_statistics(width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """`MEAN` and `STD` repeated along a row of pixels, on a device; once there they need not be sent for each batch."""
    with torch.inference_mode(False):
        return MEAN.to(device).flatten().repeat(width), STD.to(device).flatten().repeat(width)
