"""What the labels of many samples amount to, for each kind of task: counts that add up, in memory that does not grow.

A tally is made of one target in the form that `mtl.tasks` fixes, and two tallies of one task are added with `+`.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mtl.tasks import IGNORE, Task

Ints = NDArray[np.int64]

# Bins of the depth histogram, equally wide on a logarithmic scale: a median out of them is right to 0.3 %.
DEPTH_BINS = 4096
_LOG_NEAREST, _LOG_FARTHEST = -3.0, 5.0  # millimetres to 100 km; what lies beyond goes into the outermost bins
_BINS_PER_DECADE = DEPTH_BINS / (_LOG_FARTHEST - _LOG_NEAREST)


@dataclass(frozen=True, eq=False)
class PixelTally:
    """Segmentation: pixels of each class, images that contain it, both (classes,), and pixels without a label."""

    pixels: Ints
    images: Ints
    unlabelled: int

    @classmethod
    def of(cls, target: NDArray, classes: int) -> Self:
        counts = np.bincount(target.ravel(), minlength=IGNORE + 1).astype(np.int64)
        return cls(counts[:classes], (counts[:classes] > 0).astype(np.int64), int(counts[IGNORE]))

    @classmethod
    def empty(cls, classes: int) -> Self:
        return cls(np.zeros(classes, np.int64), np.zeros(classes, np.int64), 0)

    def __add__(self, other: Self) -> Self:
        return type(self)(self.pixels + other.pixels, self.images + other.images, self.unlabelled + other.unlabelled)

    @property
    def unlabelled_share(self) -> float:
        """Of all pixels; NaN where there are none."""
        return _share(self.unlabelled, self.unlabelled + int(self.pixels.sum()))

    @property
    def shares(self) -> NDArray[np.float64]:
        """Of the labelled pixels, (classes,); NaN where there are none."""
        return _shares(self.pixels)


@dataclass(frozen=True, eq=False)
class DepthTally:
    """Depth: pixels with and without a value, a histogram of the values, (DEPTH_BINS,), and both ends in metres."""

    histogram: Ints
    invalid: int
    nearest: float
    farthest: float

    @classmethod
    def of(cls, target: NDArray) -> Self:
        values = target[target > 0]
        if not values.size:
            return cls(np.zeros(DEPTH_BINS, np.int64), target.size, float("inf"), 0.0)
        bins = np.clip((np.log10(values) - _LOG_NEAREST) * _BINS_PER_DECADE, 0, DEPTH_BINS - 1).astype(np.int64)
        histogram = np.bincount(bins, minlength=DEPTH_BINS).astype(np.int64)
        return cls(histogram, target.size - values.size, float(values.min()), float(values.max()))

    @classmethod
    def empty(cls) -> Self:
        return cls(np.zeros(DEPTH_BINS, np.int64), 0, float("inf"), 0.0)

    def __add__(self, other: Self) -> Self:
        return type(self)(
            self.histogram + other.histogram,
            self.invalid + other.invalid,
            min(self.nearest, other.nearest),
            max(self.farthest, other.farthest),
        )

    @property
    def valid_share(self) -> float:
        valid = int(self.histogram.sum())
        return _share(valid, valid + self.invalid)

    @property
    def median(self) -> float:
        """In metres, to 0.3 %; NaN where no pixel has a value."""
        total = int(self.histogram.sum())
        if not total:
            return float("nan")
        position = int(np.searchsorted(np.cumsum(self.histogram), total / 2))
        metres = 10.0 ** (_LOG_NEAREST + (position + 0.5) / _BINS_PER_DECADE)
        return min(max(metres, self.nearest), self.farthest)


@dataclass(frozen=True, eq=False)
class NormalsTally:
    """Normals: pixels with and without one, and the sum of the unit vectors, (3,)."""

    valid: int
    invalid: int
    total: NDArray[np.float64]

    @classmethod
    def of(cls, target: NDArray) -> Self:
        valid = int(target.any(axis=-1).sum())
        return cls(valid, target.shape[0] * target.shape[1] - valid, target.sum(axis=(0, 1), dtype=np.float64))

    @classmethod
    def empty(cls) -> Self:
        return cls(0, 0, np.zeros(3))

    def __add__(self, other: Self) -> Self:
        return type(self)(self.valid + other.valid, self.invalid + other.invalid, self.total + other.total)

    @property
    def valid_share(self) -> float:
        return _share(self.valid, self.valid + self.invalid)

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean vector, (3,), shorter the more the normals differ; NaN where there are none."""
        return self.total / self.valid if self.valid else np.full(3, np.nan)


@dataclass(frozen=True, eq=False)
class ImageTally:
    """Labels of whole images: how many have each value, (values,), and how many have none.

    The values are the classes of a classification, and of a binary label no and yes.
    """

    images: Ints
    unlabelled: int

    @classmethod
    def of(cls, target: NDArray, values: int) -> Self:
        counts = np.bincount(np.ravel(target), minlength=IGNORE + 1).astype(np.int64)
        return cls(counts[:values], int(counts[IGNORE]))

    @classmethod
    def empty(cls, values: int) -> Self:
        return cls(np.zeros(values, np.int64), 0)

    def __add__(self, other: Self) -> Self:
        return type(self)(self.images + other.images, self.unlabelled + other.unlabelled)

    @property
    def shares(self) -> NDArray[np.float64]:
        """Of the labelled images, (values,); NaN where there are none."""
        return _shares(self.images)


Tally = PixelTally | DepthTally | NormalsTally | ImageTally


def tally(task: Task, target: NDArray) -> Tally:
    """What one sample's target of a task adds."""
    match task.kind:
        case "segmentation":
            return PixelTally.of(target, len(task.classes))
        case "depth":
            return DepthTally.of(target)
        case "normals":
            return NormalsTally.of(target)
        case _:
            return ImageTally.of(target, len(task.classes) or 2)


def empty_tally(task: Task) -> Tally:
    """What no sample adds."""
    match task.kind:
        case "segmentation":
            return PixelTally.empty(len(task.classes))
        case "depth":
            return DepthTally.empty()
        case "normals":
            return NormalsTally.empty()
        case _:
            return ImageTally.empty(len(task.classes) or 2)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _shares(counts: Ints) -> NDArray[np.float64]:
    whole = int(counts.sum())
    return counts / whole if whole else np.full(counts.shape, np.nan)
