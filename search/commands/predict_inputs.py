"""What `parsimony predict` is asked for: photos, the photos of folders, and videos, each with a name of its own."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Literal

from mtl.errors import BadInput
from mtl.networks.photos import read_photo

# Of a folder's files; what is named by itself may end in anything.
PHOTO_SUFFIXES = frozenset(
    (
        ".avif",
        ".bmp",
        ".gif",
        ".jfif",
        ".jp2",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    )
)
VIDEO_SUFFIXES = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"))


@dataclass(frozen=True)
class Input:
    """One photo or video. `name`: what its files begin with, which no other input's do. `of_folder`: found in one."""

    path: Path
    name: str
    kind: Literal["photo", "video"]
    of_folder: bool


@dataclass(frozen=True)
class Inputs:
    """`passed_over`: files of the folders that are no photos by their names."""

    photos: Sequence[Input]
    videos: Sequence[Input]
    passed_over: int


def find_inputs(paths: Sequence[Path]) -> Inputs:
    """The photos and videos that a user names, and those photos, sorted by name, that lie in the folders named.

    Raises BadInput, one line for all, for photos and videos named by themselves that cannot be read, and for a folder
    without photos. What lies in a folder is read later.
    """
    found: list[tuple[Path, Literal["photo", "video"], bool]] = []
    bad: list[str] = []
    passed_over = 0
    for path in paths:
        try:
            if path.is_dir():
                photos, others = _photos_of(path)
                passed_over += others
                found += [(photo, "photo", True) for photo in photos]
            elif path.suffix.lower() in VIDEO_SUFFIXES:
                if not path.is_file():
                    raise BadInput(f"file {path}: is no file; allowed: a photo, a folder of photos, or a video")
                found.append((path, "video", False))
            else:
                read_photo(path)
                found.append((path, "photo", False))
        except BadInput as error:
            bad.append(str(error))
    if bad:
        raise BadInput("; ".join(bad))
    names = distinct([path.stem for path, _, _ in found])
    inputs = [Input(path, name, kind, inside) for (path, kind, inside), name in zip(found, names, strict=True)]
    photos_, videos = ([one for one in inputs if one.kind == kind] for kind in ("photo", "video"))
    return Inputs(photos_, videos, passed_over)


def distinct(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that several share; as file names on any system, where A may be a."""
    shared = {name for name, many in Counter(map(str.casefold, names)).items() if many > 1}
    taken = {*map(str.casefold, names)}
    result = []
    for name in names:
        if name.casefold() in shared:
            name = next(one for number in count(1) if (one := f"{name}-{number}").casefold() not in taken)
            taken.add(name.casefold())
        result.append(name)
    return result


def _photos_of(folder: Path) -> tuple[list[Path], int]:
    """A folder's own photos, sorted, and how many other files it has; hidden ones are neither."""
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())
    except OSError as error:
        raise BadInput(f"folder {folder}: cannot be read ({error.strerror})") from error
    photos = [path for path in files if path.suffix.lower() in PHOTO_SUFFIXES]
    if not photos:
        known = ", ".join(sorted(PHOTO_SUFFIXES))
        raise BadInput(f"folder {folder}: has no photos; allowed: files whose names end in {known}")
    return photos, len(files) - len(photos)
