"""What lies in a folder: its listing, and the hashes of its files' contents, computed once and remembered."""

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from uuid import uuid4

from pydantic import TypeAdapter

from mtl.cache_root import default_cache_root
from mtl.errors import BadInput

# Reading waits for the disk, and hashing releases the interpreter, so threads are enough; for small files that are in
# memory more threads only compete for it. Each gets files in chunks, as handing over a file costs more than hashing it.
THREADS = 4
CHUNK = 64

# A file that was written this shortly before it is hashed may be written again without a new time, as file systems
# keep times in steps: 2 s on FAT, the coarsest.
COARSEST_STEP = 2 * 10**9

# What shows that a file has not been changed since it was hashed: its size in bytes, the time of its content, which
# anyone can set (unpacking an archive does), and the file system's own time (on Windows that of creation), both in
# nanoseconds.
Stamp = tuple[int, int, int]
# Files with their stamps and hashes.
Memory = dict[str, tuple[int, int, int, str]]
_MEMORY = TypeAdapter(Memory)


class Listing:
    """The files under `root`, each folder listed at most once: asking for every file by name takes far longer."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, frozenset[str]] = {}

    def names(self, folder: str) -> frozenset[str]:
        """The names of the files in a folder; none where there is no such folder."""
        if folder not in self._names:
            try:
                with os.scandir(self.root / folder) as entries:
                    self._names[folder] = frozenset(entry.name for entry in entries if entry.is_file())
            except (FileNotFoundError, NotADirectoryError):
                self._names[folder] = frozenset()
            except OSError as error:
                raise BadInput(f"folder {self.root / folder}: cannot be listed ({error.strerror})") from error
        return self._names[folder]

    def has(self, file: str) -> bool:
        """Whether a file, relative to the root with "/" between folders, was there when its folder was listed."""
        folder, _, name = file.rpartition("/")
        return name in self.names(folder)


def digests(listing: Listing, files: Sequence[str], memory: Path | None = None) -> dict[str, str]:
    """SHA-256 of each file's content, by file. Raises BadInput for a file that cannot be read.

    Hashes are remembered in `memory` (by default a folder beside the caches) for each folder on this machine, with the
    stamp of the file that they were made of, so that only files that are new or changed are read. Processes may do so
    at the same time: each writes the whole memory, the last version stays, and files that it lacks are hashed again.
    """
    folder = (default_cache_root() if memory is None else memory) / "digests"
    path = folder / f"{hashlib.sha256(str(listing.root.absolute()).encode()).hexdigest()[:16]}.json"
    known = _load(path)

    def digest_all(chunk: Sequence[str]) -> list[tuple[tuple[int, int, int, str], bool]]:
        return [_digest(f"{listing.root}/{file}", known.get(file)) for file in chunk]

    asked = list(dict.fromkeys(files))
    chunks = [asked[start : start + CHUNK] for start in range(0, len(asked), CHUNK)]
    with ThreadPoolExecutor(THREADS) as pool:
        found = dict(zip(asked, chain.from_iterable(pool.map(digest_all, chunks)), strict=True))
    new = {file: entry for file, (entry, settled) in found.items() if settled and entry != known.get(file)}
    if new:
        with suppress(OSError):  # a memory that cannot be written costs time at the next start and nothing else
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as unfinished:
                unfinished.write_bytes(_MEMORY.dump_json(known | new))
    return {file: entry[-1] for file, (entry, _) in found.items()}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write that takes the place of `path` at the end; where anything is raised, it is removed instead."""
    # A name of its own, as processes of several machines may share the folder.
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        with suppress(OSError):
            unfinished.unlink()


def _digest(path: str, known: tuple[int, int, int, str] | None) -> tuple[tuple[int, int, int, str], bool]:
    """A file's stamp and hash, and whether a later change of the file is sure to change its stamp."""
    try:
        if known and known[:3] == _stamp(os.stat(path)):
            return known, True
        read_at = time.time_ns()
        digest, stamp = _hash(path)
    except OSError as error:
        raise BadInput(f"file {path}: cannot be read ({error.strerror})") from error
    return (*stamp, digest), max(stamp[1:]) < read_at - COARSEST_STEP


def _hash(path: str) -> tuple[str, Stamp]:
    """The hash of a file's content, and its stamp before it was read."""
    with open(path, "rb", buffering=0) as stream:
        stamp = _stamp(os.fstat(stream.fileno()))
        return hashlib.file_digest(stream, "sha256").hexdigest(), stamp


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _load(path: Path) -> Memory:
    """What was remembered; nothing where there is no such file, or where any of it is not as we write it."""
    try:
        return _MEMORY.validate_json(path.read_bytes(), strict=True)
    except (OSError, ValueError):
        return {}
