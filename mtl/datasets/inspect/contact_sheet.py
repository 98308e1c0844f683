"""A contact sheet: a picture of a few samples of each split with all their labels, to see that they are what they say.

`make_sheet` reads the samples and makes the panels, `draw_contact_sheet` also lays them out and writes the PNG.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt

from mtl.datasets.base import SPLITS, Dataset, Sample, Split
from mtl.datasets.cache.validity import invalidity
from mtl.datasets.inspect.panels import (
    ClassKey,
    DepthKey,
    Picture,
    class_key,
    depth_key,
    depth_picture,
    depth_shares,
    faces_viewer,
    hatch,
    image_words,
    is_unlabelled,
    normals_picture,
    round_metres,
    segmentation_picture,
    sphere,
)
from mtl.datasets.resize import resize_image, resize_target
from mtl.errors import BadInput

# All lengths are pixels of the PNG.
WIDTH = 1600
MARGIN = 24
GAP = 6
BETWEEN_SAMPLES = 28
LARGEST_PANEL = 384
SMALLEST_PANEL = 120
# The size, (height, width), at which samples are drawn that are stored at none: that of a large panel.
GENERATED_SIZE = (288, 384)
LINE = 17
_DPI = 100
_TEXT, _SMALL_TEXT = 9.0, 7.5  # points
_INK, _PALE = "#1a1a1a", "#666666"


@dataclass(frozen=True)
class Row:
    """One sample: a picture for each column of the sheet, where class names stand on it, and words on the image."""

    split: Split
    name: str
    pictures: Mapping[str, Picture]
    regions: Mapping[str, Sequence["Region"]]
    words: Sequence[str]


@dataclass(frozen=True)
class Region:
    """A class name and the pixel (x, y) of its panel in the middle of the class's largest free space."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Sheet:
    """What is drawn: `columns` are "image" and the dense tasks; `size` is the largest panel's, (height, width)."""

    title: str
    layout: str
    counts: str
    columns: Sequence[str]
    size: tuple[int, int]
    rows: Sequence[Row]
    class_keys: Mapping[str, ClassKey]
    depth_keys: Mapping[str, DepthKey]
    normals: Mapping[str, bool]  # whether their z points to the viewer
    has_unlabelled: bool


def draw_contact_sheet(dataset: Dataset, path: Path, *, per_split: int | None = None, seed: int = 0) -> Sheet:
    """Writes the contact sheet of a dataset to a PNG file; the sheet as drawn.

    `per_split` samples of each split are drawn at random by `seed`, by default as many as fill a line of the sheet and
    at least two; those that cannot be read are passed over. Raises `BadInput` where no sample can be read, or the file
    cannot be written.
    """
    sheet = make_sheet(dataset, per_split=per_split, seed=seed)
    canvas = FigureCanvasAgg(_draw(sheet))
    canvas.draw()
    # Without the canvas's opacity, which is the same everywhere, the file is an eighth smaller.
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        picture.save(unfinished, format="png")
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):  # where it could not even be begun
            unfinished.unlink()
        raise BadInput(f"contact sheet {path}: cannot be written ({error})") from error
    return sheet


def make_sheet(dataset: Dataset, *, per_split: int | None = None, seed: int = 0) -> Sheet:
    """Samples of each split, read and made into panels. Raises `BadInput` where none can be read."""
    columns = ["image", *(name for name, task in dataset.tasks.items() if task.dense)]
    count = max(2, _across(len(columns))) if per_split is None else per_split
    chosen = [
        (split, index, sample)
        for split in SPLITS
        for index, sample in _choose(dataset, split, count, np.random.default_rng([seed, SPLITS.index(split)]))
    ]
    if not chosen:
        raise BadInput(f"dataset {dataset.name}: no sample can be read, so there is nothing to draw")
    heights, widths = zip(*(sample.image.shape[:2] for _, _, sample in chosen), strict=True)
    size = _panel_size(len(columns), float(np.median(np.divide(heights, widths))))
    samples = [_resized(dataset, sample, size) for _, _, sample in chosen]
    tasks = dataset.tasks
    kinds = {name: tasks[name].kind for name in columns[1:]}
    class_keys = {
        name: class_key(tasks[name], [sample.targets[name] for sample in samples])
        for name, kind in kinds.items()
        if kind == "segmentation"
    }
    depth_keys = {
        name: depth_key([sample.targets[name] for sample in samples]) for name, kind in kinds.items() if kind == "depth"
    }
    rows = []
    for (split, index, _), sample in zip(chosen, samples, strict=True):
        pictures: dict[str, Picture] = {"image": sample.image}
        for name, kind in kinds.items():
            target = sample.targets[name]
            match kind:
                case "segmentation":
                    pictures[name] = segmentation_picture(target, class_keys[name])
                case "depth":
                    pictures[name] = depth_picture(target, depth_keys[name])
                case "normals":
                    pictures[name] = normals_picture(target)
        regions = {name: _regions(sample.targets[name], key) for name, key in class_keys.items()}
        words = image_words(tasks, sample.targets)
        rows.append(Row(split, dataset.sample_name(split, index), pictures, regions, words))
    counts = [dataset.size(split) for split in SPLITS]
    return Sheet(
        title=dataset.name,
        layout=dataset.layout,
        counts=f"{sum(counts):,} samples: "
        + " · ".join(f"{count:,} {split}" for split, count in zip(SPLITS, counts, strict=True)),
        columns=columns,
        size=size,
        rows=rows,
        class_keys=class_keys,
        depth_keys=depth_keys,
        normals={
            name: faces_viewer([sample.targets[name] for sample in samples])
            for name, kind in kinds.items()
            if kind == "normals"
        },
        has_unlabelled=any(
            is_unlabelled(tasks[name], sample.targets[name]).any() for name in columns[1:] for sample in samples
        ),
    )


def _choose(dataset: Dataset, split: Split, count: int, generator: np.random.Generator) -> list[tuple[int, Sample]]:
    """Samples that can be read, in the split's order; no more than a few times `count` are tried."""
    found: list[tuple[int, Sample]] = []
    for index in generator.permutation(dataset.size(split))[: 10 * count].tolist():
        if len(found) == count:
            break
        if not dataset.is_complete(split, index):
            continue
        try:
            sample = dataset.read_as_stored(split, index, GENERATED_SIZE)
        except Exception:  # `inspect_dataset` says what is wrong with it, whatever it is
            continue
        if invalidity(sample, dataset.tasks) is None:
            found.append((index, sample))
    return sorted(found, key=lambda item: item[0])


def _across(columns: int) -> int:
    """How many samples stand side by side: the fewest with which no panel is larger than need be."""
    return next(n for n in range(1, WIDTH) if _panel_width(columns, n) <= LARGEST_PANEL)


def _panel_width(columns: int, across: int) -> int:
    sample = (WIDTH - 2 * MARGIN - (across - 1) * BETWEEN_SAMPLES) // across
    return (sample + GAP) // columns - GAP


def _panel_size(columns: int, aspect: float) -> tuple[int, int]:
    """(height, width) of the largest panel, for images of this height / width."""
    width = max(SMALLEST_PANEL, _panel_width(columns, _across(columns)))
    return round(width * min(max(aspect, 0.4), 1.5)), width


def _resized(dataset: Dataset, sample: Sample, largest: tuple[int, int]) -> Sample:
    """As large as fits into a panel, at the image's own aspect."""
    height, width = sample.image.shape[:2]
    scale = min(largest[0] / height, largest[1] / width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    targets = {name: resize_target(dataset.tasks[name].kind, t, size) for name, t in sample.targets.items()}
    return Sample(resize_image(sample.image, size), targets)


def _regions(target: NDArray[np.uint8], key: ClassKey) -> list[Region]:
    """Where class names fit onto an (H, W) map: in the middle of the largest disc that lies within the class."""
    height, width = target.shape
    placed: list[tuple[float, float, float]] = []
    regions = []
    for name, index in zip(key.names, key.indices, strict=True):
        mask = np.pad(target == index, 1)
        if mask.sum() < 0.01 * target.size:
            continue
        room = distance_transform_edt(mask)[1:-1, 1:-1]
        half = _text_width(name, _SMALL_TEXT) / 2
        if room.max() < 10 or 2 * half > width - 4:
            continue
        row, column = divmod(int(room.argmax()), width)
        x, y = float(np.clip(column, half + 2, width - half - 2)), float(np.clip(row, 9, height - 9))
        if any(
            abs(x - other_x) < half + other_half and abs(y - other_y) < 14 for other_x, other_y, other_half in placed
        ):
            continue
        placed.append((x, y, half))
        regions.append(Region(name, x, y))
    return regions


class _Page:
    """A figure on which places are pixels from the top left."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.figure = Figure(figsize=(WIDTH / _DPI, height / _DPI), dpi=_DPI, facecolor="white")

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        place = (x / WIDTH, 1 - (y + height) / self.height, width / WIDTH, height / self.height)
        ax = self.figure.add_axes(place)
        ax.set_axis_off()
        return ax

    def picture(self, picture: Picture, x: float, y: float) -> Axes:
        height, width = picture.shape[:2]
        ax = self.axes(x, y, width, height)
        ax.imshow(picture, interpolation="nearest", aspect="auto")
        return ax

    def words(
        self, text: str, x: float, y: float, size: float = _TEXT, color: str = _INK, weight: str = "normal"
    ) -> None:
        # Names come from files: a $ in them is no mathematics.
        self.figure.text(
            x / WIDTH,
            # Lines side by side stand on one baseline, whichever letters they have.
            1 - (y + _DPI / 72 * size) / self.height,
            text,
            fontsize=size,
            color=color,
            fontweight=weight,
            va="baseline",
            parse_math=False,
        )


def _draw(sheet: Sheet) -> Figure:
    panel_height, panel_width = sheet.size
    sample_width = len(sheet.columns) * (panel_width + GAP) - GAP
    across = _across(len(sheet.columns))
    captions = {id(row): _caption(row.words, sample_width) for row in sheet.rows}
    caption_lines = max(len(lines) for lines in captions.values())
    sample_height = LINE + 3 + panel_height + caption_lines * LINE + (4 if caption_lines else 0) + 12
    bands = [(split, [row for row in sheet.rows if row.split == split]) for split in SPLITS]
    bands = [(split, rows) for split, rows in bands if rows]
    top, band_title = _heading_height(sheet), 30
    lines = sum(-(-len(rows) // across) for _, rows in bands)
    key_top = top + len(bands) * band_title + lines * sample_height + 10
    page = _Page(key_top + _key_height(sheet) + MARGIN)
    _draw_heading(page, sheet)
    y = top
    for split, rows in bands:
        page.words(split, MARGIN, y + 6, size=12, weight="bold")
        y += band_title
        for start in range(0, len(rows), across):
            for place, row in enumerate(rows[start : start + across]):
                x = MARGIN + place * (sample_width + BETWEEN_SAMPLES)
                _draw_sample(page, sheet, row, captions[id(row)], x, y)
            y += sample_height
    _draw_keys(page, sheet, key_top)
    return page.figure


def _heading_height(sheet: Sheet) -> int:
    return MARGIN + 34 + 20 * (1 + bool(sheet.layout)) + 6


def _draw_heading(page: _Page, sheet: Sheet) -> None:
    page.words(sheet.title, MARGIN, MARGIN, size=18, weight="bold")
    y = MARGIN + 34
    for line in (sheet.counts, sheet.layout):
        if line:
            page.words(_shortened(line, WIDTH - 2 * MARGIN, 10), MARGIN, y, size=10, color=_PALE)
            y += 20


def _draw_sample(page: _Page, sheet: Sheet, row: Row, caption: Sequence[str], x: float, y: float) -> None:
    panel_height, panel_width = sheet.size
    for k, column in enumerate(sheet.columns):
        left = x + k * (panel_width + GAP)
        if column == "image":
            page.words(_shortened(row.name, panel_width, weight="bold"), left, y, weight="bold")
        else:
            page.words(_shortened(column, panel_width), left, y, color=_PALE)
        ax = page.picture(row.pictures[column], left, y + LINE + 3)
        for region in row.regions.get(column, ()):
            ax.text(
                region.x,
                region.y,
                region.name,
                fontsize=_SMALL_TEXT,
                color="white",
                ha="center",
                va="center",
                parse_math=False,
                path_effects=[withStroke(linewidth=2, foreground="black")],
            )
    for number, line in enumerate(caption):
        page.words(line, x, y + LINE + 3 + panel_height + 4 + number * LINE)


def _caption(words: Sequence[str], width: float) -> list[str]:
    """The words in at most three lines; those that do not fit are counted."""
    for shown in range(len(words), -1, -1):
        rest = [f"and {len(words) - shown} more"] if shown < len(words) else []
        lines = _packed([*words[:shown], *rest], width)
        if len(lines) <= 3:
            return lines
    return []


def _packed(words: Sequence[str], width: float) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and _text_width(f"{lines[-1]} · {word}") <= width:
            lines[-1] += f" · {word}"
        else:
            lines.append(_shortened(word, width))
    return lines


def _shortened(text: str, width: float, size: float = _TEXT, weight: str = "normal") -> str:
    if _text_width(text, size, weight) <= width:
        return text
    kept = text
    while kept and _text_width(f"{kept}…", size, weight) > width:
        kept = kept[:-1]
    return f"{kept}…"


def _text_width(text: str, size: float = _TEXT, weight: str = "normal") -> float:
    """In pixels of the PNG, kerning left aside."""
    return sum(_letter_width(letter, size, weight) for letter in text)


@cache
def _letter_width(letter: str, size: float, weight: str) -> float:
    font = get_font(findfont(FontProperties(weight=weight)))
    font.set_size(size, _DPI)
    font.set_text(20 * letter)  # many, as the ends of a text are cut to its ink
    return font.get_width_height()[0] / 64 / 20


KEY_LINE = 20
_SWATCH = 13


def _class_columns(key: ClassKey) -> int:
    """How many class names stand side by side."""
    widest = max((_text_width(name) for name in key.names), default=0) + _SWATCH + 30
    return max(1, int((WIDTH - 2 * MARGIN) / widest))


def _class_lines(key: ClassKey) -> int:
    return -(-len(key.names) // _class_columns(key))


def _key_height(sheet: Sheet) -> int:
    classes = sum(KEY_LINE + _class_lines(key) * KEY_LINE + 12 for key in sheet.class_keys.values())
    return classes + (90 if sheet.depth_keys or sheet.normals or sheet.has_unlabelled else 0)


def _draw_keys(page: _Page, sheet: Sheet, y: float) -> None:
    for name, key in sheet.class_keys.items():
        page.words(f"{name}: the {len(key.names)} classes on this sheet", MARGIN, y, weight="bold")
        y += KEY_LINE
        columns = _class_columns(key)
        for place, (class_name, color) in enumerate(zip(key.names, key.colors, strict=True)):
            line, column = divmod(place, columns)
            x = MARGIN + column * (WIDTH - 2 * MARGIN) / columns
            page.picture(np.broadcast_to(color, (_SWATCH, _SWATCH, 3)), x, y + line * KEY_LINE + 1)
            page.words(class_name, x + _SWATCH + 6, y + line * KEY_LINE)
        y += _class_lines(key) * KEY_LINE + 12
    x = float(MARGIN)
    for name, depths in sheet.depth_keys.items():
        x = _draw_depth_key(page, name, depths, x, y)
    for name, to_viewer in sheet.normals.items():
        page.words(name, x, y, weight="bold")
        page.picture(sphere(56, to_viewer), x, y + KEY_LINE)
        axes = "y up, z to the viewer" if to_viewer else "y down, z from the viewer"
        for number, text in enumerate(("RGB = (n + 1) / 2;", "the ball: x to the right,", axes)):
            page.words(text, x + 66, y + KEY_LINE + number * LINE)
        x += 270
    if sheet.has_unlabelled:
        page.words("no label", x, y, weight="bold")
        page.picture(hatch(24, 48), x, y + KEY_LINE)


def _draw_depth_key(page: _Page, name: str, depths: DepthKey, x: float, y: float) -> float:
    """A colour bar with its metres; the place of what comes next."""
    width = 300
    page.words(f"{name} [m]", x, y, weight="bold")
    metres = np.geomspace(depths.nearest, depths.farthest, width, dtype=np.float32)
    page.picture(depth_picture(np.tile(metres, (18, 1)), depths), x, y + KEY_LINE)
    ticks = [depths.nearest, *round_metres(depths), depths.farthest]
    for value, share in zip(ticks, depth_shares(np.array(ticks, np.float32), depths).tolist(), strict=True):
        page.figure.text(
            (x + share * width) / WIDTH,
            1 - (y + KEY_LINE + 22) / page.height,
            f"{value:.3g}",
            fontsize=8.5,
            ha="left" if share == 0 else "right" if share == 1 else "center",
            va="top",
        )
    return x + width + 60
