"""Splits of one's own data by a seed: which samples train, validate and test, kept in files.

    DIR/splits/train.txt   ids, one a line; val.txt and test.txt alike

`parsimony datasets split DIR` writes them, and the class that reads the data takes them by `read_splits`.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath

from mtl.datasets.base import SPLITS, Split
from mtl.datasets.inspect.content import replacing
from mtl.datasets.reading import read_lines
from mtl.errors import BadInput

FOLDER = "splits"
SHARES = (0.7, 0.15, 0.15)
MOST_SEED = 2**63 - 1
WILDCARDS = re.compile(r"[*?\[]")

Ids = dict[Split, list[str]]


def split_by_seed(ids: Collection[str], seed: int = 0, shares: Sequence[float] = SHARES, by: str | None = None) -> Ids:
    """Ids divided into train, val and test, each list sorted.

    shares: of train, val and test, in this order; they sum to 1.
    by: a regular expression. Ids in which it finds the same text (that of its first group, if it has one) stay
    together, such as all frames of a scene: `^[^/]+` for ids like scene3/0007, `^(.*)_[0-9]+$` for ids like
    scene3_0007.

    The groups are put in the order of SHA-256("SEED/GROUP"), which is the same on every machine, and cut where the
    shares of the samples are reached. So a new sample moves no others but a few at the two cuts, and the order in which
    ids are given does not matter.

    Raises BadInput for ids that are there twice, or in which `by` finds nothing, and where a split would be empty.
    """
    _check(seed, shares)
    twice = [one for one, count in Counter(ids).items() if count > 1]
    if twice:
        raise BadInput(f"ids: {min(twice)!r} is there twice; allowed: each once")
    groups: dict[str, list[str]] = {}
    for one in sorted(ids):
        groups.setdefault(_group(one, by), []).append(one)
    found: Ids = {split: [] for split in SPLITS}
    before = 0
    for name in sorted(groups, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest()):
        # By the middle of a group, so that none is always on one side of a cut.
        middle = (before + len(groups[name]) / 2) / len(ids)
        past = sum(middle >= cut for cut in (shares[0], shares[0] + shares[1]))
        found[SPLITS[past]] += groups[name]
        before += len(groups[name])
    empty = next((split for split in SPLITS if not found[split]), None)
    if empty:
        what = f"{len(ids):,} samples" + (f" in {len(groups):,} groups" if by else "")
        raise BadInput(f"split {empty}: would be empty, of {what}; allowed: more of them, or other shares or seed")
    return {split: sorted(chosen) for split, chosen in found.items()}


def find_ids(root: Path, pattern: str) -> list[str]:
    """The ids of the files below `root` that match a pattern such as images/*.jpg or images/**/*.png.

    An id is a file's path without its suffix, from the first folder on that the pattern leaves open: scene3/0007 for
    images/scene3/0007.png. Hidden files are left out. Raises BadInput where there is no file, or two have one id.
    """
    path = PurePosixPath(pattern)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise BadInput(f"--images {pattern!r}: allowed: a pattern below the folder, such as images/*.jpg")
    fixed = 0
    while fixed < len(path.parts) - 1 and not WILDCARDS.search(path.parts[fixed]):
        fixed += 1
    start = root.joinpath(*path.parts[:fixed])
    try:
        matching = sorted(start.glob("/".join(path.parts[fixed:])))
        files = [one for one in matching if one.is_file() and not one.name.startswith(".")]
    except (OSError, ValueError) as error:
        raise BadInput(f"--images {pattern!r}: cannot be looked for in {root} ({error})") from error
    if not files:
        raise BadInput(f"--images {pattern!r}: no file of {root} matches; allowed: a pattern such as images/*.jpg")
    of: dict[str, Path] = {}
    for file in files:
        sample_id = file.relative_to(start).with_suffix("").as_posix()
        if sample_id in of:
            raise BadInput(
                f"--images {pattern!r}: {of[sample_id]} and {file} are both {sample_id}; allowed: one of them"
            )
        if not sample_id.isprintable():
            raise BadInput(f"--images {pattern!r}: {sample_id!r} is no text on one line; allowed: other names of files")
        of[sample_id] = file
    return list(of)


def write_splits(root: Path, ids: Mapping[Split, Sequence[str]], *, replace: bool = False) -> bool:
    """Write the three lists; whether anything was changed.

    Raises BadInput where there are other lists already, unless `replace`, and where they cannot be written.
    """
    contents = {root / FOLDER / f"{split}.txt": "".join(f"{one}\n" for one in ids[split]) for split in SPLITS}
    try:
        there = {path: path.read_text(encoding="utf-8") for path in contents if path.exists()}
        if there == contents:
            return False
        if there and not replace:
            other = next(iter(there))
            raise BadInput(
                f"file {other}: is there, and {other.parent} holds other splits; allowed: --replace, or another folder"
            )
        (root / FOLDER).mkdir(exist_ok=True)
        for path, text in contents.items():
            with replacing(path) as unfinished:
                unfinished.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: a file there that is no text
        raise BadInput(f"folder {root / FOLDER}: cannot be written ({error})") from error
    return True


def read_splits(root: Path) -> Ids:
    """The ids of each split of a folder, as `write_splits` writes them. Empty lines do not count.

    Raises BadInput where a list is missing or an id is there twice.
    """
    found: Ids = {}
    split_of: dict[str, Path] = {}
    for split in SPLITS:
        path = root / FOLDER / f"{split}.txt"
        if not path.is_file():
            raise BadInput(f"file {path}: is not there; allowed: as `parsimony datasets split {root}` writes it")
        found[split] = [line.strip() for line in read_lines(path) if line.strip()]
        for one in found[split]:
            if one in split_of:
                raise BadInput(
                    f"file {path}: has {one}, which is in {split_of[one].name} already; allowed: each id once"
                )
            split_of[one] = path
    return found


def _check(seed: object, shares: Sequence[float]) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MOST_SEED:
        raise BadInput(f"seed: {seed!r}; allowed: 0 or more, less than 2**63")
    fits = len(shares) == len(SPLITS) and all(math.isfinite(share) and share > 0 for share in shares)
    if not fits or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        told = ",".join(f"{share:g}" for share in shares)
        raise BadInput(f"shares: {told}; allowed: three numbers above 0 that sum to 1, such as 0.7,0.15,0.15")


def _group(sample_id: str, by: str | None) -> str:
    if by is None:
        return sample_id
    try:
        match = re.search(by, sample_id)
    except re.error as error:
        raise BadInput(f"by: {by!r} is no regular expression ({error}); allowed: such as '^[^/]+'") from error
    group = match[1] if match and match.re.groups else match[0] if match else None
    if not group:
        raise BadInput(f"by: {by!r} finds nothing in {sample_id!r}; allowed: an expression that fits every id")
    return group
