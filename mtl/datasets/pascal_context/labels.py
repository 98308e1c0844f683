"""The labels of PASCAL-Context in PASCAL_MT, and those that are made of others.

Classes: PASCAL VOC's 20 and background. Human parts: those of PASCAL-Part (Chen et al. 2014), grouped into six as
Maninis et al. (CVPR 2019) do. Normals were predicted by a network for indoor scenes, so they count only on classes that
NYU-v2 has too, by the same name (and on tvmonitor): the ids below, of the 459 of PASCAL-Context (Mottaghi et al. 2014).
"""

import numpy as np
from numpy.typing import NDArray

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
PERSON = CLASSES.index("person")
PARTS = ("background", "head", "torso", "upper arm", "lower arm", "upper leg", "lower leg")
SALIENCY = ("background", "salient")
CONTEXT_LABELS = 459

_HEAD = ("hair", "head", "mouth", "nose", "lear", "rear", "lebrow", "rebrow", "leye", "reye")
_SIDED = {"uarm": "upper arm", "larm": "lower arm", "hand": "lower arm", "uleg": "upper leg", "lleg": "lower leg"}
_SIDED["foot"] = "lower leg"
# The number among PARTS of each part of a person in the annotations.
PART_OF = {
    **dict.fromkeys(_HEAD, 1),
    **dict.fromkeys(("neck", "torso"), 2),
    **{side + part: PARTS.index(group) for part, group in _SIDED.items() for side in "lr"},
}

_WITH_NORMALS = (
    3, 4, 6, 9, 10, 11, 13, 15, 17, 18, 22, 23, 29, 30, 33, 34, 36, 37, 38, 39, 41, 43, 46, 49, 50, 51, 53, 55, 56, 59,
    61, 62, 65, 66, 68, 69, 72, 73, 78, 83, 84, 85, 87, 88, 95, 96, 101, 104, 105, 107, 111, 113, 115, 122, 124, 135,
    141, 142, 143, 146, 150, 154, 157, 158, 159, 165, 172, 174, 181, 183, 184, 191, 193, 195, 197, 199, 202, 213, 215,
    216, 219, 220, 223, 225, 228, 230, 232, 233, 238, 239, 242, 243, 246, 250, 251, 252, 255, 260, 261, 263, 269, 272,
    273, 275, 281, 283, 284, 285, 286, 287, 288, 290, 291, 292, 293, 295, 304, 307, 309, 310, 314, 315, 319, 323, 329,
    330, 331, 336, 342, 345, 349, 350, 351, 352, 355, 357, 368, 370, 371, 374, 379, 380, 383, 384, 397, 401, 403, 405,
    407, 408, 411, 412, 413, 414, 417, 419, 421, 423, 427, 429, 430, 432, 440, 441, 442, 443, 444, 446, 454, 457,
)  # fmt: skip
HAS_NORMALS = np.zeros(CONTEXT_LABELS + 1, bool)
HAS_NORMALS[list(_WITH_NORMALS)] = True


def label_edges(labels: NDArray) -> NDArray[np.uint8]:
    """(H, W), 1 where the right or the lower neighbour has another label.

    Maninis et al. mark both sides and thin the lines; these are as thin, and lie at most a pixel beside theirs.
    """
    edges = np.zeros(labels.shape, np.uint8)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    return edges
