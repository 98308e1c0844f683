"""What was found in a dataset, in lines for a terminal."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from mtl.datasets.inspect.inspection import Content, Inspection, Size
from mtl.datasets.inspect.tallies import Tally
from mtl.tasks import Task
from mtl.vocabulary.units import percent

# Up to this many classes get a line each, with a share for each split.
FEW_CLASSES = 16
WIDTH = 100
INDENT = "  "


def format_inspection(found: Inspection, root: Path | None) -> str:
    """All but the problems: layout, samples, sizes, each task's labels, notes and warnings."""
    dataset = found.dataset
    contents: dict[str, Content] = {**dict(found.splits.items()), "all": found.whole}
    layout = [f"{INDENT}layout: {dataset.layout}"] if dataset.layout else []
    notes = [f"{INDENT}note: {note}" for note in dataset.notes]
    blocks = [
        [dataset.name + (f" in {root}" if root else ", generated"), *layout, *notes],
        _samples(contents),
    ]
    binary = [name for name, task in dataset.tasks.items() if task.kind == "binary"]
    for name, task in dataset.tasks.items():
        if name not in binary:
            tallies = {split: content.tallies[name] for split, content in contents.items()}
            if task.kind == "regression":
                blocks.append(_numbers(task, tallies))
            else:
                blocks.append(_classes(task, tallies) if task.classes else _measures(task, tallies))
    if binary:
        blocks.append(_binary(binary, contents))
    if found.warnings:
        blocks.append([f"warning: {warning}" for warning in found.warnings])
    return "\n\n".join("\n".join(block) for block in blocks)


def _samples(contents: Mapping[str, Content]) -> list[str]:
    """A row for each split, and for all: samples, those that could not be read, sizes as width × height."""
    whole = contents["all"]
    columns = {"split": list(contents), "samples": [f"{content.listed:,}" for content in contents.values()]}
    if whole.listed > whole.read:
        columns["not read"] = [f"{content.listed - content.read:,}" for content in contents.values()]
    for what, sizes in whole.sizes.items():
        # Targets that are stored at the size of their images need no column of their own.
        if what == "image" or sizes != whole.sizes["image"]:
            columns[f"{what}, width × height"] = [_sizes(each.sizes.get(what, {})) for each in contents.values()]
    return _table(columns)


def _sizes(counts: Mapping[Size, int]) -> str:
    """The three commonest sizes."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{w:,} × {h:,}" + (f" ({count:,})" if len(ranked) > 1 else "") for (h, w), count in ranked[:3]]
    return ", ".join(shown + ([f"{len(ranked) - 3:,} other sizes"] if len(ranked) > 3 else [])) or "–"


def _classes(task: Task, tallies: Mapping[str, Tally]) -> list[str]:
    """The share of each class, the classes without an image in a split, and how much has no label."""
    whole = tallies["all"]
    title = f"{task.name}: {len(task.classes)} classes, share of the labelled {'pixels' if task.dense else 'images'}"
    if whole.unlabelled and task.dense:
        title += f"; {percent(whole.unlabelled_share)} of all pixels have no label"
    elif whole.unlabelled:
        title += f"; {whole.unlabelled:,} {'images have' if whole.unlabelled > 1 else 'image has'} no label"
    shares = {split: tally.shares for split, tally in tallies.items()}
    lines = [title, *_ranked(task.classes, shares, whole.images)]
    for split, tally in tallies.items():
        absent = [name for name, images in zip(task.classes, tally.images, strict=True) if not images]
        if split != "all" and 0 < len(absent) < len(task.classes):
            lines.append(f"{INDENT}in no image of {split}: {', '.join(absent)}")
    return lines


def _binary(names: Sequence[str], contents: Mapping[str, Content]) -> list[str]:
    """All yes-or-no labels together: the share of yes among the labelled images."""
    tallies = {split: [content.tallies[name] for name in names] for split, content in contents.items()}
    shares = {split: np.array([tally.shares[1] for tally in every]) for split, every in tallies.items()}
    title = f"{len(names)} binary label{'s' * (len(names) > 1)}, share of yes among the labelled images"
    lines = [title, *_ranked(names, shares, np.array([tally.images[1] for tally in tallies["all"]]))]
    unlabelled = zip(names, (tally.unlabelled for tally in tallies["all"]), strict=True)
    if missing := [f"{name} {count:,}" for name, count in unlabelled if count]:
        lines.append(f"{INDENT}images without a label: {', '.join(missing)}")
    return lines


def _ranked(names: Sequence[str], shares: Mapping[str, NDArray[np.float64]], images: NDArray[np.int64]) -> list[str]:
    """Names by falling share: a line each, by split, where they are few, and else side by side."""
    order = np.argsort(-np.nan_to_num(shares["all"]), kind="stable").tolist()
    if len(names) <= FEW_CLASSES:
        by_split = {split: [percent(each[k]) for k in order] for split, each in shares.items()}
        return _table({"": [names[k] for k in order], **by_split, "images": [f"{images[k]:,}" for k in order]})
    widest = max(map(len, names))
    cells = [f"{names[k]:<{widest}} {percent(shares['all'][k]):>7}" for k in order]
    lines = -(-len(cells) // ((WIDTH - len(INDENT)) // (widest + 8 + 4) or 1))
    return [INDENT + (" " * 4).join(cells[line::lines]) for line in range(lines)]


def _measures(task: Task, tallies: Mapping[str, Tally]) -> list[str]:
    """How many pixels have a depth, a normal or an edge's label, and what these amount to."""
    columns = {"": list(tallies), "valid pixels": [percent(1 - tally.unlabelled_share) for tally in tallies.values()]}
    heading = {"depth": "metres", "normals": "unit vectors", "edges": "1 on an edge"}.get(task.kind, task.unit)
    if task.kind == "depth":
        for what in ("nearest", "median", "farthest"):
            columns[what] = [f"{getattr(t, what):.2f} m" if t.labelled else "–" for t in tallies.values()]
    elif task.kind == "disparity":
        for what, of in (("smallest", "nearest"), ("median", "median"), ("largest", "farthest")):
            columns[what] = [f"{getattr(t, of):.3g} {task.unit}" if t.labelled else "–" for t in tallies.values()]
    elif task.kind == "edges":
        columns["on an edge"] = [percent(float(tally.shares[1])) for tally in tallies.values()]
        columns["images with edges"] = [f"{tally.images[1]:,}" for tally in tallies.values()]
    else:
        means = [", ".join(f"{value + 0.0:+.2f}" for value in tally.mean) for tally in tallies.values()]
        columns["mean (x, y, z)"] = [
            f"({mean})" if tally.labelled else "–" for mean, tally in zip(means, tallies.values(), strict=True)
        ]
    return [f"{task.name}: {heading}" if heading else task.name, *_table(columns)]


def _numbers(task: Task, tallies: Mapping[str, Tally]) -> list[str]:
    """Of each number of a regression its labelled images and its range over all splits, and the means of each split."""
    whole = tallies["all"]
    places = range(task.channels)
    columns: dict[str, Sequence[str]] = {"": task.values or (task.name,)}
    columns["images"] = [f"{count:,}" for count in whole.counts]
    known = [bool(count) for count in whole.counts]
    columns["smallest"] = [f"{whole.smallest[k]:.4g}" if known[k] else "–" for k in places]
    columns["largest"] = [f"{whole.largest[k]:.4g}" if known[k] else "–" for k in places]
    for split, tally in tallies.items():
        means = [tally.total[k] / tally.counts[k] if tally.counts[k] else math.nan for k in places]
        columns[f"mean, {split}"] = ["–" if math.isnan(mean) else f"{mean:.4g}" for mean in means]
    count = f"{task.channels} numbers" if task.values else "a number"
    return [f"{task.name}: {count}{f' in {task.unit}' if task.unit else ''}", *_table(columns)]


def _table(columns: Mapping[str, Sequence[str]]) -> list[str]:
    """Columns by their titles, the first to the left and all others to the right."""
    align = ["left"] + ["right"] * (len(columns) - 1)
    text = tabulate(columns, "keys", tablefmt="plain", colalign=align, headersalign=align, disable_numparse=True)
    return [INDENT + line for line in text.splitlines()]
