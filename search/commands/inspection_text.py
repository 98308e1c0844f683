"""What was found in a dataset, in lines for a terminal."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.base import SPLITS, Split
from mtl.datasets.inspect.inspection import Inspection, Size
from mtl.datasets.inspect.tallies import DepthTally, ImageTally, NormalsTally, PixelTally

# Up to this many classes get a line each, with a share for each split.
FEW_CLASSES = 16
WIDTH = 100
INDENT = "  "


def format_inspection(found: Inspection, root: Path | None) -> str:
    """All but the problems: layout, samples, sizes, each task's labels, notes and warnings."""
    lines = [f"{found.name}" + (f" in {root}" if root else ", generated")]
    if found.layout:
        lines.append(f"{INDENT}layout: {found.layout}")
    lines += [f"{INDENT}note: {note}" for note in found.notes]
    lines += ["", *_table(_split_rows(found))]
    binary = [name for name, task in found.tasks.items() if not task.dense and not task.classes]
    for name, task in found.tasks.items():
        if name in binary:
            continue
        lines += ["", *_format_task(found, name, task.classes)]
    if binary:
        lines += ["", *_format_binary(found, binary)]
    if found.warnings:
        lines += ["", *(f"warning: {warning}" for warning in found.warnings)]
    return "\n".join(lines)


def share(value: float) -> str:
    """0.1234 -> 12.3 %; what is there but rounds to nothing is < 0.1 %."""
    if math.isnan(value):
        return "–"
    return "< 0.1 %" if 0 < value < 0.0005 else f"{100 * value:.1f} %"


def bytes_text(count: int) -> str:
    """1234567 -> 1.2 MB."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} GB"


def _split_rows(found: Inspection) -> list[list[str]]:
    """A row a split, and one for all: samples, those that could not be read, sizes as width × height."""
    unread = found.whole.listed > found.whole.read
    columns = list(found.whole.sizes)
    # Targets that are stored at the size of their images need no column of their own.
    columns = [c for c in columns if c == "image" or found.whole.sizes[c] != found.whole.sizes["image"]]
    titles = ["image, width × height", *(f"{column}, width × height" for column in columns if column != "image")]
    rows = [["split", "samples", *(["not read"] if unread else []), *(titles if columns else [])]]
    for name, content in [*found.splits.items(), ("all", found.whole)]:
        cells = [name, f"{content.listed:,}", *([f"{content.listed - content.read:,}"] if unread else [])]
        rows.append([*cells, *(_sizes(content.sizes.get(column, {})) for column in columns)])
    return rows


def _sizes(counts: Mapping[Size, int]) -> str:
    """The three commonest sizes."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(ranked) == 1:
        return _size(ranked[0][0])
    shown = [f"{_size(size)} ({count:,})" for size, count in ranked[:3]]
    return ", ".join(shown + ([f"{len(ranked) - 3:,} other sizes"] if len(ranked) > 3 else [])) or "–"


def _size(size: Size) -> str:
    return f"{size[1]:,} × {size[0]:,}"


def _format_task(found: Inspection, name: str, classes: Sequence[str]) -> list[str]:
    whole = found.whole.tallies[name]
    by_split = {split: found.splits[split].tallies[name] for split in SPLITS}
    if isinstance(whole, PixelTally | ImageTally):
        counted = {split: tally for split, tally in by_split.items() if isinstance(tally, PixelTally | ImageTally)}
        shares = {split: tally.shares for split, tally in counted.items()}
        images = {split: tally.images for split, tally in counted.items()}
        what = "pixels" if isinstance(whole, PixelTally) else "images"
        title = f"{name}: {len(classes)} classes, share of the labelled {what}{_unlabelled(whole)}"
        return [title, *_class_lines(classes, shares, whole.shares, whole.images), *_absent(classes, images)]
    rows = [["", "valid pixels", *_measures(whole)[0]]]
    for label, tally in [*by_split.items(), ("all", whole)]:
        rows.append([label, share(_valid_share(tally)), *_measures(tally)[1]])
    return [f"{name}: {'metres' if isinstance(whole, DepthTally) else 'unit vectors'}", *_table(rows)]


def _unlabelled(tally: PixelTally | ImageTally) -> str:
    if not tally.unlabelled:
        return ""
    if isinstance(tally, PixelTally):
        return f"; {share(tally.unlabelled_share)} of all pixels have no label"
    return f"; {tally.unlabelled:,} {'images have' if tally.unlabelled > 1 else 'image has'} no label"


def _valid_share(tally: object) -> float:
    return tally.valid_share if isinstance(tally, DepthTally | NormalsTally) else math.nan


def _measures(tally: object) -> tuple[list[str], list[str]]:
    """Titles and values of what is measured of depth or normals."""
    if isinstance(tally, DepthTally):
        depths = [tally.nearest, tally.median, tally.farthest]
        known = bool(tally.histogram.any())
        return ["nearest", "median", "farthest"], [f"{value:.2f} m" if known else "–" for value in depths]
    if isinstance(tally, NormalsTally):
        values = ", ".join(f"{value + 0.0:+.2f}" for value in tally.mean.tolist())
        return ["mean (x, y, z)"], [f"({values})" if tally.valid else "–"]
    return [], []


def _format_binary(found: Inspection, names: Sequence[str]) -> list[str]:
    """All yes-or-no labels together: the share of yes among the labelled images."""
    tallies = {split: [found.splits[split].tallies[name] for name in names] for split in SPLITS}
    shares = {split: np.array([_yes(tally) for tally in tallies[split]]) for split in SPLITS}
    whole = [found.whole.tallies[name] for name in names]
    images = np.array([tally.images[1] if isinstance(tally, ImageTally) else 0 for tally in whole])
    unlabelled = [tally.unlabelled if isinstance(tally, ImageTally) else 0 for tally in whole]
    lines = _class_lines(names, shares, np.array([_yes(tally) for tally in whole]), images)
    missing = [f"{name} {count:,}" for name, count in zip(names, unlabelled, strict=True) if count]
    more = [f"{INDENT}images without a label: {', '.join(missing)}"] if missing else []
    what = "label" if len(names) == 1 else "labels"
    return [f"{len(names)} binary {what}, share of yes among the labelled images", *lines, *more]


def _yes(tally: object) -> float:
    return float(tally.shares[1]) if isinstance(tally, ImageTally) else math.nan


def _class_lines(
    names: Sequence[str],
    by_split: Mapping[Split, NDArray[np.float64]],
    whole: NDArray[np.float64],
    images: NDArray[np.int64],
) -> list[str]:
    """Classes by falling share: a line each, by split, where they are few, and else side by side."""
    order = np.argsort(-np.nan_to_num(whole), kind="stable").tolist()
    if len(names) <= FEW_CLASSES:
        rows = [["", *SPLITS, "all", "images"]]
        for k in order:
            shares = [share(float(by_split[split][k])) for split in SPLITS]
            rows.append([names[k], *shares, share(float(whole[k])), f"{int(images[k]):,}"])
        return _table(rows)
    widest = max(len(name) for name in names)
    cells = [f"{names[k]:<{widest}} {share(float(whole[k])):>7}" for k in order]
    columns = max(1, (WIDTH - len(INDENT)) // (widest + 8 + 4))
    lines = -(-len(cells) // columns)
    return [INDENT + (" " * 4).join(cells[line::lines]) for line in range(lines)]


def _absent(names: Sequence[str], present: Mapping[Split, NDArray[np.int64]]) -> list[str]:
    """The classes that no image of a split has; splits that hold nothing are left out."""
    lines = []
    for split, images in present.items():
        absent = [name for name, count in zip(names, images.tolist(), strict=True) if not count]
        if absent and len(absent) < len(names):
            lines.append(f"{INDENT}in no image of {split}: {', '.join(absent)}")
    return lines


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns two blanks apart, the first to the left and all others to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        lines.append(INDENT + "  ".join(cells))
    return lines
