"""Splits of CelebAMask-HQ, which is published without any: by a seed, or by a list that the user gives.

A list has two columns, an image and its split, in one of three forms that may be mixed:

    0 train         the image's number K; the split is train, val or test
    0.jpg train     its name
    119614.jpg 0    its name in CelebA, six digits, as in CelebA's own list_eval_partition.txt, where 0, 1 and 2 are
                    train, val and test; CelebA-HQ-to-CelebA-mapping.txt of the published set translates it

CelebA's partition gives 24183, 2993 and 2824 of the 30000 images. The authors of CelebAMask-HQ use it.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from mtl.datasets.base import SPLITS, Split
from mtl.datasets.reading import read_lines, reading
from mtl.errors import BadInput

MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
SPLIT_OF: dict[str, Split] = {"train": "train", "val": "val", "test": "test", "0": "train", "1": "val", "2": "test"}
CELEBA_NAME = re.compile(r"([0-9]{6})\.jpg")
NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.jpg)?")


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


def splits_by_list(path: Path, images: Collection[int], root: Path) -> tuple[dict[Split, list[int]], list[str]]:
    """The splits in a list of some of `images`, the numbers of those in the dataset's folder `root`, in rising order;
    and what is wrong in the list, one line each, naming file and line.

    Names of CelebA that are not among `images` are skipped, as its list has 202599. Raises BadInput, in the name of
    the option `split_file`, where the list or the mapping that it needs cannot be read, or a split is empty.
    """
    option = "dataset_options.split_file"
    try:
        rows = [line.split() for line in read_lines(path)]
    except BadInput as error:
        raise BadInput(f"{option}: {error}; allowed: a text file of lines 'K train|val|test'") from error
    ids: dict[Split, list[int]] = {split: [] for split in SPLITS}
    line_of: dict[int, int] = {}
    problems: list[str] = []
    celeba: Mapping[str, int] = {}
    for number, cells in enumerate(rows, start=1):
        where = f"{path} line {number}"
        name, split = cells if len(cells) == 2 else ("", "")
        in_celeba, numbered = CELEBA_NAME.fullmatch(name), NUMBER.fullmatch(name)
        if in_celeba:
            if not celeba and not (root / MAPPING).exists():
                raise BadInput(
                    f"{option}: {where} names {name} of CelebA, and {root / MAPPING}, which translates it, is missing"
                )
            celeba = celeba or _mapping(root / MAPPING)
        k = celeba.get(in_celeba[1], -1) if in_celeba else int(numbered[1]) if numbered else -1
        if not cells or (in_celeba and k not in images):
            continue
        if len(cells) != 2:
            problems.append(f"{where}: has {len(cells)} columns; allowed: an image and its split")
        elif split not in SPLIT_OF:
            problems.append(f"{where}: split {split!r}; allowed: train, val, test, or 0, 1, 2 in this order")
        elif k < 0:
            problems.append(f"{where}: image {name!r}; allowed: K or K.jpg, or a name of CelebA, six digits and .jpg")
        elif k not in images:
            problems.append(f"{where}: image {name} is not in {root}; allowed: those that it has")
        elif line_of.setdefault(k, number) != number:
            problems.append(f"{where}: image {name} is listed already in line {line_of[k]}")
        else:
            ids[SPLIT_OF[split]].append(k)
    empty = next((split for split in SPLITS if not ids[split]), None)
    if empty:
        cause = f"; its first problem: {problems[0]}" if problems else ""
        raise BadInput(
            f"{option}: {path} has no image of {root} for {empty}; "
            f"allowed: at least one for each of train, val and test{cause}"
        )
    return {split: sorted(chosen) for split, chosen in ids.items()}, problems


def _mapping(path: Path) -> dict[str, int]:
    """The number K of an image by the six digits of its name in CelebA."""
    rows = [line.split() for line in read_lines(path)[1:]]
    with reading(path, "lines 'K NUMBER NAME.jpg' after a first line"):
        return {celeba.removesuffix(".jpg"): int(k) for k, _, celeba in filter(None, rows)}
