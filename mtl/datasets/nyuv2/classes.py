"""The class sets of NYU-Depth-v2: raw names, 40 classes, 13 classes, and how one becomes the next.

894 raw ids -> 40: Gupta, Arbelaez, Malik, "Perceptual Organization and Recognition of Indoor Scenes from RGB-D
Images" (CVPR 2013), their classMapping40.mat. 37 of the 40 classes are each one raw name, and the rest of the raw
names are divided among other structure, other furniture and other prop.

40 -> 13: the classes of Couprie, Farabet, Najman, LeCun, "Indoor Semantic Segmentation using depth information"
(ICLR 2013), in the order of class13Mapping.mat of Handa et al., "Understanding Real World Indoor Scenes with
Synthetic Data" (CVPR 2016).

Class numbers are counted from 0 here, as `mtl.tasks` has it, and a pixel without one is IGNORE.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mtl.errors import BadInput
from mtl.tasks import IGNORE

Classes = Literal[40, 13]

FORTY = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door",
    "window", "bookshelf", "picture", "counter", "blinds", "desk", "shelves", "curtain",
    "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books", "refrigerator",
    "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
)  # fmt: skip
THIRTEEN = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects",
    "picture", "sofa", "table", "tv", "wall", "window",
)  # fmt: skip
NAMES: dict[Classes, tuple[str, ...]] = {40: FORTY, 13: THIRTEEN}

RAW_IDS = 894  # they are 1..894, and 0 is unlabelled
# The raw id whose name is that of the class, for the first 37 of the 40 classes in their order.
NAMED_RAW_IDS = (
    21, 11, 3, 157, 5, 83, 19, 28, 59, 88, 64, 7, 80, 36, 42, 89, 169, 119, 122, 143, 141, 4, 85, 17,
    172, 15, 135, 123, 26, 45, 331, 158, 124, 24, 144, 136, 55,
)  # fmt: skip
_OTHER_STRUCTURE = (
    8, 25, 33, 38, 51, 53, 57, 58, 62, 65, 79, 94, 104, 112, 134, 153, 215, 216, 223, 225, 238, 241, 242, 256,
    295, 301, 339, 342, 354, 363, 372, 380, 392, 408, 412, 453, 456, 463, 477, 497, 541, 550, 553, 567, 573, 582,
    591, 609, 612, 615, 642, 645, 657, 658, 659, 663, 667, 668, 686, 700, 702, 777, 778, 782, 850, 861, 868, 874,
)  # fmt: skip
_OTHER_FURNITURE = (
    12, 43, 48, 50, 87, 106, 111, 161, 163, 174, 183, 204, 214, 219, 221, 224, 236, 262, 278, 291, 298, 313, 343,
    344, 356, 359, 373, 393, 401, 414, 418, 419, 430, 443, 444, 447, 448, 457, 458, 460, 462, 475, 479, 485, 486,
    493, 494, 498, 499, 509, 510, 515, 521, 524, 540, 549, 551, 554, 556, 558, 576, 580, 608, 625, 703, 734, 770,
    772, 797, 800, 803, 804, 813, 814, 815, 820, 829, 835, 858, 863, 882, 892,
)  # fmt: skip
# For each of the 40 classes in order, its class among the 13.
_THIRTEEN_OF_FORTY = (
    "wall", "floor", "furniture", "bed", "chair", "sofa", "table", "wall",
    "window", "furniture", "picture", "furniture", "window", "table", "furniture", "window",
    "furniture", "objects", "objects", "floor", "objects", "ceiling", "books", "furniture",
    "tv", "objects", "objects", "objects", "objects", "objects", "objects", "furniture",
    "objects", "objects", "objects", "objects", "objects", "objects", "furniture", "objects",
)  # fmt: skip


FORTY_OF_RAW = np.full(1 + RAW_IDS, FORTY.index("otherprop"), np.uint8)
FORTY_OF_RAW[0] = IGNORE
FORTY_OF_RAW[list(NAMED_RAW_IDS)] = np.arange(len(NAMED_RAW_IDS))
FORTY_OF_RAW[list(_OTHER_STRUCTURE)] = FORTY.index("otherstructure")
FORTY_OF_RAW[list(_OTHER_FURNITURE)] = FORTY.index("otherfurniture")

THIRTEEN_OF_FORTY = np.full(256, IGNORE, np.uint8)
THIRTEEN_OF_FORTY[: len(FORTY)] = [THIRTEEN.index(name) for name in _THIRTEEN_OF_FORTY]


def regroup(labels: NDArray[np.uint8], stored: Classes, wanted: Classes) -> NDArray[np.uint8]:
    """A class map (H, W), numbers among the `stored` classes, as numbers among the `wanted` ones."""
    return labels if stored == wanted else THIRTEEN_OF_FORTY[labels]


def choose_classes(stored: Classes, option: int | None) -> Classes:
    """The class set to train on: by default the `stored` set; the option may name another that follows from it.

    Raises `BadInput` for an option other than 40 or 13, and for 40 where 13 are stored.
    """
    if option is None:
        return stored
    if option == 40 and stored == 13:
        raise BadInput("dataset_options.classes: 40; allowed: 13, as the labels found here are of 13 classes")
    if type(option) is int and option in NAMES:
        return option
    raise BadInput(f"dataset_options.classes: {option!r}; allowed: {', '.join(map(str, NAMES))}")
