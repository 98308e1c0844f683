"""Words beside points, where there is room for them."""

from collections.abc import Sequence
from typing import cast

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from analysis.figures.palette import SOFT

SMALL = 8  # points, of the letters on a screen
AWAY = 6  # points from a point to its words
# Of the words' corner that is next to the point: to the right of it and above, and so on.
SIDES = ((1, 1), (-1, 1), (1, -1), (-1, -1))
KIND = "beside a point"  # what tells these words from others of the panel; no id, of which a page may have one only
LABELS = "parsimony_labels"  # where an axes keeps its words until its limits are known


def label_points(ax: Axes, points: Sequence[tuple[float, float]], words: Sequence[str]) -> None:
    """Words for these points; where they stand is found once the panel has its size and limits."""
    setattr(ax, LABELS, [*getattr(ax, LABELS, []), *zip(points, words, strict=True)])


def place_labels(ax: Axes, size: float) -> list[Annotation]:
    """Write the words of a panel, in this order, each at the first of four places beside its point where it touches no
    other words, no marker, and no edge. Words without such a place are left out."""
    wanted = getattr(ax, LABELS, [])
    if not wanted:
        return []
    renderer = cast(FigureCanvasAgg, ax.figure.canvas).get_renderer()
    points = ax.figure.dpi / 72
    taken = _markers(ax, points)
    panel = ax.get_window_extent(renderer)
    written = []
    for place, words in wanted:
        for x, y in SIDES:
            side = {"ha": "left" if x > 0 else "right", "va": "bottom" if y > 0 else "top"}
            label = ax.annotate(
                words,
                place,
                (AWAY * x, 0.6 * AWAY * y),
                textcoords="offset points",
                fontsize=size,
                color=SOFT.light,
                label=KIND,
                **side,  # type: ignore[arg-type]
            )
            box = _box(label, renderer)
            inside = (
                panel.x0 <= box.x0 and box.x1 <= panel.x1 + 6 * points and panel.y0 <= box.y0 and box.y1 <= panel.y1
            )
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                written.append(label)
                break
            label.remove()
    return written


def _box(label: Annotation, renderer: RendererAgg) -> Bbox:
    return label.get_window_extent(renderer)


def _markers(ax: Axes, points: float) -> list[Bbox]:
    """Around each marker of the panel, in pixels."""
    boxes = []
    for line in ax.lines:
        if line.get_marker() not in ("", "None", None, " "):
            half = float(line.get_markersize()) * points / 2
            places = line.get_transform().transform(line.get_xydata())
            boxes += [Bbox.from_extents(x - half, y - half, x + half, y + half) for x, y in places]
    return boxes
