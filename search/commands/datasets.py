"""`parsimony datasets`: what a dataset's folder holds, which datasets there are, and what is cached of them."""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from mtl.cache_root import default_cache_root
from mtl.datasets.base import Dataset
from mtl.datasets.cache.cached import Cached, hash_files, list_cached, remove_cached
from mtl.datasets.inspect.inspection import Inspection, inspect_dataset
from mtl.datasets.registry import GENERATED, PUBLISHED, add_module_folders, open_dataset, recognise
from mtl.errors import BadInput
from mtl.paths import user_path
from search.commands.inspection_text import bytes_text, format_inspection
from search.progress import LOG_SECONDS, TERMINAL_SECONDS
from search.recipe_file import parse_assignment

DESCRIPTIONS: Mapping[str, str] = {
    "rooms": "generated: furnished rooms rendered from a seed; segmentation, depth, normals",
    "nyuv2": "NYU-Depth-v2, official .mat, NYUD_MT or MTAN; segmentation (40 or 13 classes), depth, normals",
    "celebamask_hq": "CelebAMask-HQ as published; segmentation (background, skin, hair), the 40 attributes",
}
OWN = "my_module:MyDataset"
MOST_SEED = 2**63 - 1


def run(options: argparse.Namespace) -> int:
    """The exit status. Raises BadInput."""
    if options.action == "list":
        print(list_datasets())
    elif options.action == "cache":
        print(remove_cache() if options.remove else list_cache())
    else:
        if not 0 <= options.seed <= MOST_SEED:
            raise BadInput(f"--seed {options.seed}; allowed: 0 or more, less than 2**63")
        root = None if options.dir is None else user_path("datasets check", options.dir)
        sheet = None if options.sheet is None else user_path("--sheet", options.sheet)
        check_dataset(root, options.dataset, options.option, sheet, options.seed)
    return 0


def check_dataset(
    root: Path | None, name: str | None, options: Sequence[str] = (), sheet: Path | None = None, seed: int = 0
) -> None:
    """Prints what a dataset holds and draws its contact sheet; problems go to standard error, one line each.

    name: as `mtl.datasets.registry.load_dataset` takes it, by default what is recognised in the folder `root`.
    options: KEY=VALUE, keyword arguments of the dataset's class.
    sheet: the PNG to write, by default NAME-contact-sheet.png in the working folder; `seed` chooses its samples.

    Raises `BadInput` where the dataset has problems, and what `recognise` and `open_dataset` raise.
    """
    name = name or _recognise(root)
    if name in GENERATED and root is not None:
        raise BadInput(f"dataset {name}: is generated, found the folder {root}; allowed: no folder")
    if name not in GENERATED and root is None:
        raise BadInput(f"dataset {name}: no folder given; allowed: parsimony datasets check DIR --dataset {name}")
    if sheet and not sheet.parent.is_dir():
        raise BadInput(f"--sheet {sheet}: no folder {sheet.parent}; allowed: a file in a folder that is there")
    if sheet and sheet.exists() and not sheet.is_file():
        what = "a folder" if sheet.is_dir() else "a device or a pipe"
        raise BadInput(f"--sheet {sheet}: is {what}; allowed: a file")
    add_module_folders([Path.cwd()])
    dataset = open_dataset(name, root, dict(parse_assignment("--option", text, "KEY=3") for text in options))
    progress = ReadingProgress()
    found = inspect_dataset(dataset, progress)
    progress.end()
    # Before anything is drawn, which may fail where most samples cannot be read.
    for problem in found.problems:
        print(f"problem: {problem}", file=sys.stderr)
    print(format_inspection(found, root))
    if found.whole.read:
        _draw_sheet(dataset, sheet or Path(f"{dataset.name}-contact-sheet.png"), seed, found)
    sys.stdout.flush()
    if found.problems:
        count = len(found.problems)
        where = f" in {root}" if root else ""
        raise BadInput(f"dataset {name}: {count:,} problem{'s' * (count > 1)}{where}, the first: {found.problems[0]}")
    if not found.whole.listed:
        raise BadInput(f"dataset {name}: has no samples; allowed: at least one")
    count = len(found.warnings)
    print("no problems found" + (f", {count:,} warning{'s' * (count > 1)}" if count else ""))


def list_datasets() -> str:
    """Every dataset by name, a line each."""
    known = [*GENERATED, *PUBLISHED]
    width = max(len(name) for name in [*known, OWN]) + 2
    lines = [f"{name:<{width}}{DESCRIPTIONS[name]}" for name in known]
    return "\n".join([*lines, f"{OWN:<{width}}a class of your own, see mtl.datasets.file_dataset.FileDataset"])


def list_cache() -> str:
    """What is cached of which dataset, the largest first, and what it takes."""
    root = default_cache_root()
    cached, hashes = list_cached(root), hash_files(root)
    if not cached and not hashes:
        return f"nothing of datasets is cached in {root}"
    total = sum(entry.bytes for entry in cached) + sum(path.stat().st_size for path in hashes)
    lines = [f"{bytes_text(total)} in {root}"]
    lines += [_cached_line(entry) for entry in sorted(cached, key=lambda entry: -entry.bytes)]
    if hashes:
        size = sum(path.stat().st_size for path in hashes)
        lines.append(f"  {bytes_text(size):>8}  content hashes of {_folders(len(hashes))}")
    return "\n".join(lines)


def remove_cache() -> str:
    """Removes what `list_cache` lists, and says what it has removed."""
    root = default_cache_root()
    done = remove_cached(root)
    lines = [f"removed {_cached_line(entry).strip()}" for entry in done.removed]
    if done.hash_files:
        lines.append(f"removed content hashes of {_folders(done.hash_files)}")
    lines += [f"kept, as it is being built: {_cached_line(entry).strip()}" for entry in done.in_use]
    return "\n".join([*lines, f"{bytes_text(done.bytes)} freed in {root}"])


class ReadingProgress:
    """How many samples have been read: on a terminal one line that is written over, in a log a line now and then."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._shown = time.monotonic()
        self._width = 0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._shown < (TERMINAL_SECONDS if self._terminal else LOG_SECONDS):
            return
        self._shown = now
        line = f"{done:,} of {total:,} samples read"
        self._stream.write(f"\r{line.ljust(self._width)}" if self._terminal else f"{line}\n")
        self._stream.flush()
        self._width = len(line)

    def end(self) -> None:
        """Clears the terminal's line."""
        if self._width and self._terminal:
            self._stream.write(f"\r{' ' * self._width}\r")
            self._stream.flush()


def _draw_sheet(dataset: Dataset, path: Path, seed: int, found: Inspection) -> None:
    # Only now: matplotlib takes a moment to load, and other commands do without it.
    from mtl.datasets.inspect.contact_sheet import draw_contact_sheet

    try:
        draw_contact_sheet(dataset, path, seed=seed)
    except BadInput as error:
        if not found.problems:  # else these are what the command ends with
            raise
        print(f"\nno contact sheet: {error}")
    else:
        print(f"\ncontact sheet: {path}")


def _recognise(root: Path | None) -> str:
    if root is None:
        raise BadInput("datasets check: neither DIR nor --dataset given; allowed: DIR, or --dataset rooms")
    return recognise(root)


def _cached_line(entry: Cached) -> str:
    if entry.image_size is None:
        what = "unfinished or unreadable"
    else:
        height, width = entry.image_size
        what = f"{entry.samples:,} samples at {width:,} × {height:,}"
    return f"  {bytes_text(entry.bytes):>8}  {entry.dataset}, {what} ({entry.folder.name})"


def _folders(count: int) -> str:
    return f"{count:,} dataset folder{'s' * (count > 1)}"
