"""What `mtl.datasets.cache.build` and `mtl.datasets.inspect.content` have left on this machine, and its removal.

Only what has the form that these two give their files is listed or removed, as the cache's root is the user's choice
and may hold other things.
"""

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from mtl.datasets.base import SPLITS
from mtl.errors import BadInput

DIGESTS = "digests"
_CACHE = re.compile(r"(?P<name>.+)-[0-9a-f]{16}(?P<unfinished>\.tmp)?")
_DIGEST = re.compile(r"[0-9a-f]{16}\.json")


@dataclass(frozen=True)
class Cached:
    """One dataset at one size, (height, width), or without one where it is unfinished or cannot be read."""

    folder: Path
    dataset: str
    bytes: int
    samples: int
    image_size: tuple[int, int] | None


@dataclass(frozen=True)
class Removal:
    """What was removed, how many bytes of files that frees, and what was not as it is being built."""

    removed: Sequence[Cached]
    hash_files: int
    bytes: int
    in_use: Sequence[Cached]


def list_cached(root: Path) -> list[Cached]:
    """Every dataset that is cached below `root`, by name. Raises `BadInput` where it cannot be listed."""
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        return [_describe(path, match["name"]) for path in folders if (match := _matches(path))]
    except OSError as error:
        raise BadInput(f"cache {root}: cannot be listed ({error})") from error


def hash_files(root: Path) -> list[Path]:
    """The files of remembered content hashes below `root`."""
    folder = root / DIGESTS
    return sorted(path for path in folder.iterdir() if _DIGEST.fullmatch(path.name)) if folder.is_dir() else []


def remove_cached(root: Path) -> Removal:
    """Removes all that `list_cached` and `hash_files` find, with the locks, except caches that are being built.

    Trials that have a cache open keep what they have mapped. Raises `BadInput` where something cannot be removed.
    """
    removed, in_use = [], []
    freed = 0
    try:
        for cached in list_cached(root):
            if _remove(cached.folder):
                removed.append(cached)
                freed += cached.bytes
            else:
                in_use.append(cached)
        hashes = hash_files(root)
        for path in hashes:
            freed += path.stat().st_size
            path.unlink()
    except OSError as error:
        raise BadInput(f"cache {root}: cannot be removed ({error})") from error
    return Removal(removed, len(hashes), freed, in_use)


def _matches(path: Path) -> re.Match[str] | None:
    """Whether a folder is one of ours: by its name, and by holding nothing but splits."""
    match = _CACHE.fullmatch(path.name)
    inside = {entry.name for entry in path.iterdir()}
    whole = match is not None and (inside == set(SPLITS) or (match["unfinished"] and inside <= set(SPLITS)))
    return match if whole else None


def _describe(folder: Path, name: str) -> Cached:
    files = [path for path in folder.rglob("*") if path.is_file()]
    shapes = [shape for split in SPLITS if (shape := _shape(folder / split / "image.npy"))]
    whole = len(shapes) == len(SPLITS) and folder.suffix != ".tmp"
    return Cached(
        folder=folder,
        dataset=name,
        bytes=sum(path.stat().st_size for path in files),
        samples=sum(shape[0] for shape in shapes),
        image_size=(shapes[0][1], shapes[0][2]) if whole else None,
    )


def _shape(path: Path) -> tuple[int, ...] | None:
    """Of the images in a file, (N, H, W, 3); None where it is not one of ours."""
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (OSError, ValueError, EOFError):
        return None
    return shape if len(shape) == 4 else None


def _remove(folder: Path) -> bool:
    """Removes a cache and its lock, unless another process holds the lock."""
    whole = folder.with_suffix("") if folder.suffix == ".tmp" else folder
    lock = FileLock(f"{whole}.lock", timeout=0)
    try:
        with lock:
            # Under the name of an unfinished one first, so that nobody takes half a cache for a whole one.
            unfinished = whole.with_name(f"{whole.name}.tmp")
            if folder != unfinished:
                shutil.rmtree(unfinished, ignore_errors=True)
                folder.rename(unfinished)
            shutil.rmtree(unfinished)
            Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout:
        return False
    return True
