"""Looking through a whole dataset: what is in it, and what is missing, broken or suspicious.

Every sample is read once, by as many processes as the machine has cores; what each finds are counts, so memory stays
small however many samples there are.
"""

import hashlib
import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context

import numpy as np

from mtl.datasets.base import SPLITS, Dataset, Split
from mtl.datasets.cache.validity import invalidity
from mtl.datasets.inspect.plausibility import Place, look_at, warnings
from mtl.datasets.inspect.tallies import Tally, empty_tally, tally
from mtl.errors import BadInput
from mtl.own_code import describe
from mtl.tasks import Task

Size = tuple[int, int]

# The size, (height, width), at which samples are read that are stored at none because they are generated.
GENERATED_SIZE: Size = (48, 64)
# Samples that a process is given at a time.
BATCH = 16
# To start a process takes as long as reading about this many samples.
WORTH_A_PROCESS = 64


@dataclass(frozen=True)
class SplitContent:
    """What one split holds.

    `listed` samples belong to it, `read` of them could be read, and the rest is counts over those. `sizes` has, for
    the image and each dense task, how many there are of each (height, width).
    """

    listed: int
    read: int
    sizes: Mapping[str, Mapping[Size, int]]
    tallies: Mapping[str, Tally]


@dataclass(frozen=True)
class Inspection:
    """All that was found in a dataset.

    `missing` are the dataset's own problems, `broken` what came up as samples were read, and both make it unusable.
    `warnings` do not: labels that are hardly meant, see `plausibility`, samples of different splits that
    are the same picture, and pictures of one colour.
    """

    name: str
    layout: str
    notes: tuple[str, ...]
    tasks: Mapping[str, Task]
    splits: Mapping[Split, SplitContent]
    missing: tuple[str, ...]
    broken: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        return self.missing + self.broken

    @cached_property
    def whole(self) -> SplitContent:
        """All splits taken together."""
        return _sum(self.tasks, self.splits.values())


def inspect_dataset(
    dataset: Dataset, progress: Callable[[int, int], None] | None = None, processes: int | None = None
) -> Inspection:
    """Reads every sample once, at its stored size, and goes on past those that cannot be read.

    A sample with a missing file, which the dataset's `problems` name, is not tried. `progress(done, total)` is called
    as samples come in. `processes`: by default one a core, and this one alone where there are few samples or the
    dataset cannot be sent to another process. Raises `BadInput` where a reading process dies.
    """
    batches = [
        (split, range(start, min(start + BATCH, dataset.size(split))))
        for split in SPLITS
        for start in range(0, dataset.size(split), BATCH)
    ]
    total = sum(dataset.size(split) for split in SPLITS)
    contents: dict[Split, list[SplitContent]] = {split: [] for split in SPLITS}
    broken: list[str] = []
    pictures: dict[str, list[tuple[Split, str]]] = {}
    flat: list[str] = []
    odd: dict[tuple[str, str], list[Place]] = {}
    done = 0
    for (split, indices), found in zip(batches, _read_all(dataset, batches, total, processes), strict=True):
        contents[split].append(found.content)
        broken += found.broken
        flat += [f"{split} {name}: the image has one colour only" for name in found.flat]
        for name, digest in found.pictures:
            pictures.setdefault(digest, []).append((split, name))
        for key, places in found.odd.items():
            odd.setdefault(key, []).extend(places)
        done += len(indices)
        if progress:
            progress(done, total)
    splits = {split: _sum(dataset.tasks, contents[split]) for split in SPLITS}
    whole = _sum(dataset.tasks, splits.values())
    odd_labels = warnings(dataset.tasks, odd, whole.read, splits["train"].tallies, whole.tallies)
    return Inspection(
        name=dataset.name,
        layout=dataset.layout,
        notes=tuple(dataset.notes),
        tasks=dict(dataset.tasks),
        splits=splits,
        missing=tuple(dataset.problems),
        broken=tuple(dict.fromkeys(broken)),  # a damaged file that many samples share is named once
        warnings=(*odd_labels, *_leaks(pictures.values(), dataset.validates_on_train), *flat),
    )


@dataclass
class _Found:
    """What one batch of samples gave; `pictures` has each sample's name and a hash of its image."""

    content: SplitContent
    broken: list[str] = field(default_factory=list)
    pictures: list[tuple[str, str]] = field(default_factory=list)
    flat: list[str] = field(default_factory=list)
    odd: dict[tuple[str, str], list[Place]] = field(default_factory=dict)


Batch = tuple[Split, range]
_sent: Dataset  # in a process that reads: the dataset it was started with


def _read_all(dataset: Dataset, batches: list[Batch], total: int, processes: int | None) -> Iterator[_Found]:
    if processes is None:
        processes = min(os.cpu_count() or 1, total // WORTH_A_PROCESS)
    if processes < 2 or not _can_be_sent(dataset):
        yield from (_read_batch(dataset, batch) for batch in batches)
        return
    # Not forked: a fork of a process that has threads, as torch and readers of HDF5 may start, can hang.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_receive, initargs=(dataset,))
    try:
        yield from pool.map(_read_sent_batch, batches)
    except BrokenProcessPool as error:
        raise BadInput(
            f"dataset {dataset.name}: a process that read samples was ended from outside; allowed: enough memory for "
            f"{processes} samples at a time"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _can_be_sent(dataset: Dataset) -> bool:
    """Whether another process can be given the dataset; one that keeps, say, a file open cannot be."""
    try:
        pickle.dumps(dataset)
    except (pickle.PicklingError, TypeError, AttributeError):
        return False
    return True


def _receive(dataset: Dataset) -> None:
    global _sent
    _sent = dataset


def _read_sent_batch(batch: Batch) -> _Found:
    return _read_batch(_sent, batch)


def _read_batch(dataset: Dataset, batch: Batch) -> _Found:
    split, indices = batch
    tallies: dict[str, Tally] = {name: empty_tally(task) for name, task in dataset.tasks.items()}
    sizes: dict[str, Counter[Size]] = {}
    broken: list[str] = []
    pictures: list[tuple[str, str]] = []
    flat: list[str] = []
    odd: dict[tuple[str, str], list[Place]] = {}
    for index in indices:
        if not dataset.is_complete(split, index):
            continue
        name = f"{index}"
        try:
            name = dataset.sample_name(split, index)
            sample = dataset.read_as_stored(split, index, GENERATED_SIZE)
        except BadInput as error:
            broken.append(str(error))
            continue
        except Exception as error:  # a dataset's reader may fail in any way, and the next sample may be sound
            broken.append(f"{split} sample {name}: {describe(error)}")
            continue
        if wrong := invalidity(sample, dataset.tasks):
            broken.append(f"{split} sample {name}: {wrong}")
            continue
        pictures.append((name, _digest(sample.image)))
        if (sample.image == sample.image[0, 0]).all():
            flat.append(name)
        for one in look_at(sample, dataset.tasks, dataset.scaled_targets):
            odd.setdefault((one.task, one.what), []).append(Place(f"{split} {name}", one.value))
        sizes.setdefault("image", Counter())[_size(sample.image)] += 1
        for key, task in dataset.tasks.items():
            tallies[key] += tally(task, sample.targets[key])  # type: ignore[operator]
            if task.dense:
                sizes.setdefault(key, Counter())[_size(sample.targets[key])] += 1
    return _Found(SplitContent(len(indices), len(pictures), sizes, tallies), broken, pictures, flat, odd)


def _size(pixels: np.ndarray) -> Size:
    return pixels.shape[0], pixels.shape[1]


def _digest(image: np.ndarray) -> str:
    """Of the pixels and not of a file: the same picture may lie in two files that differ, or be one of many in one."""
    return hashlib.blake2b(image.tobytes(), digest_size=16, key=str(image.shape).encode()).hexdigest()


def _sum(tasks: Mapping[str, Task], contents: Iterable[SplitContent]) -> SplitContent:
    listed = read = 0
    tallies: dict[str, Tally] = {name: empty_tally(task) for name, task in tasks.items()}
    sizes: dict[str, Counter[Size]] = {}
    for content in contents:
        listed, read = listed + content.listed, read + content.read
        for key, counts in content.sizes.items():
            sizes.setdefault(key, Counter()).update(counts)
        tallies = {name: tallies[name] + content.tallies[name] for name in tallies}  # type: ignore[operator]
    return SplitContent(listed, read, sizes, tallies)


def _leaks(pictures: Iterable[list[tuple[Split, str]]], validates_on_train: bool) -> list[str]:
    """One line for each picture that is in more than one split, and is not meant to be."""
    lines = []
    for places in pictures:
        splits = {split for split, _ in places}
        if len(splits) > 1 and not (validates_on_train and splits == {"train", "val"}):
            lines.append(f"the same picture is in two splits: {', '.join(f'{split} {name}' for split, name in places)}")
    return lines
