"""Labels that are allowed and yet probably wrong: depth in millimetres, flipped normals, classes counted from 1.

None of this is certain to be an error, so all of it becomes warnings: for each task what is odd, in how many samples,
and the names of the first of them.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.base import Sample
from mtl.datasets.inspect.tallies import Tally
from mtl.tasks import IGNORE, Task

# Half of what a camera sees is nearer, even in a street; rooms in centimetres and millimetres lie beyond it.
FARTHEST_MEDIAN_METRES = 80.0
# The share of pixels without a label. A class 0 is mostly the background, which covers more than this.
SUSPICIOUS_SHARE = 0.05
# A sample's normals face one way along z where this share of them does.
CLEAR_SHARE = 2 / 3
# Normals and the slope of depth agree between 1 (everywhere) and -1; below this the normals count as flipped. No frame
# of NYU-v2 or of rooms has less than 0.55. And the share of pixels that must have something to say.
FLIPPED = -0.3
TELLING_SHARE = 0.01
# Between neighbouring pixels of one surface depth changes by less than this share of it.
EDGE = 0.1
# Only every fourth row, and every fourth column where neighbours do not matter: enough to judge by.
STRIDE = 4
NAMES_SHOWN = 5
# Lines cover less of any picture; the edges of BSDS, PASCAL-Context and NYU-v2 cover 2 to 8 % of it.
MOST_EDGES = 0.4
# A point of a partly hidden body may lie a little outside.
FARTHEST_POINT = 1.5

FORWARD, BACKWARD = "forward", "backward"
AWAY = "they point away from the camera, or their x to the left, by the slope of depth,"
# What can be odd in a sample, in words; {} is the value found in the first one.
WITHOUT = {
    "segmentation": "no pixel has a label",
    "depth": "no pixel has a depth",
    "disparity": "no pixel has a disparity",
    "normals": "no pixel has a normal",
    "edges": "no pixel has a label",
}
NO_EDGE = "no pixel is on an edge"
THICK = (
    f"over {100 * MOST_EDGES:.0f} % of the pixels are on an edge ({{}} % in the first), as where edges are marked by 0 "
    "and the rest by 1,"
)
OUTSIDE = "points lie outside the image ({} in the first), as where pixels are given for shares of its sides,"
SIZE = "of another size than the image, to which it is stretched ({} in the first),"
FAR = (
    f"the median is over {FARTHEST_MEDIAN_METRES:.0f} m ({{}} m in the first), as where millimetres are taken for "
    "metres,"
)

# Where each thing was found, by task and by what it is: the sample, such as "train a", and the value.
Oddities = dict[tuple[str, str], list[tuple[str, str]]]


def oddities(sample: Sample, tasks: Mapping[str, Task], scaled_targets: bool = False) -> Iterator[tuple[str, str, str]]:
    """What is odd in a valid sample as stored, and which way its normals face: the task, what it is, and the value.

    scaled_targets: as `Dataset` has it.
    """
    depth = next((sample.targets[name] for name, task in tasks.items() if task.kind == "depth"), None)
    for name, task in tasks.items():
        target = sample.targets[name]
        if task.points:
            far = np.nanmax(np.abs(target - 0.5), initial=0) + 0.5
            if far > FARTHEST_POINT:
                yield name, OUTSIDE, f"{far:.3g}"
        if not task.dense:
            continue
        if not (target != (IGNORE if task.kind in ("segmentation", "edges") else 0)).any():
            yield name, WITHOUT[task.kind], ""
        elif task.kind == "edges" and not (target == 1).any():
            yield name, NO_EDGE, ""
        if task.kind == "edges" and (share := float((target == 1).mean())) > MOST_EDGES:
            yield name, THICK, f"{100 * share:.0f}"
        if _is_distorted(target.shape, sample.image.shape, scaled_targets):
            sizes = [f"{shape[1]:,} × {shape[0]:,}" for shape in (target.shape, sample.image.shape)]
            yield name, SIZE, " for ".join(sizes)
        if task.kind == "depth":
            values = target[::STRIDE, ::STRIDE]
            values = values[values > 0]
            if values.size and (median := np.median(values)) > FARTHEST_MEDIAN_METRES:
                yield name, FAR, f"{median:,.0f}"
        if task.kind == "normals":
            if depth is not None and depth.shape == target.shape[:2] and _contradicts(target, depth):
                yield name, AWAY, ""
            # Datasets differ in which way they face (z to the camera with y up, or z forward with y down), and the
            # samples of one dataset do not.
            z = target[::STRIDE, ::STRIDE, 2]
            for way, count in ((FORWARD, (z > 0).sum()), (BACKWARD, (z < 0).sum())):
                if count > CLEAR_SHARE * (z != 0).sum():
                    yield name, way, ""


def warnings(
    tasks: Mapping[str, Task], odd: Oddities, read: int, train: Mapping[str, Tally], whole: Mapping[str, Tally]
) -> list[str]:
    """A line for each thing that is odd in a dataset.

    read: how many samples were read. train, whole: the tallies of the training split and of all splits.
    """
    lines = []
    for name, task in tasks.items():
        for what in (WITHOUT.get(task.kind, ""), NO_EDGE, THICK, OUTSIDE, SIZE, FAR, AWAY):
            if places := odd.get((name, what)):
                lines.append(f"{name}: {what.format(places[0][1])} {_in_samples(places, read)}")
        fewer = min((odd.get((name, way), []) for way in (FORWARD, BACKWARD)), key=len)
        if fewer and (name, AWAY) not in odd:
            lines.append(f"{name}: they face the other way along z than in most samples {_in_samples(fewer, read)}")
        lines += _class_warnings(task, train[name], whole[name])
        lines += _number_warnings(task, train[name])
    for value, answer in enumerate(("no", "yes")):  # together, as there may be dozens of such tasks
        if names := [n for n, task in tasks.items() if task.kind == "binary" and _only(train[n], value)]:
            lines.append(f"in train every labelled image has {answer} for {_first(names)}")
    return lines


def _number_warnings(task: Task, train: Tally) -> Iterator[str]:
    """Numbers of which train has no label, or only one value."""
    if task.kind != "regression":
        return
    names = task.values or (task.name,)
    if absent := [name for name, count in zip(names, train.counts, strict=True) if not count]:
        yield f"{task.name}: no image of train has a label for {_first(absent)}"
    same = (train.counts > 1) & (train.smallest == train.largest)
    if alike := [name for name, one in zip(names, same, strict=True) if one]:
        yield f"{task.name}: in train every labelled image has the same {_first(alike)}"


def _in_samples(places: Sequence[tuple[str, str]], read: int) -> str:
    return f"in {len(places):,} of {read:,} samples: {_first([sample for sample, _ in places])}"


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _only(labels: Tally, value: int) -> bool:
    return labels.labelled == labels.counts[value] > 0


def _class_warnings(task: Task, train: Tally, whole: Tally) -> Iterator[str]:
    """Classes that no image of train has, and those at the ends that no image has at all, as after a shift by one."""
    if not task.classes or not train.labelled:
        return
    absent = [name for name, images in zip(task.classes, train.images, strict=True) if not images]
    if task.dense:
        first, last = task.classes[0], task.classes[-1]
        if not whole.images[-1] and whole.unlabelled_share >= SUSPICIOUS_SHARE:
            absent.remove(last)
            yield (
                f"{task.name}: {last}, the last class, is in no image, and {100 * whole.unlabelled_share:.0f} % of all "
                "pixels have no label: where masks count classes from 0, subtracting 1 turns class 0 into "
                f"{IGNORE}, which is no label"
            )
        if not whole.images[0]:
            absent.remove(first)
            yield (
                f"{task.name}: {first}, the first class, is in no image: where masks count classes from 1, "
                "1 must be subtracted"
            )
    if absent:
        yield f"{task.name}: no image of train has {_first(absent)}"


def _is_distorted(target: tuple[int, ...], image: tuple[int, ...], scaled: bool) -> bool:
    """Whether a target is of another size than its image, or, where sizes may be scaled, of another shape."""
    if target[:2] == image[:2] or not scaled:
        return target[:2] != image[:2]
    # The height must follow from the width, to a pixel of the smaller of the two.
    scale = target[1] / image[1]
    return abs(target[0] - scale * image[0]) > max(1, scale)


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
