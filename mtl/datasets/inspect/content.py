"""What lies in a folder: its listing, and the hashes of its files' contents, computed once and remembered."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

from mtl.cache_root import default_cache_root
from mtl.errors import BadInput

# Reading waits for the disk, and hashing lets go of the interpreter, so threads are enough; of small files that are in
# memory more threads only fight over it. They get files in chunks, as handing over one costs more than hashing it.
THREADS = 4
CHUNK = 64

# A file that was written this shortly before it is hashed may be written again without a new time, as file systems
# keep times in steps: 2 s on FAT, the coarsest.
COARSEST_STEP = 2 * 10**9

# Larger files are hashed piece by piece, so that no thread holds one whole.
WHOLE_BYTES = 2**20

Out = TypeVar("Out")


@dataclass(frozen=True)
class Stamp:
    """What tells that a file has not been changed since it was hashed: its size in bytes, and two times in nanoseconds.

    `modified` is the content's and can be set by anyone (unpacking an archive does); `changed` is the file system's
    own on Unix, and on Windows the time of creation.
    """

    size: int
    modified: int
    changed: int


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

    def folder(self, name: str) -> Mapping[str, Stamp]:
        """The files in a folder by their names, in no order; empty where there is no such folder."""
        stamps = {file: self.stamp(f"{name}/{file}" if name else file) for file in self.names(name)}
        return {file: stamp for file, stamp in stamps.items() if stamp is not None}

    def has(self, file: str) -> bool:
        """Whether a file, relative to the root with "/" between folders, was there when its folder was listed."""
        folder, _, name = file.rpartition("/")
        return name in self.names(folder)

    def stamp(self, file: str) -> Stamp | None:
        """The stamp of a file as it is now, None where it cannot be had."""
        try:
            return _stamp(os.stat(f"{self.root}/{file}"))
        except OSError:
            return None


def digests(listing: Listing, files: Sequence[str], memory: Path | None = None) -> dict[str, str]:
    """SHA-256 of each file's content, by file. Raises BadInput for one that cannot be read.

    Hashes are remembered in `memory` (by default a folder beside the caches) for each folder on this machine, with the
    stamp of the file that they were made of, so that only files that are new or changed are read. Processes may do so
    at the same time: each writes the whole memory, the last one's stays, and what it lacks is hashed again when needed.
    """
    folder = (default_cache_root() if memory is None else memory) / "digests"
    path = folder / f"{hashlib.sha256(str(listing.root.absolute()).encode()).hexdigest()[:16]}.json"
    known = _load(path)
    asked = list(dict.fromkeys(files))
    with ThreadPoolExecutor(THREADS) as pool:
        stamps = _map(pool, listing.stamp, asked)
        found = {
            file: known[file][1]
            for file, stamp in zip(asked, stamps, strict=True)
            if file in known and known[file][0] == stamp
        }
        new = [file for file in asked if file not in found]
        hashed = dict(zip(new, _map(pool, lambda file: _hash(f"{listing.root}/{file}"), new), strict=True))
    settled = {file: entry for file, entry in hashed.items() if _is_settled(entry)}
    if settled:
        _save(path, known | {file: (entry.stamp, entry.digest) for file, entry in settled.items()})
    return {file: found[file] if file in found else hashed[file].digest for file in asked}


@dataclass(frozen=True)
class _Hashed:
    """A file's hash, its stamp before it was read, and when that was, in nanoseconds by this machine's clock."""

    digest: str
    stamp: Stamp
    read_at: int


def _hash(path: str) -> _Hashed:
    read_at = time.time_ns()
    try:
        with open(path, "rb", buffering=0) as stream:
            stamp = _stamp(os.fstat(stream.fileno()))
            if stamp.size > WHOLE_BYTES:
                digest = hashlib.file_digest(stream, "sha256")
            else:
                digest = hashlib.sha256(stream.read())
    except OSError as error:
        raise BadInput(f"file {path}: cannot be read ({error.strerror})") from error
    return _Hashed(digest.hexdigest(), stamp, read_at)


def _is_settled(entry: _Hashed) -> bool:
    """Whether a later change of the file is sure to change its stamp."""
    return max(entry.stamp.modified, entry.stamp.changed) < entry.read_at - COARSEST_STEP


def _map(pool: ThreadPoolExecutor, function: Callable[[str], Out], files: Sequence[str]) -> list[Out]:
    """`function` of each file, in order, computed by the pool's threads."""
    chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    return list(chain.from_iterable(pool.map(lambda chunk: [function(file) for file in chunk], chunks)))


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _load(path: Path) -> dict[str, tuple[Stamp, str]]:
    """What was remembered; nothing where there is no such file, or where any of it is not as we write it."""
    try:
        content = json.loads(path.read_bytes())
        return {file: (Stamp(*numbers), _text(digest)) for file, (*numbers, digest) in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _save(path: Path, content: Mapping[str, tuple[Stamp, str]]) -> None:
    """Remember; a memory that cannot be written costs time at the next start and nothing else."""
    rows = {file: [stamp.size, stamp.modified, stamp.changed, digest] for file, (stamp, digest) in content.items()}
    text = json.dumps(rows)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own, as processes of several machines may share the folder.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as stream:
            unfinished = Path(stream.name)
            try:
                stream.write(text)
                stream.close()
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
    except OSError:
        pass
