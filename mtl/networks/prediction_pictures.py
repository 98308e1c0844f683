"""Predicted maps as pictures: the map, pixel for pixel, and a key below it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mtl.datasets.inspect.panels import (
    ClassKey,
    DepthKey,
    Picture,
    depth_key,
    depth_picture,
    depth_shares,
    edges_picture,
    faces_viewer,
    fixed_class_key,
    normals_picture,
    round_metres,
    segmentation_picture,
    sphere,
)
from mtl.tasks import Task

# All lengths are pixels.
MARGIN = 8
LINE = 18
SWATCH = 12
BALL = 48
TEXT = 12
SMALLEST_WIDTH = 160  # on which a key is legible; a narrower map gets white beside it
NEAREST = 0.01  # smaller and negative depths are drawn as this


def map_picture(task: Task, predicted: NDArray, depth_unit: str) -> Picture:
    """A dense task's predicted map (H, W[, 3]) at the top left, and below it what its colours mean.

    Segmentations have the palette of the contact sheets, in the order of the task's classes, and name those that occur;
    depth runs from dark (near) to light, in `depth_unit`, and disparity from dark (far) to light, in the task's own
    unit; edges are black, the paler the less likely; normals n are the colours (n + 1) / 2.
    """
    width = max(predicted.shape[1], SMALLEST_WIDTH)
    match task.kind:
        case "segmentation":
            classes = fixed_class_key(task)
            picture, key = segmentation_picture(predicted, classes), _class_strip(classes, predicted, width)
        case "edges":
            picture, key = edges_picture(predicted), _edges_strip(width)
        case "depth" | "disparity":
            # What is farthest has no disparity, and a logarithm of none.
            least = NEAREST if task.kind == "depth" else max(1e-3 * float(predicted.max()), 1e-6)
            metres = np.maximum(predicted, np.float32(least))
            depths = depth_key([metres])
            picture, key = depth_picture(metres, depths), _depth_strip(depths, _name_and_unit(task, depth_unit), width)
        case _:
            picture, key = normals_picture(predicted), _normals_strip(faces_viewer([predicted]), width)
    beside = np.full((picture.shape[0], width - picture.shape[1], 3), 255, np.uint8)
    return np.concatenate([np.concatenate([picture, beside], axis=1), key])


def _class_strip(key: ClassKey, predicted: NDArray[np.uint8], width: int) -> Picture:
    """The classes that occur, the largest first."""
    pixels = np.bincount(predicted.ravel(), minlength=len(key.names))
    shown = [int(k) for k in np.argsort(-pixels, kind="stable") if pixels[k]]
    column = max(_text_width(key.names[k]) for k in shown) + SWATCH + 3 * MARGIN
    columns = max(1, int(width // column))
    strip, draw = _blank(2 * MARGIN + LINE * -(-len(shown) // columns), width)
    for place, k in enumerate(shown):
        line, across = divmod(place, columns)
        x, y = MARGIN + across * column, MARGIN + line * LINE
        color = tuple(int(value) for value in key.colors[k])
        draw.rectangle((x, y + 2, x + SWATCH, y + 2 + SWATCH), fill=color)
        _write(draw, x + SWATCH + MARGIN, y, key.names[k])
    return np.asarray(strip)


def _name_and_unit(task: Task, depth_unit: str) -> str:
    """Of a depth or a disparity."""
    unit = depth_unit if task.kind == "depth" or not task.unit else task.unit
    return f"{task.kind} [{unit}]" if unit else task.kind


def _edges_strip(width: int) -> Picture:
    """A bar of the greys between certainly no edge and certainly an edge."""
    bar = width - 2 * MARGIN
    strip, draw = _blank(2 * MARGIN + SWATCH + 2 * LINE, width)
    shades = edges_picture(np.tile(np.linspace(0, 1, bar, dtype=np.float32), (SWATCH, 1)))
    strip.paste(Image.fromarray(shades), (MARGIN, MARGIN))
    _write(draw, MARGIN, MARGIN + SWATCH + 2, "0")
    _write(draw, width - MARGIN - _text_width("1"), MARGIN + SWATCH + 2, "1")
    _write(draw, MARGIN, MARGIN + SWATCH + 2 + LINE, "probability of an edge")
    return np.asarray(strip)


def _depth_strip(key: DepthKey, title: str, width: int) -> Picture:
    """A bar of the colours between the nearest and the farthest depth, with numbers."""
    bar = width - 2 * MARGIN
    strip, draw = _blank(2 * MARGIN + SWATCH + 2 * LINE, width)
    metres = np.geomspace(key.nearest, key.farthest, bar, dtype=np.float32)
    strip.paste(Image.fromarray(depth_picture(np.tile(metres, (SWATCH, 1)), key)), (MARGIN, MARGIN))
    free = 0.0
    last = f"{key.farthest:.3g}"
    end = width - MARGIN - _text_width(last)
    values = [key.nearest, *round_metres(key)]
    for value, share in zip(values, depth_shares(np.array(values, np.float32), key).tolist(), strict=True):
        text = f"{value:.3g}"
        x = MARGIN + share * bar - (_text_width(text) / 2 if share else 0)
        if x >= free and x + _text_width(text) + MARGIN <= end:
            _write(draw, x, MARGIN + SWATCH + 2, text)
            free = x + _text_width(text) + MARGIN
    _write(draw, end, MARGIN + SWATCH + 2, last)
    _write(draw, MARGIN, MARGIN + SWATCH + 2 + LINE, title)
    return np.asarray(strip)


def _normals_strip(to_viewer: bool, width: int) -> Picture:
    strip, draw = _blank(2 * MARGIN + max(BALL, 3 * LINE), width)
    strip.paste(Image.fromarray(sphere(BALL, to_viewer)), (MARGIN, MARGIN))
    lines: Sequence[str] = ("x right", "y up" if to_viewer else "y down", "z near" if to_viewer else "z far")
    for number, text in enumerate(lines):
        _write(draw, 2 * MARGIN + BALL, MARGIN + number * LINE, text)
    return np.asarray(strip)


def _blank(height: int, width: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    strip = Image.new("RGB", (width, height), "white")
    return strip, ImageDraw.Draw(strip)


def _write(draw: ImageDraw.ImageDraw, x: float, y: float, text: str) -> None:
    draw.text((x, y), text, fill="#1a1a1a", font=ImageFont.load_default(TEXT))


def _text_width(text: str) -> float:
    return ImageFont.load_default(TEXT).getlength(text)
