"""Figures for a paper: their widths, their letters, and that no words touch other words or points."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from analysis.analyze import analyze
from analysis.compute.everything import Computed
from analysis.figures.drawing import COLUMN, PAGE, PAPER, Drawing, style
from analysis.figures.every import draw_all
from analysis.figures.labels import KIND, label_points, place_labels
from tests.support.written import copied

WIDTHS = (COLUMN, PAGE)


@pytest.fixture(scope="module")
def drawn(merged: Computed, small: Computed) -> list[Drawing]:
    return [*draw_all(merged).drawn.values(), *draw_all(small).drawn.values()]


def texts(figure: Figure) -> Iterator[Text]:
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_visible() and text.get_text().strip():
            yield text


def box(text: Text) -> Bbox:
    return text.get_window_extent(text.figure.canvas.get_renderer())  # type: ignore[union-attr]


def labels(ax: Axes) -> list[Annotation]:
    return [one for one in ax.texts if isinstance(one, Annotation) and one.get_label() == KIND]


@pytest.mark.parametrize("inches", WIDTHS)
def test_letters_are_as_large_as_they_look_and_stay_on_the_page(drawn: list[Drawing], inches: float) -> None:
    for drawing in drawn:
        figure = drawing.paper(inches).figure
        assert figure.get_figwidth() in (inches, PAGE)
        for text in texts(figure):
            assert text.get_fontsize() >= 6, (drawing.name, text.get_text())
        drawn_box = figure.get_tightbbox()
        assert drawn_box.x0 >= -0.03, (drawing.name, inches)
        assert drawn_box.x1 <= figure.get_figwidth() + 0.03, (drawing.name, inches)
        assert {text.get_fontsize() for ax in figure.axes for text in [ax.xaxis.label, ax.yaxis.label]} == {8}


@pytest.mark.parametrize("inches", [None, *WIDTHS])
def test_lambdas_touch_nothing(drawn: list[Drawing], inches: float | None) -> None:
    written = 0
    for drawing in [one for one in drawn if one.name in ("front", "cost")]:
        sheet = drawing.paper(inches or 12).figure
        for ax in sheet.axes:
            found = [box(one) for one in labels(ax)]
            written += len(found)
            assert not any(one.overlaps(other) for one, other in itertools.combinations(found, 2))
            points = [
                line.get_transform().transform(line.get_xydata()) for line in ax.lines if line.get_marker() != "None"
            ]
            centres = np.concatenate(points)
            assert not any(one.contains(*centre) for one in found for centre in centres)
    assert written >= 5


def test_words_without_room_are_left_out_and_the_first_stay() -> None:
    figure = Figure(figsize=(2, 2))
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    places = [(0.5, 0.5 + 0.001 * number) for number in range(12)]
    ax.plot(*zip(*places, strict=True), marker="o", linestyle="")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    label_points(ax, places, [f"λ={number}" for number in range(12)])
    written = place_labels(ax, 7)
    assert [one.get_text() for one in written] == ["λ=0", "λ=1", "λ=2", "λ=3"]  # one at each side
    assert place_labels(figure.add_subplot(), 7) == []


@pytest.mark.parametrize("inches", WIDTHS)
def test_every_axis_has_two_labelled_ticks(drawn: list[Drawing], inches: float) -> None:
    for drawing in drawn:
        figure = drawing.paper(inches).figure
        figure.draw_without_rendering()
        for ax in figure.axes:
            for axis in (ax.xaxis, ax.yaxis):
                low, high = sorted(axis.get_view_interval())
                said = [
                    tick.label1.get_text()
                    for tick in axis.get_major_ticks()
                    if low <= tick.get_loc() <= high and tick.label1.get_text()
                ]
                few = len(ax.get_yticks()) == 1 or len(ax.get_xticks()) == 1  # a table with one row or column
                assert len(said) >= 2 or few, (drawing.name, axis, said)


def test_pdfs_have_their_fonts_and_their_width(drawn: list[Drawing]) -> None:
    cost = next(one for one in drawn if one.name == "cost")
    for inches in WIDTHS:
        printed = cost.paper(inches)
        width = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", printed.pdf)
        assert width is not None
        assert float(width[1]) == pytest.approx(72 * inches, abs=0.01)
        assert b"/FontFile2" in printed.pdf
        assert b"/Type3" not in printed.pdf
        assert re.search(rf'width="{72 * inches:g}pt"', printed.svg)
        assert cost.paper(inches).pdf == printed.pdf
    assert matplotlib.rcParams["font.size"] != PAPER.text
    with style():
        assert matplotlib.rcParams["pdf.fonttype"] == 42


def test_methods_differ_in_more_than_colour(small: Computed) -> None:
    (ax, *_) = draw_all(small).drawn["cost"].paper().figure.axes
    points = [line for line in ax.lines if line.get_marker() not in ("None", "") and line.get_markersize() == 4.5]
    looks = {(line.get_marker(), line.get_markerfacecolor() == line.get_color()) for line in points}
    assert len(looks) == len(points) >= 4
    assert {filled for _, filled in looks} == {True, False}


def test_analyze_writes_them_where_asked(storage: Path, tmp_path: Path) -> None:
    folder = copied(storage / "other", tmp_path)
    plain = {path.name for path in analyze(folder).files}
    more = {path.name for path in analyze(folder, paper=True).files} - plain
    names = {name.removesuffix(".pdf") for name in plain if name.endswith(".pdf")}
    assert names
    assert more == {f"{name}-{kind}" for name in names for kind in ("page.svg", "column.pdf", "column.svg")}
