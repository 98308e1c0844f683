"""Labels that are allowed and yet hardly meant: depth in millimetres, flipped normals, classes counted from 1.

Nothing here is an error for sure, so that all of it makes warnings. What is found is told by task, with how many
samples have it and the first of them by name.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.base import Sample
from mtl.datasets.inspect.tallies import ImageTally, PixelTally, Tally
from mtl.tasks import IGNORE, Task

# Half of what a camera sees is nearer, even in a street; rooms in centimetres and millimetres lie beyond it.
FARTHEST_MEDIAN_METRES = 80.0
# Of the pixels, without a label: where there is a class 0 it is mostly the background, which covers more.
SUSPICIOUS_SHARE = 0.05
# A sample's normals face one way along z where this share of them does.
CLEAR_SHARE = 2 / 3
# Normals that contradict the slope of depth by more than this, of 1 (agree everywhere) to -1, count as flipped: of the
# frames of NYU-v2 and of rooms none has less than 0.55. And the share of pixels that must tell.
FLIPPED = -0.3
TELLING_SHARE = 0.01
# Between neighbouring pixels depth changes by less than this share of it, but at an object's edge.
EDGE = 0.1
# Sizes in pixels are rounded to whole ones.
ROUNDING = 1.0
# Only every so many rows, and columns where neighbours do not matter: enough to judge by.
STRIDE = 4
NAMES_SHOWN = 5

VOID = "void"
SIZE = "size"
FAR = "far"
AWAY = "away"
FORWARD, BACKWARD = "forward", "backward"

_VOID_TEXT = {
    "segmentation": "no pixel has a label",
    "depth": "no pixel has a depth",
    "normals": "no pixel has a normal",
}


@dataclass(frozen=True)
class Odd:
    """One thing in one sample: the task, what it is, and the value found, in words."""

    task: str
    what: str
    value: str = ""


@dataclass(frozen=True)
class Place:
    """The sample in which something was found, such as "train a", and the value found."""

    sample: str
    value: str


def look_at(sample: Sample, tasks: Mapping[str, Task], scaled_targets: bool = False) -> list[Odd]:
    """What is odd in a valid sample as stored, and which way its normals face; scaled_targets: as `Dataset` has it."""
    found = []
    depth = next((sample.targets[name] for name, task in tasks.items() if task.kind == "depth"), None)
    for name, task in tasks.items():
        if not task.dense:
            continue
        target = sample.targets[name]
        if not _has_values(task, target):
            found.append(Odd(name, VOID))
        if _differs(target.shape, sample.image.shape, scaled_targets):
            found.append(Odd(name, SIZE, f"{_shown(target.shape)} for {_shown(sample.image.shape)}"))
        if task.kind == "depth":
            median = _median(target)
            if median > FARTHEST_MEDIAN_METRES:
                found.append(Odd(name, FAR, f"{median:,.0f}"))
        if task.kind == "normals":
            if depth is not None and depth.shape == target.shape[:2] and _contradicts(target, depth):
                found.append(Odd(name, AWAY))
            found += [Odd(name, way) for way in _facing(target)]
    return found


def warnings(
    tasks: Mapping[str, Task],
    odd: Mapping[tuple[str, str], Sequence[Place]],
    read: int,
    train: Mapping[str, Tally],
    whole: Mapping[str, Tally],
) -> list[str]:
    """A line for each thing that is odd in a dataset.

    odd: where each thing was found, by task and what it is. read: how many samples were. train, whole: the tallies of
    the training split and of all splits.
    """
    lines = []
    for name, task in tasks.items():
        for what in (VOID, SIZE, FAR, AWAY):
            if places := odd.get((name, what)):
                lines.append(f"{name}: {_told(task, what, places[0].value)} in {_count(places, read)}")
        ways = sorted((odd.get((name, way), ()) for way in (FORWARD, BACKWARD)), key=len)
        if ways[0] and (name, AWAY) not in odd:
            lines.append(f"{name}: they face the other way along z than in most samples in {_count(ways[0], read)}")
        lines += _class_warnings(task, train[name], whole[name])
    return [*lines, *_one_answer(tasks, train)]


def _told(task: Task, what: str, value: str) -> str:
    if what == VOID:
        return _VOID_TEXT[task.kind]
    if what == SIZE:
        return f"of another size than the image, to which it is stretched ({value} in the first),"
    if what == FAR:
        metres = f"{FARTHEST_MEDIAN_METRES:.0f} m"
        return f"the median is over {metres} ({value} m in the first), as where millimetres are taken for metres,"
    return "they point away from the camera, or their x to the left, by the slope of depth,"


def _count(places: Sequence[Place], read: int) -> str:
    first = ", ".join(place.sample for place in places[:NAMES_SHOWN])
    more = f" and {len(places) - NAMES_SHOWN:,} more" if len(places) > NAMES_SHOWN else ""
    return f"{len(places):,} of {read:,} samples: {first}{more}"


def _class_warnings(task: Task, train: Tally, whole: Tally) -> Iterator[str]:
    """Classes that are in no image of train, and those at the ends that are in none at all, as after a shift by one."""
    if not (isinstance(train, PixelTally | ImageTally) and isinstance(whole, PixelTally | ImageTally)):
        return
    if not task.classes or not train.images.any():
        return
    told = set()
    if isinstance(whole, PixelTally):
        last = len(task.classes) - 1
        if not whole.images[last] and whole.unlabelled_share >= SUSPICIOUS_SHARE:
            told.add(last)
            yield (
                f"{task.name}: {task.classes[last]}, the last class, is in no image, and "
                f"{100 * whole.unlabelled_share:.0f} % of all pixels have no label: where masks count classes from 0, "
                f"to subtract 1 makes {IGNORE} of class 0, which is no label"
            )
        if not whole.images[0]:
            told.add(0)
            yield (
                f"{task.name}: {task.classes[0]}, the first class, is in no image: where masks count classes from 1, "
                "1 is to be subtracted"
            )
    absent = [name for k, name in enumerate(task.classes) if not train.images[k] and k not in told]
    if absent:
        yield f"{task.name}: no image of train has {_first(absent)}"


def _one_answer(tasks: Mapping[str, Task], train: Mapping[str, Tally]) -> list[str]:
    """Binary labels that are always no, or always yes, in train: all together, as there may be dozens."""
    always: tuple[list[str], list[str]] = ([], [])
    for name, task in tasks.items():
        tally = train[name]
        if not task.dense and not task.classes and isinstance(tally, ImageTally) and (tally.images > 0).sum() == 1:
            always[int(tally.images[1] > 0)].append(name)
    return [
        f"in train every labelled image has {answer} for {_first(names)}"
        for answer, names in zip(("no", "yes"), always, strict=True)
        if names
    ]


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _has_values(task: Task, target: NDArray) -> bool:
    return bool((target != IGNORE).any() if task.kind == "segmentation" else target.any())


def _differs(target: tuple[int, ...], image: tuple[int, ...], scaled: bool) -> bool:
    """Whether a target is of another size than its image, or, where sizes may be scaled, of another shape."""
    if target[:2] == image[:2] or not scaled:
        return target[:2] != image[:2]
    # A height that follows from the width, to a pixel of the smaller of the two.
    scale = target[1] / image[1]
    return abs(target[0] - scale * image[0]) > max(ROUNDING, ROUNDING * scale)


def _shown(shape: tuple[int, ...]) -> str:
    return f"{shape[1]:,} × {shape[0]:,}"


def _median(depth: NDArray[np.float32]) -> float:
    """Of the pixels that have a depth; 0 where none has."""
    values = depth[::STRIDE, ::STRIDE]
    values = values[values > 0]
    return float(np.median(values)) if values.size else 0.0


def _facing(normals: NDArray[np.float32]) -> list[str]:
    """Which way along z most normals face: datasets differ in it, and the samples of one do not.

    Both are in use: z to the camera with y up, and z forward with y down.
    """
    z = normals[::STRIDE, ::STRIDE, 2]
    forward, backward = int((z > 0).sum()), int((z < 0).sum())
    both = forward + backward
    return [way for way, count in ((FORWARD, forward), (BACKWARD, backward)) if both and count > CLEAR_SHARE * both]


def _contradicts(normals: NDArray[np.float32], depth: NDArray[np.float32]) -> bool:
    """Whether normals (H, W, 3) point away from the camera, by depth (H, W).

    On a plane n . (x, y, z) = d the depth at column u is d / (n_x u + …), so that its slope along the columns has the
    sign of n_x where n points to the camera and x to the right, as it does in both of the usual axes.
    """
    depth, across = depth[::STRIDE], normals[::STRIDE, :, 0]
    left, middle, right = depth[:, :-2], depth[:, 1:-1], depth[:, 2:]
    slope = np.where((left > 0) & (middle > 0) & (right > 0), right - left, 0)
    slope[np.abs(slope) > 2 * EDGE * middle] = 0
    # Relative to depth, as what is far away would outweigh all else.
    evidence = across[:, 1:-1] * slope / np.where(middle > 0, middle, 1)
    total = float(np.abs(evidence).sum(dtype=np.float64))
    telling = int(np.count_nonzero(evidence)) >= TELLING_SHARE * max(1, evidence.size)
    return telling and total > 0 and float(evidence.sum(dtype=np.float64)) < FLIPPED * total
