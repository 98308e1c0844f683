"""The labels of Cityscapes, by the ids that gtFine's labelIds files hold, and the class sets that follow from them.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding" (CVPR 2016); the table is that of the
dataset's own scripts (helpers/labels.py). 19 classes are those of its benchmark, and 7 are its categories, in which
MTAN (Liu, Johns, Davison 2019) and LibMTL train. Pixels of no class are IGNORE: with 19 classes those that the
benchmark leaves out, such as parking or a caravan, which with 7 belong to their categories.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.reading import first_outside
from mtl.errors import BadInput
from mtl.tasks import IGNORE

Classes = Literal[7, 19]

# In the order of ids, 0 to 33: the name, and for each category where its ids begin. The first seven have no class.
LABELS = (
    "unlabeled", "ego vehicle", "rectification border", "out of roi", "static", "dynamic", "ground",
    "road", "sidewalk", "parking", "rail track",
    "building", "wall", "fence", "guard rail", "bridge", "tunnel",
    "pole", "polegroup", "traffic light", "traffic sign",
    "vegetation", "terrain",
    "sky",
    "person", "rider",
    "car", "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle",
)  # fmt: skip
FIRST_OF_CATEGORY = {
    "flat": 7, "construction": 11, "object": 17, "nature": 21, "sky": 23, "human": 24, "vehicle": 26,
}  # fmt: skip
NINETEEN = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
SEVEN = tuple(FIRST_OF_CATEGORY)
NAMES: dict[Classes, tuple[str, ...]] = {7: SEVEN, 19: NINETEEN}


def _table(of: dict[int, int]) -> NDArray[np.uint8]:
    table = np.full(256, IGNORE, np.uint8)
    table[list(of)] = list(of.values())
    return table


# The class of each id among 7 and among 19.
CLASS_OF: dict[Classes, NDArray[np.uint8]] = {
    7: _table({k: sum(k >= first for first in FIRST_OF_CATEGORY.values()) - 1 for k in range(7, len(LABELS))}),
    19: _table({LABELS.index(name): k for k, name in enumerate(NINETEEN)}),
}


def class_map(ids: NDArray[np.uint8], classes: Classes) -> NDArray[np.uint8]:
    """(H, W) ids of labels as classes. Raises BadInput, to which the caller adds the file, for an id that is none."""
    outside = first_outside(ids[ids != IGNORE], 0, len(LABELS) - 1)
    if outside is not None:
        raise BadInput(f"holds label {outside}; allowed: 0..{len(LABELS) - 1}, as in files called …_labelIds.png")
    return CLASS_OF[classes][ids]


def choose_classes(option: object) -> Classes:
    if type(option) is int and option in NAMES:
        return option
    raise BadInput(f"dataset_options.classes: {option!r}; allowed: {', '.join(map(str, NAMES))}")
