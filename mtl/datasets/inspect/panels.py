"""Labels as pictures: what each kind of target looks like on a contact sheet, and the keys to read it by.

Pixels without a label are hatched in two greys, which none of the colours are near to.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from mtl.tasks import IGNORE, Task

Picture = NDArray[np.uint8]

# Seven colours of Okabe & Ito (2008), then each the one that is farthest from all before it and from grey in CIELAB,
# the nearest of four views counting: normal vision, and protanopia, deuteranopia and tritanopia by Machado (2009).
COLORS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#730DFF",
    "#A6FFA6", "#73260D", "#33264C", "#0D2699", "#E6E6F2", "#9966FF", "#402626", "#7FB259",
    "#A6D9B2", "#990D7F", "#BFD966", "#597F40", "#4C40D9", "#A6400D", "#7F99FF", "#336640",
    "#99D9FF", "#CC0DB2", "#73BF7F", "#4C404C", "#400D73", "#D9B2CC", "#1A0DCC", "#999933",
    "#6673D9", "#B2408C", "#B27FBF", "#59261A", "#D9F266", "#7FD97F", "#FFE6D9", "#99CC33",
)  # fmt: skip
# Of the normals n, by whether z points to the viewer (OpenGL's axes) or away (OpenCV's).
AXES = {
    True: ("x to the right", "y up", "z to the viewer"),
    False: ("x to the right", "y down", "z from the viewer"),
}
HATCH = (107, 153)
HATCH_PERIOD = 8
# Up to this many binary labels, those that are no are worth their words too.
FEW_BINARY = 4


@dataclass(frozen=True)
class ClassKey:
    """The colours of a segmentation: the classes that occur, those with the most pixels first."""

    names: Sequence[str]
    colors: NDArray[np.uint8]
    indices: Sequence[int]


@dataclass(frozen=True)
class DepthKey:
    """The two depths, in metres, between which the colours of a depth map run, evenly in the logarithm of the depth.

    Evenly in metres, one far wall would leave a single colour to all that is near.
    """

    nearest: float
    farthest: float


@dataclass(frozen=True)
class DisparityKey(DepthKey):
    """The same for a disparity, in its own unit: the smallest is the farthest, and has the dark end of the colours."""

    unit: str = ""


@dataclass(frozen=True)
class EdgeKey:
    """Edges are black on white, whatever is drawn."""


# What the colours of a dense task mean; of normals, whether their z points to the viewer.
Key = ClassKey | DepthKey | EdgeKey | bool


def panel_key(task: Task, targets: Sequence[NDArray]) -> Key:
    """One key for all these targets of a dense task."""
    if task.kind == "segmentation":
        return class_key(task, targets)
    if task.kind == "edges":
        return EdgeKey()
    if task.kind == "disparity":
        ends = depth_key(targets)
        return DisparityKey(ends.nearest, ends.farthest, task.unit)
    return depth_key(targets) if task.kind == "depth" else faces_viewer(targets)


def panel(target: NDArray, key: Key) -> Picture:
    """The picture of a target, (H, W, 3), by its task's key."""
    if isinstance(key, ClassKey):
        return segmentation_picture(target, key)
    if isinstance(key, EdgeKey):
        return _hatched(edges_picture((target == 1).astype(np.float32)), target == IGNORE)
    return depth_picture(target, key) if isinstance(key, DepthKey) else normals_picture(target)


def class_key(task: Task, targets: Sequence[NDArray[np.uint8]]) -> ClassKey:
    """The classes in these (H, W) targets, the commonest first, in the colours that they have on every picture."""
    pixels = np.bincount(np.concatenate([target.ravel() for target in targets]), minlength=IGNORE + 1)[:IGNORE]
    return _key(task, [int(k) for k in np.argsort(-pixels, kind="stable") if pixels[k]])


def fixed_class_key(task: Task) -> ClassKey:
    """All classes in the task's order: the same class has the same colour on every picture."""
    return _key(task, range(len(task.classes)))


def class_colors(count: int) -> NDArray[np.uint8]:
    """(count, 3): the colour of each class; past the last of `COLORS` they come again, paler and darker."""
    plain = np.array([ImageColor.getrgb(color) for color in COLORS], float)
    rounds = [plain, plain * 0.5 + 127.5, plain * 0.55, plain * 0.25 + 191, plain * 0.3]
    shades = np.concatenate(rounds)[np.arange(count) % (len(rounds) * len(COLORS))]
    return np.rint(shades).astype(np.uint8)


def _key(task: Task, indices: Sequence[int]) -> ClassKey:
    colors = class_colors(len(task.classes))[list(indices)]
    return ClassKey([task.classes[k] for k in indices], colors.reshape(-1, 3), indices)


def depth_key(targets: Sequence[NDArray[np.float32]]) -> DepthKey:
    """The range of all valid pixels in these (H, W) targets; 1 to 10 where there are none."""
    metres = np.concatenate([target[target > 0] for target in targets])
    return DepthKey(float(metres.min()), float(metres.max())) if metres.size else DepthKey(1.0, 10.0)


def segmentation_picture(target: NDArray[np.uint8], key: ClassKey) -> Picture:
    """(H, W) classes in the key's colours, (H, W, 3)."""
    table = np.zeros((IGNORE + 1, 3), np.uint8)
    table[list(key.indices)] = key.colors
    return _hatched(table[target], target == IGNORE)


def edges_picture(probability: NDArray[np.float32]) -> Picture:
    """(H, W) probabilities of an edge, from white (none) to black, (H, W, 3)."""
    return np.repeat(np.rint(255 * (1 - probability.clip(0, 1))).astype(np.uint8)[..., None], 3, axis=-1)


def depth_picture(target: NDArray[np.float32], key: DepthKey) -> Picture:
    """(H, W) metres in viridis, the nearest dark, (H, W, 3)."""
    colors = matplotlib.colormaps["viridis"](depth_shares(target, key), bytes=True)[..., :3]
    return _hatched(colors, target <= 0)


def depth_shares(metres: NDArray[np.float32], key: DepthKey) -> NDArray[np.float64]:
    """How far along the colours a depth is, 0 to 1, of the same shape; 0 where there is none."""
    span = np.log(max(key.farthest / key.nearest, 1 + 1e-6))
    return np.clip(np.log(np.maximum(metres, key.nearest) / key.nearest) / span, 0, 1)


def round_metres(key: DepthKey) -> list[float]:
    """1, 2 and 5 times powers of ten that stand clear of both ends of the colour bar and of each other."""
    metres = [digit * 10.0**decade for decade in range(-3, 6) for digit in (1, 2, 5)]
    shares = depth_shares(np.array(metres, np.float32), key).tolist()
    return [value for value, share in zip(metres, shares, strict=True) if 0.15 < share < 0.85]


def normals_picture(target: NDArray[np.float32]) -> Picture:
    """(H, W, 3) unit vectors n as the colours (n + 1) / 2."""
    return _hatched(np.rint(255 * (target + 1) / 2).clip(0, 255).astype(np.uint8), (target == 0).all(axis=-1))


def is_unlabelled(task: Task, target: NDArray) -> NDArray[np.bool_]:
    """Where a dense target has no label, (H, W)."""
    if task.kind in ("segmentation", "edges"):
        return target == IGNORE
    return target <= 0 if task.kind in ("depth", "disparity") else (target == 0).all(axis=-1)


def hatch(height: int, width: int) -> Picture:
    """Diagonal stripes that stand for no label, (height, width, 3)."""
    stripes = (np.arange(height)[:, None] + np.arange(width)) % HATCH_PERIOD < HATCH_PERIOD // 2
    return np.repeat(np.where(stripes, *HATCH).astype(np.uint8)[..., None], 3, axis=-1)


def faces_viewer(normals: Sequence[NDArray[np.float32]]) -> bool:
    """Whether z points to the viewer (x right, y up: OpenGL's axes) and not away (x right, y down: OpenCV's).

    normals: maps (H, W, 3). What is seen faces the camera, so that the mean of z tells.
    """
    return sum(float(one[..., 2].sum(dtype=np.float64)) for one in normals) >= 0


def sphere(size: int, to_viewer: bool) -> Picture:
    """The colours of the normals of a ball seen from the front, in either of the axes, on white, (size, size, 3)."""
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(axis, -axis)
    square = 1 - x**2 - y**2
    sign = 1 if to_viewer else -1
    normals = np.stack([x, sign * y, sign * np.sqrt(np.clip(square, 0, None))], axis=-1)
    return np.where((square > 0)[..., None], np.rint(255 * (normals + 1) / 2), 255).astype(np.uint8)


def image_words(tasks: Mapping[str, Task], targets: Mapping[str, NDArray]) -> list[str]:
    """The labels of the whole image in words; of more than a few binary labels only those that are yes."""
    names = [name for name, task in tasks.items() if not task.dense]
    binary = [name for name in names if tasks[name].kind == "binary"]
    words = []
    for name in names:
        if tasks[name].kind == "regression":
            words.append(f"{name}: {number_words(tasks[name], targets[name])}")
            continue
        label = int(targets[name])
        if label == IGNORE:
            words.append(f"{name}: no label")
        elif tasks[name].classes:
            words.append(f"{name}: {tasks[name].classes[label]}")
        elif len(binary) <= FEW_BINARY:
            words.append(f"{name}: {'yes' if label else 'no'}")
        elif label:
            words.append(name)
    return words or ([f"none of {len(binary)} labels"] if binary else [])


def number_words(task: Task, numbers: NDArray[np.float32]) -> str:
    """The numbers of a regression, the first few where there are many."""
    every = ["no label" if np.isnan(one) else f"{one:.3g}" for one in np.ravel(numbers)]
    more = " …" if len(every) > FEW_BINARY else ""
    return f"{', '.join(every[:FEW_BINARY])}{more} {task.unit}".strip()


def _hatched(colors: Picture, unlabelled: NDArray[np.bool_]) -> Picture:
    # A prediction has a label everywhere; to hatch nothing takes a second for a large photo.
    return np.where(unlabelled[..., None], hatch(*unlabelled.shape), colors) if unlabelled.any() else colors
