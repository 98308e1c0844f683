"""Looking through a whole dataset: what is in it, and what is missing, broken or suspicious.

Every sample is read once, by as many processes as the machine has cores. What they find are counts, so memory stays
small however many samples there are.
"""

import hashlib
import os
import pickle
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property, partial
from multiprocessing import get_context

from mtl.datasets.base import SPLITS, Dataset, Split
from mtl.datasets.cache.validity import invalidity
from mtl.datasets.inspect.plausibility import Oddities, oddities, warnings
from mtl.datasets.inspect.tallies import Tally, empty_tally, tally
from mtl.errors import BadInput
from mtl.own_code import describe
from mtl.tasks import Task

Size = tuple[int, int]

# The size, (height, width), at which samples are read that are generated and so have no stored size.
GENERATED_SIZE: Size = (48, 64)
# Samples that a process is given at a time.
BATCH = 16
# Of batches, for each process.
CHUNKS = 16
# Starting a process takes as long as reading about this many samples.
WORTH_A_PROCESS = 64


@dataclass
class Content:
    """What some samples hold; all of it adds up.

    listed: samples that belong to the dataset. read: those that could be read; the rest is about these.
    sizes: for the image and each dense task, how many there are of each (height, width).
    broken: what went wrong as the other samples were read.
    pictures: the samples that have the same image, by a hash of its pixels.
    one_colour: samples whose image has a single colour. odd: see `plausibility`.
    """

    tallies: dict[str, Tally]
    listed: int = 0
    read: int = 0
    sizes: dict[str, Counter[Size]] = field(default_factory=lambda: defaultdict(Counter))
    broken: list[str] = field(default_factory=list)
    pictures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    one_colour: list[str] = field(default_factory=list)
    odd: Oddities = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def sum(cls, tasks: Mapping[str, Task], parts: Iterable["Content"]) -> "Content":
        total = cls({name: empty_tally(task) for name, task in tasks.items()})
        for part in parts:
            total.add(part)
        return total

    def add(self, other: "Content") -> None:
        self.listed += other.listed
        self.read += other.read
        self.broken += other.broken
        self.one_colour += other.one_colour
        for name, more in other.tallies.items():
            self.tallies[name] += more
        for column, counts in other.sizes.items():
            self.sizes[column] += counts
        for digest, places in other.pictures.items():
            self.pictures[digest] += places
        for key, found in other.odd.items():
            self.odd[key] += found


@dataclass(frozen=True)
class Inspection:
    """All that was found in a dataset.

    `missing` are the dataset's own problems and `broken` what came up as samples were read; both make it unusable.
    `warnings` do not: labels that are probably wrong (see `plausibility`), samples of different splits that are the
    same picture, and pictures of one colour.
    """

    dataset: Dataset
    splits: Mapping[Split, Content]

    @cached_property
    def whole(self) -> Content:
        """All splits taken together."""
        return Content.sum(self.dataset.tasks, self.splits.values())

    @cached_property
    def missing(self) -> tuple[str, ...]:
        return tuple(self.dataset.problems)

    @cached_property
    def broken(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.whole.broken))  # a damaged file that many samples share is named once

    @property
    def problems(self) -> tuple[str, ...]:
        return self.missing + self.broken

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        whole = self.whole
        odd = warnings(self.dataset.tasks, whole.odd, whole.read, self.splits["train"].tallies, whole.tallies)
        one_colour = [f"{sample}: the image has one colour only" for sample in whole.one_colour]
        return (*odd, *self._leaks(), *one_colour)

    def _leaks(self) -> Iterator[str]:
        """A line for each picture that is in more than one split and should not be."""
        allowed = {"train", "val"} if self.dataset.validates_on_train else set()
        for samples in self.whole.pictures.values():
            splits = {sample.partition(" ")[0] for sample in samples}
            if len(splits) > 1 and splits != allowed:
                yield f"the same picture is in two splits: {', '.join(samples)}"


def inspect_dataset(
    dataset: Dataset, progress: Callable[[int, int], None] | None = None, processes: int | None = None
) -> Inspection:
    """Reads every sample once, at its stored size, and goes on past those that cannot be read.

    A sample with a missing file, which the dataset's `problems` name, is not tried. `progress(done, total)` is called
    as samples come in. `processes`: by default as many as there are cores, and only this one where there are few
    samples or the dataset cannot be sent to another process. Raises `BadInput` where a reading process dies.
    """
    indices = {split: range(dataset.size(split)) for split in SPLITS}
    batches = [(split, each[start : start + BATCH]) for split, each in indices.items() for start in each[::BATCH]]
    total = sum(map(len, indices.values()))
    splits = {split: Content.sum(dataset.tasks, []) for split in SPLITS}
    done = 0
    for (split, batch), found in zip(batches, _read_all(dataset, batches, total, processes), strict=True):
        splits[split].add(found)
        done += len(batch)
        if progress:
            progress(done, total)
    return Inspection(dataset, splits)


Batch = tuple[Split, range]


def _read_all(dataset: Dataset, batches: list[Batch], total: int, processes: int | None) -> Iterator[Content]:
    if processes is None:
        processes = min(os.cpu_count() or 1, total // WORTH_A_PROCESS)
    if processes < 2 or not _can_be_sent(dataset):
        yield from (_read_batch(dataset, batch) for batch in batches)
        return
    # Not forked: a fork of a process that has threads, as torch and readers of HDF5 may start, can hang.
    pool = ProcessPoolExecutor(processes, get_context("spawn"))
    # The dataset is sent once with each chunk of batches: often enough to show progress, and no more often.
    chunk = max(1, len(batches) // (CHUNKS * processes))
    try:
        yield from pool.map(partial(_read_batch, dataset), batches, chunksize=chunk)
    except BrokenProcessPool as error:
        raise BadInput(
            f"dataset {dataset.name}: a process that read samples was ended from outside; allowed: enough memory for "
            f"{processes} samples at a time"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _can_be_sent(dataset: Dataset) -> bool:
    """Whether the dataset can be sent to another process; a dataset that keeps, say, a file open cannot."""
    try:
        pickle.dumps(dataset)
    except (pickle.PicklingError, TypeError, AttributeError):
        return False
    return True


def _read_batch(dataset: Dataset, batch: Batch) -> Content:
    split, indices = batch
    content = Content.sum(dataset.tasks, [])
    content.listed = len(indices)
    for index in indices:
        if not dataset.is_complete(split, index):
            continue
        name = f"{index}"
        try:
            name = dataset.sample_name(split, index)
            sample = dataset.read_as_stored(split, index, GENERATED_SIZE)
            wrong = invalidity(sample, dataset.tasks)
        except BadInput as error:
            content.broken.append(str(error))
            continue
        except Exception as error:  # a dataset's reader may fail in any way, and the next sample may be sound
            wrong = describe(error)
        if wrong:
            content.broken.append(f"{split} sample {name}: {wrong}")
            continue
        content.read += 1
        # Of the pixels, not of a file: a picture may lie in two different files, or in one file with others.
        key = str(sample.image.shape).encode()
        digest = hashlib.blake2b(sample.image.tobytes(), digest_size=16, key=key).hexdigest()
        content.pictures[digest].append(f"{split} {name}")
        if (sample.image == sample.image[0, 0]).all():
            content.one_colour.append(f"{split} {name}")
        for task_name, what, value in oddities(sample, dataset.tasks, dataset.scaled_targets):
            content.odd[task_name, what].append((f"{split} {name}", value))
        content.sizes["image"][sample.image.shape[:2]] += 1
        for column, task in dataset.tasks.items():
            content.tallies[column] += tally(task, sample.targets[column])
            if task.dense:
                content.sizes[column][sample.targets[column].shape[:2]] += 1
    return content
