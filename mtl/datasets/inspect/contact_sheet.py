"""A contact sheet: a picture of a few samples of each split with all their labels, to check by eye that they are right.

`make_sheet` reads the samples and makes the panels, `draw_contact_sheet` also lays them out and writes the PNG.
"""

import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.ndimage import distance_transform_edt

from mtl.datasets.base import SPLITS, Dataset, Sample, Split
from mtl.datasets.cache.validity import invalidity
from mtl.datasets.file_dataset import at_size
from mtl.datasets.inspect.content import replacing
from mtl.datasets.inspect.panels import (
    AXES,
    ClassKey,
    DepthKey,
    DisparityKey,
    EdgeKey,
    Key,
    Picture,
    depth_picture,
    depth_shares,
    edges_picture,
    hatch,
    image_words,
    is_unlabelled,
    panel,
    panel_key,
    round_metres,
    sphere,
)
from mtl.errors import BadInput

# All lengths are pixels of the PNG.
MARGIN = 18
WIDTH = 1600 - 2 * MARGIN
LARGEST_PANEL = 400
GAP = 6
BETWEEN_SAMPLES = 28
LINE = 17
# The size, (height, width), at which samples are drawn that are generated and so have no stored size.
GENERATED_SIZE = (288, 384)
CAPTION_LINES = 3
_DPI = 100
_SMALL = 7.5  # points, as are all sizes of text
_INK, _PALE = "#1a1a1a", "#666666"
_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "text.color": _INK,
    "text.parse_math": False,
}  # names come from files: a $ is no formula


@dataclass(frozen=True)
class Region:
    """A class name and the pixel (x, y) of its panel in the middle of the class's largest free space."""

    name: str
    x: float
    y: float


@dataclass(frozen=True)
class Row:
    """One sample: a picture for each column of the sheet, where class names stand on it, and the image's labels."""

    split: Split
    name: str
    pictures: Mapping[str, Picture]
    regions: Mapping[str, Sequence[Region]]
    caption: str


@dataclass(frozen=True)
class Sheet:
    """What is drawn: `columns` are "image" and the dense tasks; `size` is the largest panel's, (height, width)."""

    title: str
    layout: str
    counts: str
    columns: Sequence[str]
    size: tuple[int, int]
    rows: Sequence[Row]
    keys: Mapping[str, Key]
    has_unlabelled: bool


def draw_contact_sheet(dataset: Dataset, path: Path, seed: int = 0) -> Sheet:
    """Writes the contact sheet of a dataset to a PNG file; the sheet as drawn.

    As many samples of each split as fill a line of the sheet, and at least two, are drawn at random by `seed`; those
    that cannot be read are passed over. Raises `BadInput` where no sample can be read, or the file cannot be written.
    """
    sheet = make_sheet(dataset, seed)
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of dozens of dense tasks, for which there is no room
        canvas = FigureCanvasAgg(_draw(sheet))
        canvas.draw()
    # Without the canvas's opacity, which is the same everywhere, the file is an eighth smaller.
    picture = ImageOps.expand(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]), MARGIN, "white")
    try:
        with replacing(path) as unfinished:
            picture.save(unfinished, format="png")
    except OSError as error:
        raise BadInput(f"contact sheet {path}: cannot be written ({error})") from error
    return sheet


def make_sheet(dataset: Dataset, seed: int = 0) -> Sheet:
    """Samples of each split, read and made into panels. Raises `BadInput` where none can be read."""
    tasks = {name: task for name, task in dataset.tasks.items() if task.dense}
    columns = ["image", *tasks]
    count = max(2, _across(columns))
    chosen = [
        (split, index, sample)
        for split in SPLITS
        for index, sample in sorted(islice(_readable(dataset, split, count, seed), count), key=lambda found: found[0])
    ]
    if not chosen:
        raise BadInput(f"dataset {dataset.name}: no sample can be read, so there is nothing to draw")
    aspect = float(np.median([sample.image.shape[0] / sample.image.shape[1] for _, _, sample in chosen]))
    width = max(8, _sample_width(columns) // len(columns) - GAP)
    size = round(width * float(np.clip(aspect, 0.4, 1.5))), width
    samples = [_fitted(dataset, sample, size) for _, _, sample in chosen]
    targets = {name: [sample.targets[name] for sample in samples] for name in tasks}
    keys = {name: panel_key(task, targets[name]) for name, task in tasks.items()}
    rows = []
    for (split, index, _), sample in zip(chosen, samples, strict=True):
        panels = {name: panel(sample.targets[name], key) for name, key in keys.items()}
        regions = {n: _regions(sample.targets[n], key) for n, key in keys.items() if isinstance(key, ClassKey)}
        caption = _caption(image_words(dataset.tasks, sample.targets), _sample_width(columns))
        rows.append(Row(split, dataset.sample_name(split, index), {"image": sample.image, **panels}, regions, caption))
    counts = {split: dataset.size(split) for split in SPLITS}
    return Sheet(
        title=dataset.name,
        layout=dataset.layout,
        counts=f"{sum(counts.values()):,} samples: " + " · ".join(f"{n:,} {split}" for split, n in counts.items()),
        columns=columns,
        size=size,
        rows=rows,
        keys=keys,
        has_unlabelled=any(is_unlabelled(task, target).any() for n, task in tasks.items() for target in targets[n]),
    )


def _readable(dataset: Dataset, split: Split, count: int, seed: int) -> Iterator[tuple[int, Sample]]:
    """Samples that can be read, in an order drawn by the seed; no more than a few times `count` are tried."""
    generator = np.random.default_rng([seed, SPLITS.index(split)])
    for index in generator.permutation(dataset.size(split))[: 10 * count].tolist():
        # `inspect_dataset` says what is wrong with a sample that cannot be read, whatever it is.
        with suppress(Exception):
            if dataset.is_complete(split, index):
                sample = dataset.read_as_stored(split, index, GENERATED_SIZE)
                if invalidity(sample, dataset.tasks) is None:
                    yield index, sample


def _across(columns: Sequence[str]) -> int:
    """How many samples stand side by side: the fewest with which no panel is larger than need be."""
    return -(-WIDTH // (len(columns) * LARGEST_PANEL))


def _sample_width(columns: Sequence[str]) -> int:
    across = _across(columns)
    return (WIDTH - (across - 1) * BETWEEN_SAMPLES) // across


def _fitted(dataset: Dataset, sample: Sample, largest: tuple[int, int]) -> Sample:
    """As large as fits into a panel, at the image's own aspect."""
    height, width = sample.image.shape[:2]
    scale = min(largest[0] / height, largest[1] / width)
    return at_size(sample, dataset.tasks, (max(1, round(height * scale)), max(1, round(width * scale))))


def _regions(target: NDArray[np.uint8], key: ClassKey) -> list[Region]:
    """Where class names fit onto an (H, W) map: in the middle of the largest disc that lies within the class."""
    height, width = target.shape
    regions: list[Region] = []
    for name, index in zip(key.names, key.indices, strict=True):
        mask = np.pad(target == index, 1)
        room = distance_transform_edt(mask)[1:-1, 1:-1]
        half = _text_width(name, _SMALL) / 2 + 2
        if mask.sum() < 0.01 * target.size or room.max() < 10 or 2 * half > width:
            continue
        row, column = divmod(int(room.argmax()), width)
        x, y = float(np.clip(column, half, width - half)), float(np.clip(row, 9, height - 9))
        if all(abs(x - r.x) > half + _text_width(r.name, _SMALL) / 2 or abs(y - r.y) > 14 for r in regions):
            regions.append(Region(name, x, y))
    return regions


def _draw(sheet: Sheet) -> Figure:
    """The heading, a band of lines of samples for each split, and the keys, one below the other."""
    across = _across(sheet.columns)
    bands = {split: [row for row in sheet.rows if row.split == split] for split in SPLITS}
    lines = {split: -(-len(rows) // across) for split, rows in bands.items() if rows}
    deepest = max(len(row.caption.splitlines()) for row in sheet.rows)
    line = sheet.size[0] + (deepest + 1) * LINE + 2 * GAP
    class_keys = {name: key for name, key in sheet.keys.items() if isinstance(key, ClassKey)}
    columns = {name: _legend_columns(key) for name, key in class_keys.items()}
    heights = [50 + LINE * (1 + bool(sheet.layout)), *(30 + line * count for count in lines.values())]
    heights += [2 * LINE + 22 * -(-len(key.names) // columns[name]) for name, key in class_keys.items()]
    heights += [90] * (len(sheet.keys) > len(class_keys) or sheet.has_unlabelled)
    pad = GAP / 2 / _DPI
    layout = ConstrainedLayoutEngine(w_pad=pad, h_pad=pad, wspace=0, hspace=0)
    figure = Figure((WIDTH / _DPI, sum(heights) / _DPI), dpi=_DPI, layout=layout)
    parts: Iterator[SubFigure] = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False).flat
    _draw_heading(next(parts), sheet)
    for split, count in lines.items():
        band = next(parts)
        band.suptitle(split, x=0, ha="left", size=12, weight="bold")
        between = BETWEEN_SAMPLES / _sample_width(sheet.columns)
        cells = band.subfigures(count, across, squeeze=False, wspace=between).flat
        for row in bands[split]:
            _draw_sample(next(cells), sheet, row, deepest)
    for name, key in class_keys.items():
        next(parts).legend(
            handles=[Patch(color=color / 255, label=label) for color, label in zip(key.colors, key.names, strict=True)],
            title=f"{name}: the {len(key.names)} classes on this sheet",
            title_fontproperties={"weight": "bold"},
            alignment="left",
            loc="upper left",
            borderpad=0,
            ncols=columns[name],
            handlelength=1.2,
            handleheight=1.2,
            frameon=False,
        )
    for part in parts:
        _draw_keys(part, sheet)
    return figure


def _draw_heading(part: SubFigure, sheet: Sheet) -> None:
    part.text(0, 1, sheet.title, size=18, weight="bold", va="top")
    lines = "\n".join([sheet.counts, _shortened(sheet.layout, WIDTH, 10)]).strip()
    part.text(0, 0.1, lines, size=10, color=_PALE, va="bottom")


def _draw_sample(part: SubFigure, sheet: Sheet, row: Row, caption_lines: int) -> None:
    for ax, column in zip(part.subplots(1, len(sheet.columns), squeeze=False).flat, sheet.columns, strict=True):
        picture, most = row.pictures[column], sheet.size[1]
        if column == "image":
            _show(ax, picture, _shortened(row.name, most, weight="bold"), picture.shape[1])
        else:
            _show(ax, picture, _shortened(column, most), picture.shape[1], weight="normal", color=_PALE)
        for region in row.regions.get(column, ()):
            outline = [withStroke(linewidth=2, foreground="black")]
            place = {"ha": "center", "va": "center", "path_effects": outline}
            ax.text(region.x, region.y, region.name, size=_SMALL, color="white", **place)
    if caption_lines:
        # As many lines below each sample, so that all panels are of one size.
        missing = caption_lines - len(row.caption.splitlines())
        part.supxlabel(row.caption + "\n " * missing, x=0, ha="left", size=9)


def _caption(words: Sequence[str], width: float) -> str:
    """The words in a few lines; those that do not fit are counted."""
    text = "".join(words)
    letters = max(1, int(0.93 * width * len(text) / _text_width(text))) if words else 1
    for shown in range(len(words), -1, -1):
        rest = [f"and {len(words) - shown} more"] if shown < len(words) else []
        # A line does not begin with a dot.
        lines = textwrap.wrap("\N{NO-BREAK SPACE}· ".join([*words[:shown], *rest]), letters)
        if len(lines) <= CAPTION_LINES:
            break
    return "\n".join(lines)


def _legend_columns(key: ClassKey) -> int:
    return max(1, int(WIDTH / (max(map(_text_width, key.names), default=0) + 50)))


def _draw_keys(part: SubFigure, sheet: Sheet) -> None:
    """The colours of depth and of normals, and the mark of what has no label, from left to right."""
    keys = {name: key for name, key in sheet.keys.items() if not isinstance(key, ClassKey)}
    widths = [350 if isinstance(key, DepthKey) else 280 for key in keys.values()] + [120] * sheet.has_unlabelled
    widths = [*widths, max(1, WIDTH - sum(widths))]
    axes: Iterator[Axes] = part.subplots(1, len(widths), width_ratios=widths, squeeze=False).flat
    for name, key in keys.items():
        ax = next(axes)
        if isinstance(key, DepthKey):
            metres = np.geomspace(key.nearest, key.farthest, 300, dtype=np.float32)
            unit = key.unit if isinstance(key, DisparityKey) else "m"
            title = f"{name} [{unit}]" if unit else name
            _show(ax, depth_picture(np.tile(metres, (18, 1)), key), title, 350)
            ticks = [key.nearest, *round_metres(key), key.farthest]
            for value, share in zip(ticks, depth_shares(np.array(ticks, np.float32), key).tolist(), strict=True):
                ax.text(300 * share, 22, f"{value:.3g}", ha={0: "left", 1: "right"}.get(share, "center"), va="top")
        elif isinstance(key, EdgeKey):
            _show(ax, edges_picture(np.ones((24, 48), np.float32)), f"{name}: an edge", 280)
        else:
            _show(ax, sphere(56, key), name, 280)
            right, *others = AXES[key]
            ax.text(66, 0, f"RGB = (n + 1) / 2;\nthe ball: {right},\n{', '.join(others)}", va="top")
    if sheet.has_unlabelled:
        _show(next(axes), hatch(24, 48), "no label", 120)
    next(axes).set_axis_off()


def _show(ax: Axes, picture: Picture, title: str, width: float, **style: Any) -> None:
    """A picture at the top left of its place, which is so many of the picture's pixels wide."""
    ax.imshow(picture)
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_axis_off()
    ax.set_anchor("NW")
    ax.set_title(title, loc="left", size=9, **{"weight": "bold", **style})


def _shortened(text: str, width: float, size: float = 9, weight: str = "normal") -> str:
    wide = _text_width(text, size, weight)
    return text if wide <= width else text[: int(len(text) * width / wide) - 1] + "…"


def _text_width(text: str, size: float = 9, weight: str = "normal") -> float:
    font = FontProperties(size=size, weight=weight)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] * _DPI / 72
