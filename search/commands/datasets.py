"""`parsimony datasets`: what a dataset's folder holds, which datasets there are, and what is cached of them."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from tabulate import tabulate
from tqdm import tqdm

from mtl.cache_root import default_cache_root
from mtl.datasets.base import Dataset
from mtl.datasets.cache.cached import list_cached, remove_cached
from mtl.datasets.inspect.inspection import Inspection, inspect_dataset
from mtl.datasets.own.splits import FOLDER, find_ids, split_by_seed, write_splits
from mtl.datasets.registry import GENERATED, open_dataset, recognise
from mtl.errors import BadInput
from mtl.own_modules import add_module_folders
from mtl.paths import user_path
from mtl.vocabulary.units import byte_size, percent
from search.commands.inspection_text import format_inspection
from search.display import LOG_SECONDS
from search.recipe_file import parse_assignment

DESCRIPTIONS: Mapping[str, str] = {
    "rooms": "generated: furnished rooms rendered from a seed; segmentation, depth, normals",
    "nyuv2": "NYU-Depth-v2, official .mat, NYUD_MT or MTAN; segmentation (40 or 13 classes), depth, normals",
    "celebamask_hq": "CelebAMask-HQ as published; segmentation (3 or 19 classes), the 40 attributes",
    "celeba": "CelebA's aligned images as published; the 40 attributes, landmarks",
    "cityscapes": "Cityscapes as published, or MTAN's; segmentation (19 or 7 classes), disparity, depth",
    "pascal_context": "PASCAL-Context as PASCAL_MT; segmentation, human_parts, normals, saliency, edges",
    "taskonomy": "Taskonomy by buildings; segmentation (17 classes), depth, normals, edges",
}
MOST_SEED = 2**63 - 1


def run(options: argparse.Namespace) -> int:
    """The exit status. Raises BadInput."""
    if options.action == "list":
        print(list_datasets())
    elif options.action == "split":
        folder = user_path("datasets split", options.dir)
        split_dataset(folder, options.seed, options.shares, options.images, options.by, replace=options.replace)
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
    if name is None:
        if root is None:
            raise BadInput("datasets check: neither DIR nor --dataset given; allowed: DIR, or --dataset rooms")
        name = recognise(root)
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
    found = inspect_dataset(dataset, reading_progress(sys.stderr))
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


def split_dataset(root: Path, seed: int, shares: str, images: str, by: str | None, *, replace: bool) -> None:
    """Divides the samples of a folder, writes the lists to it and prints how many are in each.

    shares, images, by, replace: as the command's options. Raises BadInput, with nothing written.
    """
    if not root.is_dir():
        raise BadInput(f"folder {root}: {'is not a directory' if root.exists() else 'does not exist'}")
    try:
        parts = [float(part) for part in shares.split(",")]
    except ValueError:
        raise BadInput(f"--shares {shares}; allowed: three numbers that sum to 1, such as 0.7,0.15,0.15") from None
    ids = split_by_seed(find_ids(root, images), seed, parts, by)
    changed = write_splits(root, ids, replace=replace)
    total = sum(map(len, ids.values()))
    for split, chosen in ids.items():
        print(f"{split:<6}{len(chosen):>8,}  {percent(len(chosen) / total):>7}")
    print(f"{root / FOLDER}: {'written' if changed else 'unchanged'}")
    print(
        f"next: self.ids = read_splits(root) in your class (mtl.datasets.own.splits), parsimony datasets check {root}"
    )


def list_datasets() -> str:
    """Every dataset by name, a line each."""
    own = "a class of your own, see mtl.datasets.file_dataset.FileDataset"
    return tabulate([*DESCRIPTIONS.items(), ("my_module:MyDataset", own)], tablefmt="plain")


def list_cache() -> str:
    """What is cached of which dataset, the largest first, and what it takes."""
    root = default_cache_root()
    cached = list_cached(root)
    if not cached:
        return f"nothing of datasets is cached in {root}"
    lines = [f"{byte_size(sum(entry.bytes for entry in cached))} in {root}"]
    return "\n".join(lines + [f"  {byte_size(entry.bytes):>8}  {entry.what}" for entry in cached])


def remove_cache() -> str:
    """Removes what `list_cache` lists, and says what it has removed."""
    root = default_cache_root()
    removed, in_use = remove_cached(root)
    lines = [f"removed {byte_size(entry.bytes)}  {entry.what}" for entry in removed]
    lines += [f"kept, as it is being built: {byte_size(entry.bytes)}  {entry.what}" for entry in in_use]
    return "\n".join([*lines, f"{byte_size(sum(entry.bytes for entry in removed))} freed in {root}"])


def reading_progress(stream: TextIO) -> Callable[[int, int], None]:
    """Tells how many samples have been read: on a terminal in a bar, in a log by a line now and then."""
    bar = tqdm(file=stream, unit=" samples", leave=False, disable=not stream.isatty())
    shown = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal shown
        bar.total = total
        bar.update(done - bar.n)
        if bar.disable and time.monotonic() - shown >= LOG_SECONDS:
            shown = time.monotonic()
            print(f"{done:,} of {total:,} samples read", file=stream, flush=True)
        if done == total:
            bar.close()

    return progress


def _draw_sheet(dataset: Dataset, path: Path, seed: int, found: Inspection) -> None:
    # Only now: matplotlib takes a moment to load, and other commands do without it.
    from mtl.datasets.inspect.contact_sheet import draw_contact_sheet

    try:
        draw_contact_sheet(dataset, path, seed)
    except BadInput as error:
        if not found.problems:  # else these are what the command ends with
            raise
        print(f"\nno contact sheet: {error}")
    else:
        print(f"\ncontact sheet: {path}")
