"""What `mtl.datasets.cache.build` and `mtl.datasets.inspect.content` have left on this machine, and its removal.

Only what has the form that these two give their files is listed or removed, as the cache's root is the user's choice
and may hold other things.
"""

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from mtl.datasets.base import SPLITS
from mtl.errors import BadInput

_CACHE = re.compile(r"(?P<name>.+)-[0-9a-f]{16}(?P<unfinished>\.tmp)?")
_DIGEST = re.compile(r"[0-9a-f]{16}\.json")


@dataclass(frozen=True)
class Cached:
    """A dataset at one size, in a folder, or all files of remembered content hashes."""

    paths: Sequence[Path]
    what: str
    bytes: int


def list_cached(root: Path) -> list[Cached]:
    """All that is cached below `root`: datasets, the largest first, then hashes. Raises `BadInput` where it cannot be
    listed."""
    with _cache_errors(root, "listed"):
        folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        found = [_dataset(path, match["name"]) for path in folders if (match := _matches(path))]
        found.sort(key=lambda cached: -cached.bytes)
        digests = sorted(root.glob("digests/*.json"))
        if digests := [path for path in digests if _DIGEST.fullmatch(path.name)]:
            what = f"content hashes of {len(digests):,} dataset folder{'s' * (len(digests) > 1)}"
            found.append(Cached(digests, what, sum(path.stat().st_size for path in digests)))
        return found


def remove_cached(root: Path) -> tuple[list[Cached], list[Cached]]:
    """Removes all that `list_cached` finds, with the locks: what was removed, and what was kept because it
    is being built.

    Trials that have a cache open can go on reading it. Raises `BadInput` where something cannot be removed.
    """
    every = list_cached(root)
    with _cache_errors(root, "removed"):
        in_use = [cached for cached in every if not all(map(_remove, cached.paths))]
    return [cached for cached in every if cached not in in_use], in_use


@contextmanager
def _cache_errors(root: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(f"cache {root}: cannot be {done} ({error})") from error


def _matches(path: Path) -> re.Match[str] | None:
    """Whether a folder is one of ours: by its name, and by holding nothing but splits."""
    match = _CACHE.fullmatch(path.name)
    inside = {entry.name for entry in path.iterdir()}
    whole = match is not None and (inside == set(SPLITS) or (match["unfinished"] and inside <= set(SPLITS)))
    return match if whole else None


def _dataset(folder: Path, name: str) -> Cached:
    what = "unfinished or unreadable"
    if folder.suffix != ".tmp":
        try:
            images = [np.load(folder / split / "image.npy", mmap_mode="r", allow_pickle=False) for split in SPLITS]
            _, height, width, _ = images[0].shape
            what = f"{sum(map(len, images)):,} samples at {width:,} × {height:,}"
        except (OSError, ValueError, EOFError):
            pass
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Cached([folder], f"{name}, {what} ({folder.name})", size)


def _remove(path: Path) -> bool:
    """Removes a file, or a cache and its lock unless another process holds the lock."""
    if path.is_file():
        path.unlink()
        return True
    whole = path.with_suffix("") if path.suffix == ".tmp" else path
    lock = FileLock(f"{whole}.lock", timeout=0)
    try:
        with lock:
            # Renamed as unfinished first, so that no process takes half a cache for a whole cache.
            unfinished = whole.with_name(f"{whole.name}.tmp")
            if path != unfinished:
                shutil.rmtree(unfinished, ignore_errors=True)
                path.rename(unfinished)
            shutil.rmtree(unfinished)
            Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout:
        return False
    return True
