"""The attribute file of CelebAMask-HQ: 40 binary labels for each image.

30000                                   the number of images
5_o_Clock_Shadow Arched_Eyebrows ...    the attributes' names
0.jpg  -1 1 ...                         one image a line, -1 or 1 for each name
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.reading import read_lines
from mtl.errors import BadInput
from mtl.tasks import IGNORE

ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes",
    "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling",
    "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace",
    "Wearing_Necktie", "Young",
)  # fmt: skip

IMAGE_NAME = re.compile(r"(0|[1-9][0-9]*)\.jpg")
LABELS = {"-1": 0, "1": 1}


@dataclass(frozen=True)
class AttributeTable:
    """What the file says. `labels` has, for each image's number K, a uint8 label for each of `attributes`: 0, 1, or
    IGNORE where the file has no label that can be read. `problems` are one line each, naming file and line."""

    attributes: Sequence[str]
    labels: Mapping[int, NDArray[np.uint8]]
    problems: Sequence[str]


def read_attributes(path: Path) -> AttributeTable:
    """The table in a file. Raises BadInput where it cannot be read or line 2 does not name attributes."""
    lines = read_lines(path)
    if len(lines) < 2:
        raise BadInput(f"file {path}: has {len(lines)} lines; allowed: the number of images, the attributes, images")
    attributes = lines[1].split()
    strange = next((name for name in attributes or [""] if name not in ATTRIBUTES), None)
    if strange is not None:
        found = repr(strange) if strange else "nothing"
        raise BadInput(f"file {path} line 2: has {found} for an attribute; allowed: {', '.join(ATTRIBUTES)}")
    twice = next((name for name, count in Counter(attributes).items() if count > 1), None)
    if twice:
        raise BadInput(f"file {path} line 2: names {twice} twice; allowed: each attribute once")
    rows = [(number, line.split()) for number, line in enumerate(lines[2:], start=3) if line.strip()]
    problems: list[str] = []
    if lines[0].strip() != str(len(rows)):
        problems.append(f"{path} line 1: says {lines[0].strip()!r} images; {len(rows)} lines follow the names")
    labels: dict[int, NDArray[np.uint8]] = {}
    line_of: dict[int, int] = {}
    for number, (name, *cells) in rows:
        where = f"{path} line {number}"
        match = IMAGE_NAME.fullmatch(name)
        if not match:
            problems.append(f"{where}: begins with {name!r}; allowed: the name of an image, such as 0.jpg")
            continue
        k = int(match[1])
        if line_of.setdefault(k, number) != number:
            problems.append(f"{where}: {name} is listed already in line {line_of[k]}")
            continue
        values = [LABELS.get(cell, IGNORE) for cell in cells]
        if len(cells) != len(attributes):
            problems.append(f"{where}: has {len(cells)} labels; line 2 names {len(attributes)} attributes")
            values = [IGNORE] * len(attributes)
        elif IGNORE in values:
            bad = values.index(IGNORE)
            problems.append(f"{where}: {attributes[bad]} is {cells[bad]!r}; allowed: -1 and 1")
        labels[k] = np.array(values, np.uint8)
    return AttributeTable(attributes, labels, problems)
