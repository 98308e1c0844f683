"""Splits of CelebAMask-HQ, which is published without: by a seed, or by a list of the user's.

A list has two columns, an image and its split, in one of three forms that may be mixed:

    0 train         the image's number K; the split is train, val or test
    0.jpg train     its name
    119614.jpg 0    its name in CelebA, six digits, as in CelebA's own list_eval_partition.txt, where 0, 1 and 2 are
                    train, val and test; CelebA-HQ-to-CelebA-mapping.txt of the published set translates it

CelebA's partition gives 24183, 2993 and 2824 of the 30000 images, and is the one that the authors of CelebAMask-HQ use.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mtl.datasets.base import SPLITS, Split
from mtl.errors import BadInput

MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
SPLIT_OF: dict[str, Split] = {"train": "train", "val": "val", "test": "test", "0": "train", "1": "val", "2": "test"}
CELEBA_NAME = re.compile(r"([0-9]{6})\.jpg")
NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.jpg)?")


@dataclass(frozen=True)
class ListedSplits:
    """`ids` are the images' numbers in rising order; `problems` are one line each, naming file and line."""

    ids: Mapping[Split, list[int]]
    problems: list[str]


def splits_by_seed(images: Collection[int], seed: int) -> dict[Split, list[int]]:
    """60 % of the images for train and 20 % each for val and test, in rising order.

    The order that decides is that of SHA-256("SEED/K"), a shuffle that no library's generator can change.
    """
    shuffled = sorted(images, key=lambda k: hashlib.sha256(f"{seed}/{k}".encode()).digest())
    fifth = len(shuffled) // 5
    return {
        "train": sorted(shuffled[2 * fifth :]),
        "val": sorted(shuffled[:fifth]),
        "test": sorted(shuffled[fifth : 2 * fifth]),
    }


def splits_by_list(path: Path, images: Collection[int], root: Path) -> ListedSplits:
    """The splits in a list of some of `images`, the numbers of those in the dataset's folder `root`.

    Names of CelebA that are not among `images` are passed over, as its list has 202599. Raises BadInput, in the name of
    the option `split_file`, where the list or the mapping that it needs cannot be read, or a split is empty.
    """
    allowed = "a text file of lines 'K train|val|test'"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise BadInput(f"dataset_options.split_file: {path} cannot be read ({reason}); allowed: {allowed}") from error
    ids: dict[Split, list[int]] = {split: [] for split in SPLITS}
    line_of: dict[int, int] = {}
    problems: list[str] = []
    celeba: Mapping[str, int] | None = None
    for number, line in enumerate(lines, start=1):
        where = f"{path} line {number}"
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 2:
            problems.append(f"{where}: has {len(cells)} columns; allowed: an image and its split")
            continue
        name, split = cells
        if split not in SPLIT_OF:
            problems.append(f"{where}: split {split!r}; allowed: train, val, test, or 0, 1, 2 in this order")
            continue
        if match := CELEBA_NAME.fullmatch(name):
            celeba = _mapping(root, where, name) if celeba is None else celeba
            k = celeba.get(match[1])
            if k is None or k not in images:
                continue
        elif match := NUMBER.fullmatch(name):
            k = int(match[1])
            if k not in images:
                problems.append(f"{where}: image {name} is not in {root}; allowed: those that it has")
                continue
        else:
            problems.append(f"{where}: image {name!r}; allowed: K or K.jpg, or a name of CelebA, six digits and .jpg")
            continue
        if k in line_of:
            problems.append(f"{where}: image {name} is listed already in line {line_of[k]}")
            continue
        line_of[k] = number
        ids[SPLIT_OF[split]].append(k)
    empty = [split for split in SPLITS if not ids[split]]
    if empty:
        cause = f"; its first problem: {problems[0]}" if problems else ""
        raise BadInput(
            f"dataset_options.split_file: {path} has no image of {root} for {empty[0]}; "
            f"allowed: at least one for each of train, val and test{cause}"
        )
    return ListedSplits({split: sorted(chosen) for split, chosen in ids.items()}, problems)


def _mapping(root: Path, where: str, name: str) -> dict[str, int]:
    """The number K of an image by the six digits of its name in CelebA."""
    path = root / MAPPING
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()[1:]]
        return {celeba.removesuffix(".jpg"): int(k) for k, _, celeba in filter(None, rows)}
    except FileNotFoundError as error:
        raise BadInput(
            f"dataset_options.split_file: {where} names {name} of CelebA, and {path}, which translates it, is missing"
        ) from error
    except (OSError, ValueError) as error:
        raise BadInput(
            f"file {path}: cannot be read as lines 'K NUMBER NAME.jpg' after a first line ({error})"
        ) from error
