"""What lies in a folder: its listing, and the hashes of its files' contents, computed once and remembered."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mtl.cache_root import default_cache_root
from mtl.errors import BadInput

# Reading waits for the disk, and hashing lets go of the interpreter: threads are enough.
THREADS = 8


@dataclass(frozen=True)
class Stamp:
    """What tells that a file has not been changed since it was hashed: size in bytes, and time in nanoseconds."""

    size: int
    modified: int


class Listing:
    """The files under `root`, each folder listed at most once: asking for every file by name takes far longer."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[str, Mapping[str, Stamp]] = {}

    def folder(self, name: str) -> Mapping[str, Stamp]:
        """The files in a folder by their names, in no order; empty where there is no such folder."""
        if name not in self._folders:
            try:
                with os.scandir(self.root / name) as entries:
                    self._folders[name] = {e.name: _stamp(e.stat()) for e in entries if e.is_file()}
            except (FileNotFoundError, NotADirectoryError):
                self._folders[name] = {}
            except OSError as error:
                raise BadInput(f"folder {self.root / name}: cannot be listed ({error})") from error
        return self._folders[name]

    def has(self, file: str) -> bool:
        """Whether a file, relative to the root with "/" between folders, is there."""
        return self.stamp(file) is not None

    def stamp(self, file: str) -> Stamp | None:
        folder, _, name = file.rpartition("/")
        return self.folder(folder).get(name)


def digests(listing: Listing, files: Sequence[str], memory: Path | None = None) -> dict[str, str]:
    """SHA-256 of each file's content, by file. Raises BadInput for one that cannot be read.

    Hashes are remembered in `memory` (by default a folder beside the caches) for each folder on this machine, with the
    size and time of the file that they were made of, so that only files that are new or changed are read.
    """
    folder = (default_cache_root() if memory is None else memory) / "digests"
    path = folder / f"{hashlib.sha256(str(listing.root.absolute()).encode()).hexdigest()[:16]}.json"
    known = _load(path)
    stamps = {file: listing.stamp(file) for file in files}
    found: dict[str, str] = {}
    for file, stamp in stamps.items():
        entry = known.get(file)
        if stamp is not None and entry is not None and entry[:2] == [stamp.size, stamp.modified]:
            found[file] = entry[2]
    unknown = [file for file in files if file not in found]
    if unknown:
        with ThreadPoolExecutor(THREADS) as pool:
            found |= zip(unknown, pool.map(lambda file: _digest(listing.root / file), unknown), strict=True)
        _save(path, {k: [s.size, s.modified, found[k]] for k, s in stamps.items() if s is not None})
    return {file: found[file] for file in files}


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, status.st_mtime_ns)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BadInput(f"file {path}: cannot be read ({error})") from error


def _load(path: Path) -> dict[str, list]:
    """What was remembered; nothing where there is no such file, or where it is not one of ours."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _save(path: Path, content: Mapping[str, list]) -> None:
    """Remember; a memory that cannot be written costs time at the next start and nothing else."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        unfinished.write_text(json.dumps(content))
        unfinished.replace(path)
    except OSError:
        pass
