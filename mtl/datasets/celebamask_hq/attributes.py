"""The attribute file of CelebAMask-HQ: 40 binary labels for each image.

30000                                   the number of images
5_o_Clock_Shadow Arched_Eyebrows ...    the attributes' names
0.jpg  -1 1 ...                         one image a line, -1 or 1 for each name
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

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
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"file {path}: cannot be read ({error})") from error
    attributes = _header(path, lines)
    labels: dict[int, NDArray[np.uint8]] = {}
    line_of: dict[int, int] = {}
    problems: list[str] = []
    rows = [(number, line.split()) for number, line in enumerate(lines[2:], start=3) if line.strip()]
    if lines[0].strip() != str(len(rows)):
        problems.append(f"{path} line 1: says {lines[0].strip()!r} images; {len(rows)} lines follow the names")
    for number, (name, *cells) in rows:
        match = IMAGE_NAME.fullmatch(name)
        if not match:
            problems.append(f"{path} line {number}: begins with {name!r}; allowed: the name of an image, such as 0.jpg")
            continue
        k = int(match[1])
        if k in labels:
            problems.append(f"{path} line {number}: {name} is listed already in line {line_of[k]}")
            continue
        line_of[k] = number
        values = [LABELS.get(cell, IGNORE) for cell in cells]
        if len(cells) != len(attributes):
            problems.append(f"{path} line {number}: has {len(cells)} labels; line 2 names {len(attributes)} attributes")
            values = [IGNORE] * len(attributes)
        elif IGNORE in values:
            bad = values.index(IGNORE)
            problems.append(f"{path} line {number}: {attributes[bad]} is {cells[bad]!r}; allowed: -1 and 1")
        labels[k] = np.array(values, np.uint8)
    return AttributeTable(attributes, labels, problems)


def _header(path: Path, lines: Sequence[str]) -> list[str]:
    if len(lines) < 2:
        raise BadInput(f"file {path}: has {len(lines)} lines; allowed: the number of images, the attributes, images")
    names = lines[1].split()
    strange = [name for name in names if name not in ATTRIBUTES]
    if strange or not names:
        found = repr(strange[0]) if strange else "nothing"
        raise BadInput(f"file {path} line 2: has {found} for an attribute; allowed: {', '.join(ATTRIBUTES)}")
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise BadInput(f"file {path} line 2: names {twice[0]} twice; allowed: each attribute once")
    return names
