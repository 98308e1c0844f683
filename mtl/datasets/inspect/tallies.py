"""What the labels of many samples amount to: counts that add up, in memory that does not grow."""

import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mtl.tasks import IGNORE, Task

Ints = NDArray[np.int64]

# Edges of the depth histogram, from 1 mm to 100 km, equally wide on a logarithmic scale: a median is right to 0.3 %.
DEPTH_BINS = 4096
DEPTH_EDGES = np.geomspace(1e-3, 1e5, DEPTH_BINS + 1)


@dataclass(frozen=True, eq=False)
class Tally:
    """The labels of one task, in pixels where the task is dense and in images where it is not.

    counts: labels of each class, of no and yes, in each bin of depth or disparity, or of each number of a regression; a
    single count for normals.
    images: how many images have each of these.
    unlabelled: pixels or images without a label.
    total: the sum of the unit vectors (3,) of normals, or of each number of a regression; 0 for other tasks.
    nearest, farthest: the ends of depth in metres, or of disparity, inf and 0 where there is none.
    smallest, largest: of each number of a regression, inf and -inf where there is none; empty for other tasks.
    """

    counts: Ints
    images: Ints
    unlabelled: int
    total: NDArray[np.float64]
    nearest: float = math.inf
    farthest: float = 0.0
    smallest: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    largest: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.counts + other.counts,
            self.images + other.images,
            self.unlabelled + other.unlabelled,
            self.total + other.total,
            min(self.nearest, other.nearest),
            max(self.farthest, other.farthest),
            np.minimum(self.smallest, other.smallest),
            np.maximum(self.largest, other.largest),
        )

    @property
    def labelled(self) -> int:
        return int(self.counts.sum())

    @property
    def unlabelled_share(self) -> float:
        """The share of all pixels or images that have no label; NaN where there are none."""
        return self.unlabelled / (self.labelled + self.unlabelled or math.nan)

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share of each count in those with a label; NaN where there are none."""
        return self.counts / (self.labelled or math.nan)

    @property
    def median(self) -> float:
        """Of depth in metres, to 0.3 %; NaN where no pixel has a value."""
        if not self.labelled:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self.counts), self.labelled / 2))
        return float(np.clip(np.sqrt(DEPTH_EDGES[place] * DEPTH_EDGES[place + 1]), self.nearest, self.farthest))

    @property
    def mean(self) -> NDArray[np.float64]:
        """Of normals, (3,), shorter the more they differ; NaN where there are none."""
        return self.total / (self.labelled or math.nan)


def tally(task: Task, target: NDArray) -> Tally:
    """What one sample's target, in the form that `mtl.tasks` fixes, adds."""
    total, ends = np.zeros(3), (math.inf, 0.0)
    match task.kind:
        case "regression":
            numbers = target.reshape(-1, task.channels).astype(np.float64)
            known = ~np.isnan(numbers)
            there = known.sum(axis=0)
            sums = np.where(known, numbers, 0).sum(axis=0)
            smallest = np.where(known, numbers, math.inf).min(axis=0, initial=math.inf)
            largest = np.where(known, numbers, -math.inf).max(axis=0, initial=-math.inf)
            missing = numbers.size - int(there.sum())
            return Tally(there, there.copy(), missing, sums, smallest=smallest, largest=largest)
        case "depth" | "disparity":
            values = target[target > 0]
            # What lies beyond the edges is counted in the outermost bins.
            counts = np.histogram(np.clip(values, *DEPTH_EDGES[[0, -1]]), DEPTH_EDGES)[0]
            unlabelled = target.size - values.size
            ends = float(values.min(initial=math.inf)), float(values.max(initial=0))
        case "normals":
            counts = np.array([target.any(axis=-1).sum()])
            unlabelled = target[..., 0].size - int(counts[0])
            total = target.sum(axis=(0, 1), dtype=np.float64)
        case _:
            every = np.bincount(target.ravel(), minlength=IGNORE + 1)
            counts, unlabelled = every[: max(2, task.channels)], int(every[IGNORE])
    return Tally(counts, (counts > 0).astype(np.int64), unlabelled, total, *ends)


def empty_tally(task: Task) -> Tally:
    """What no sample adds."""
    if task.kind == "regression":
        return tally(task, np.empty((0, task.channels), np.float32))
    return tally(task, np.empty((0, 0, 3), np.float32 if task.kind in ("depth", "disparity", "normals") else np.uint8))
