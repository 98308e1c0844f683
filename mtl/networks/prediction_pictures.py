"""Predictions as pictures: a map or the photo, pixel for pixel, and below it a key to its colours.

The colours are those of the contact sheets (`mtl.datasets.inspect.panels`): a class, a depth or a direction looks the
same there and here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mtl.datasets.inspect.panels import (
    AXES,
    ClassKey,
    DepthKey,
    DisparityKey,
    EdgeKey,
    Key,
    Picture,
    depth_key,
    depth_picture,
    depth_shares,
    edges_picture,
    faces_viewer,
    fixed_class_key,
    panel,
    round_metres,
    sphere,
)
from mtl.tasks import Task
from mtl.vocabulary.units import percent

# All lengths are pixels of a picture of up to `UNSCALED` pixels' width; the keys of wider ones are larger.
UNSCALED = 640
MARGIN = 8
LINE = 18
SWATCH = 12
BALL = 54
TEXT = 12
BAR = 90
NEAREST = 0.01  # smaller and negative depths are drawn as this
LIKELIEST = 5  # classes of a classification that are shown
INK, PALE, FILLED = "#1a1a1a", "#e4e4e4", "#0072B2"


@dataclass(frozen=True)
class Legend:
    """What the colours of one or more maps of a task mean. `named`: of a segmentation, the classes that are named."""

    key: Key
    named: Sequence[int]


def legend_of(task: Task, maps: Sequence[NDArray]) -> Legend:
    """One for all these maps (H, W[, 3]) of a dense task.

    Segmentations name the classes that occur, the largest first; depth runs from the nearest, dark, to the farthest;
    disparity from the farthest, dark; edges from white to black, as they are likely; normals n are the colours
    (n + 1) / 2.
    """
    match task.kind:
        case "segmentation":
            pixels = np.sum([np.bincount(one.ravel(), minlength=len(task.classes)) for one in maps], axis=0)
            named = [int(k) for k in np.argsort(-pixels, kind="stable") if pixels[k]]
            return Legend(fixed_class_key(task), named)
        case "edges":
            return Legend(EdgeKey(), ())
        case "depth":
            return Legend(depth_key([np.maximum(one, np.float32(NEAREST)) for one in maps]), ())
        case "disparity":
            # What is farthest has no disparity, and a logarithm of none.
            least = np.float32(max(1e-3 * max(float(one.max()) for one in maps), 1e-6))
            ends = depth_key([np.maximum(one, least) for one in maps])
            return Legend(DisparityKey(ends.nearest, ends.farthest, task.unit), ())
        case _:
            return Legend(faces_viewer(maps), ())


def map_colors(task: Task, predicted: NDArray, legend: Legend) -> Picture:
    """A map (H, W[, 3]) as (H, W, 3), without a key."""
    if isinstance(legend.key, EdgeKey):
        return edges_picture(predicted)
    least = {"depth": NEAREST, "disparity": getattr(legend.key, "nearest", NEAREST)}.get(task.kind)
    return panel(predicted if least is None else np.maximum(predicted, np.float32(least)), legend.key)


def map_picture(task: Task, predicted: NDArray, depth_unit: str) -> Picture:
    """A dense task's predicted map (H, W[, 3]) at the top left, and below it what its colours mean."""
    legend = legend_of(task, [predicted])
    return above(map_colors(task, predicted, legend), key_strip(legend, predicted.shape[1], depth_unit))


def overlay_colors(photo: NDArray[np.uint8], predicted: NDArray[np.uint8], legend: Legend, strength: float) -> Picture:
    """The photo (H, W, 3) with a segmentation's colours over it.

    strength: the share of the colours, 0 to 1; along the borders of classes they stand alone, as they do in the key.
    """
    colors = panel(predicted, legend.key)
    blended = np.rint(photo * np.float32(1 - strength) + colors * np.float32(strength)).astype(np.uint8)
    if strength:
        border = _borders(predicted, max(1, round(_scale(photo.shape[1]))))
        blended[border] = colors[border]
    return blended


def overlay_picture(task: Task, photo: NDArray[np.uint8], predicted: NDArray[np.uint8], strength: float) -> Picture:
    """`overlay_colors`, and below it the classes."""
    legend = legend_of(task, [predicted])
    return above(overlay_colors(photo, predicted, legend, strength), key_strip(legend, photo.shape[1], ""))


def attributes_picture(photo: NDArray[np.uint8], probabilities: Mapping[str, Mapping[str, float]]) -> Picture:
    """The photo (H, W, 3), and below it a bar for each task of the whole image: how likely a yes is, or each class."""
    rows: list[tuple[str, float]] = []
    for task, shares in probabilities.items():
        likeliest = sorted(shares.items(), key=lambda item: -item[1])[:LIKELIEST]
        rows += [
            (task if name == "yes" and len(shares) == 1 else f"{task}: {name}", share) for name, share in likeliest
        ]
    return above(photo, _bar_strip(rows, photo.shape[1]))


def _borders(classes: NDArray[np.uint8], width: int) -> NDArray[np.bool_]:
    """(H, W): pixels up to so many before a change of class, to the right or below."""
    border = np.zeros(classes.shape, np.bool_)
    for step in range(1, width + 1):
        border[:, :-step] |= classes[:, :-step] != classes[:, step:]
        border[:-step] |= classes[:-step] != classes[step:]
    return border


def above(picture: Picture, strip: Picture) -> Picture:
    """A picture, with white beside it if it is narrower, above a strip of `key_strip`."""
    beside = np.full((picture.shape[0], strip.shape[1] - picture.shape[1], 3), 255, np.uint8)
    return np.concatenate([np.concatenate([picture, beside], axis=1), strip])


def key_strip(legend: Legend, width: int, depth_unit: str) -> Picture:
    """What the colours mean, to stand below a picture of this width."""
    key = legend.key
    if isinstance(key, ClassKey):
        return _class_strip(key, legend.named, width)
    if isinstance(key, EdgeKey):
        return _edges_strip(width)
    if isinstance(key, DisparityKey):
        return _depth_strip(key, f"disparity [{key.unit}]" if key.unit else "disparity", width)
    if isinstance(key, DepthKey):
        return _depth_strip(key, f"depth [{depth_unit}]", width)
    return _normals_strip(key, width)


@dataclass
class _Strip:
    """White paper of `height` below a picture of `width` pixels; lengths are multiplied by `scale`, which fits it.

    across: the least that a key needs; a narrower picture gets white beside it.
    """

    height: float
    width: int
    across: float

    def __post_init__(self) -> None:
        self.scale = _scale(self.width)
        wide = max(self.width, round(self.across * self.scale))
        self.across = wide / self.scale
        self.image = Image.new("RGB", (wide, round(self.height * self.scale)), "white")
        self._draw = ImageDraw.Draw(self.image)
        self._font = ImageFont.load_default(TEXT * self.scale)

    def text(self, x: float, y: float, text: str) -> None:
        self._draw.text((x * self.scale, y * self.scale), text, fill=INK, font=self._font)

    def box(self, x: float, y: float, width: float, height: float, color: str | tuple[int, ...]) -> None:
        left, top = round(x * self.scale), round(y * self.scale)
        right, bottom = left + round(width * self.scale) - 1, top + round(height * self.scale) - 1
        if right >= left:
            self._draw.rectangle((left, top, right, bottom), fill=color)

    def paste(self, x: float, y: float, picture: Picture) -> None:
        self.image.paste(Image.fromarray(picture), (round(x * self.scale), round(y * self.scale)))

    def pixels(self) -> Picture:
        return np.asarray(self.image)


def _scale(width: int) -> float:
    return max(1.0, width / UNSCALED)


def _class_strip(key: ClassKey, shown: Sequence[int], width: int) -> Picture:
    column = max(_text_width(key.names[k]) for k in shown) + SWATCH + 3 * MARGIN
    columns = max(1, int((width / _scale(width) - MARGIN) // column))
    strip = _Strip(2 * MARGIN + LINE * -(-len(shown) // columns), width, MARGIN + column)
    for place, k in enumerate(shown):
        line, at = divmod(place, columns)
        x, y = MARGIN + at * column, MARGIN + line * LINE
        strip.box(x, y + 2, SWATCH, SWATCH, tuple(int(value) for value in key.colors[k]))
        strip.text(x + SWATCH + MARGIN, y, key.names[k])
    return strip.pixels()


def _edges_strip(width: int) -> Picture:
    """A bar of the greys between certainly no edge and certainly an edge."""
    title = "probability of an edge"
    strip = _Strip(2 * MARGIN + SWATCH + 2 * LINE, width, _text_width(title) + 2 * MARGIN)
    bar = round((strip.across - 2 * MARGIN) * strip.scale)
    shades = np.tile(np.linspace(0, 1, bar, dtype=np.float32), (round(SWATCH * strip.scale), 1))
    strip.paste(MARGIN, MARGIN, edges_picture(shades))
    strip.text(MARGIN, MARGIN + SWATCH + 2, "0")
    strip.text(strip.across - MARGIN - _text_width("1"), MARGIN + SWATCH + 2, "1")
    strip.text(MARGIN, MARGIN + SWATCH + 2 + LINE, title)
    return strip.pixels()


def _depth_strip(key: DepthKey, title: str, width: int) -> Picture:
    """A bar of the colours between the nearest and the farthest depth, with numbers."""
    strip = _Strip(2 * MARGIN + SWATCH + 2 * LINE, width, 120)
    bar = strip.across - 2 * MARGIN
    metres = np.geomspace(key.nearest, key.farthest, round(bar * strip.scale), dtype=np.float32)
    strip.paste(MARGIN, MARGIN, depth_picture(np.tile(metres, (round(SWATCH * strip.scale), 1)), key))
    below = MARGIN + SWATCH + 2
    free = 0.0
    last = f"{key.farthest:.3g}"
    end = strip.across - MARGIN - _text_width(last)
    values = [key.nearest, *round_metres(key)]
    for value, share in zip(values, depth_shares(np.array(values, np.float32), key).tolist(), strict=True):
        text = f"{value:.3g}"
        x = MARGIN + share * bar - (_text_width(text) / 2 if share else 0)
        if x >= free and x + _text_width(text) + MARGIN <= end:
            strip.text(x, below, text)
            free = x + _text_width(text) + MARGIN
    strip.text(end, below, last)
    strip.text(MARGIN, below + LINE, title)
    return strip.pixels()


def _normals_strip(to_viewer: bool, width: int) -> Picture:
    words = max(map(_text_width, AXES[to_viewer]))
    strip = _Strip(2 * MARGIN + max(BALL, 3 * LINE), width, BALL + words + 3 * MARGIN)
    strip.paste(MARGIN, MARGIN, sphere(round(BALL * strip.scale), to_viewer))
    for number, text in enumerate(AXES[to_viewer]):
        strip.text(2 * MARGIN + BALL, MARGIN + number * LINE, text)
    return strip.pixels()


def _bar_strip(rows: Sequence[tuple[str, float]], width: int) -> Picture:
    name_width = max(_text_width(name) for name, _ in rows)
    column = name_width + BAR + _text_width(percent(1)) + 4 * MARGIN
    columns = max(1, min(len(rows), int((width / _scale(width) - MARGIN) // column)))
    lines = -(-len(rows) // columns)
    strip = _Strip(2 * MARGIN + LINE * lines, width, MARGIN + column)
    for place, (name, share) in enumerate(rows):
        at, line = divmod(place, lines)
        x, y = MARGIN + at * column, MARGIN + line * LINE
        strip.text(x, y, name)
        strip.box(x + name_width + MARGIN, y + 3, BAR, SWATCH - 2, PALE)
        strip.box(x + name_width + MARGIN, y + 3, BAR * share, SWATCH - 2, FILLED)
        strip.text(x + name_width + BAR + 2 * MARGIN, y, percent(share))
    return strip.pixels()


def _text_width(text: str) -> float:
    return ImageFont.load_default(TEXT).getlength(text)
