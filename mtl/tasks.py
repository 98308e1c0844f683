"""What a task is: its kind decides the shape of its head, its loss and its metrics.

Targets, one image at height H and width W, and the mark of a pixel, image or number without a label:

    kind              array                       dtype     unlabelled
    segmentation      (H, W)                      uint8     255 (IGNORE)
    depth             (H, W), metres              float32   0
    disparity         (H, W), in the task's unit  float32   0
    normals           (H, W, 3), unit             float32   all three 0
    edges             (H, W), 1 on an edge        uint8     255 (IGNORE)
    classification    ()                          uint8     255 (IGNORE)
    binary            ()                          uint8     255 (IGNORE)
    regression        () or (values,)             float32   NaN, each number on its own

A classification is one of several named classes an image, a binary label a yes (1) or a no (0), and a regression one
number or several that share a unit. Disparity is inverse depth: what is near has more of it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "segmentation", "depth", "disparity", "normals", "edges", "classification", "binary", "regression"
]  # fmt: skip
IGNORE = 255
MOST_UNIT = 32
MOST_VALUES = 4096  # numbers of one regression: far above any real use
# Of the backbone's features, and so of the heads' outputs.
OUTPUT_STRIDE = 8
# The classes of an edge map, by number.
EDGE_CLASSES = ("no edge", "edge")


@dataclass(frozen=True)
class Task:
    """One task of a dataset. `classes` names those of a segmentation or a classification and is empty otherwise.

    `mirrored` is for a segmentation whose classes tell left from right: the class, by number, that each class is in a
    mirrored image.

    Of a disparity or a regression: `unit`, such as px or years; empty for a plain number.

    Of a regression alone: `values` names its numbers, and is empty where it is a single one, whose target is ().
    `scale` is what an error is divided by in the loss, about the standard deviation of the labels: a loss near 1 stands
    well beside those of other tasks. `points` says that the numbers are points in the image, x and y in turn, as shares
    of its width and height, which a flip or a crop moves: for each point its partner in a mirrored image, as (1, 0, 2)
    for the left eye, the right eye and the nose. Without `points` a flip or a crop leaves the numbers as they are.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    unit: str = ""
    scale: float = 1.0
    points: tuple[int, ...] = ()
    mirrored: tuple[int, ...] = ()

    @property
    def channels(self) -> int:
        """Numbers that the head predicts per pixel, or per image where the task is not dense."""
        if self.kind == "regression":
            return max(1, len(self.values))
        one = {"depth": 1, "disparity": 1, "normals": 3, "edges": 1, "binary": 1}
        return one.get(self.kind, len(self.classes))

    @property
    def dense(self) -> bool:
        """Whether the task has a target per pixel."""
        return self.kind not in ("classification", "binary", "regression")

    @property
    def identity(self) -> tuple[object, ...]:
        """All that tells it from other tasks, as plain data; what a kind does not have is left out."""
        first = (self.name, self.kind, self.classes)
        match self.kind:
            case "disparity":
                return (*first, self.unit)
            case "regression":
                return (*first, self.values, self.unit, self.scale, self.points)
            case _:
                return (*first, self.mirrored) if self.mirrored else first


def wrong_fields(task: Task) -> str | None:
    """What is wrong with a task's `values`, `unit`, `scale` or `points`, whose types may be any; None: nothing."""
    what = f"{task.name!r}, a {task.kind},"
    if not isinstance(task.unit, str) or not task.unit.isprintable() or len(task.unit) > MOST_UNIT:
        return f"{what} with a unit that is not a short text; allowed: such as 'px' or 'years'"
    if task.unit and task.kind not in ("disparity", "regression"):
        return f"{what} with unit {task.unit!r}; allowed: none, as it is fixed"
    mirrored = task.mirrored
    if mirrored and task.kind != "segmentation":
        return f"{what} with mirrored; allowed: none"
    if not isinstance(mirrored, tuple | list) or any(type(one) is not int for one in mirrored):
        return f"{what} with mirrored that are not a tuple of whole numbers; allowed: such as (0, 2, 1)"
    if mirrored and (len(mirrored) != len(task.classes) or not _pairs(mirrored)):
        return f"{what} with mirrored {tuple(mirrored)}; allowed: for each class itself or its partner, both ways"
    if task.kind != "regression":
        return f"{what} with values, scale or points; allowed: none" if _has_numbers(task) else None
    values, points = task.values, task.points
    if not isinstance(values, tuple | list) or not all(isinstance(v, str) and v.isprintable() and v for v in values):
        return f"{what} with values that are not a tuple of names; allowed: such as ('x', 'y')"
    if len(values) > MOST_VALUES or len({*values}) < len(values):
        return f"{what} with {len(values)} values; allowed: each name once, at most {MOST_VALUES}"
    if isinstance(task.scale, bool) or not isinstance(task.scale, int | float) or not 0 < task.scale < math.inf:
        return f"{what} with scale {task.scale!r}; allowed: a number above 0"
    if not isinstance(points, tuple | list) or any(type(one) is not int for one in points):
        return f"{what} with points that are not a tuple of whole numbers; allowed: such as (1, 0, 2)"
    if points and (len(values) != 2 * len(points) or [*range(len(points))] != sorted(points)):
        return f"{what} with points {tuple(points)} and {len(values)} values; allowed: two values for each of 0, 1, 2 …"
    if not _pairs(points):
        return f"{what} with points {tuple(points)}; allowed: each point is the partner of its partner"
    return None


def _has_numbers(task: Task) -> bool:
    return bool(task.values or task.points) or task.scale != 1


def _pairs(partners: Sequence[int]) -> bool:
    """Whether each is the partner of its partner."""
    places = range(len(partners))
    return all(partner in places and partners[partner] == one for one, partner in enumerate(partners))
