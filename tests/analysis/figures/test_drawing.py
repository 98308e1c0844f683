"""What all figures share: the same bytes every time, text as text, colours that stay apart, panels cut for the page."""

import itertools
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.lines import Line2D

from analysis.compute.everything import Computed, compute
from analysis.figures import palette
from analysis.figures.drawing import Drawing, Layout, Panel, Words, draw_sheet, style, wrapped
from analysis.figures.every import Figures, draw_all
from analysis.figures.fronts import front_figure
from analysis.figures.inline import parts

# Machado, Oliveira & Fernandes (2009): linear RGB as people see it who lack red, green or blue cones entirely.
BLINDNESS = {
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
JUST_APART = 8  # ΔE of CIE 1976: 2.3 is the least that an eye sees side by side


@pytest.fixture(scope="module")
def figures(merged: Computed) -> Figures:
    return draw_all(merged)


def linear(color: str) -> np.ndarray:
    values = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(color: str, blindness: str) -> np.ndarray:
    seen = np.clip(np.array(BLINDNESS[blindness]) @ linear(color), 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ seen / [0.9505, 1, 1.089]
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def contrast(one: str, other: str) -> float:
    high, low = sorted((np.dot([0.2126, 0.7152, 0.0722], linear(color)) for color in (one, other)), reverse=True)
    return float((high + 0.05) / (low + 0.05))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("blindness", BLINDNESS)
def test_colours_stay_apart_for_the_colour_blind(scheme: str, blindness: str) -> None:
    for family in (palette.SERIES, palette.ORDER):
        for one, other in itertools.combinations(family, 2):
            difference = lab(getattr(one, scheme), blindness) - lab(getattr(other, scheme), blindness)
            assert np.linalg.norm(difference) > JUST_APART, (one.name, other.name)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_colour_is_seen_on_its_ground(scheme: str) -> None:
    ground = getattr(palette.GROUND, scheme)
    assert contrast(getattr(palette.INK, scheme), ground) > 7
    assert contrast(getattr(palette.SOFT, scheme), ground) > 4.5
    for color in (*palette.SERIES, *palette.ORDER):
        assert contrast(getattr(color, scheme), ground) > 2, color.name


def test_every_figure_is_drawn_or_says_why_not(figures: Figures) -> None:
    assert list(figures.drawn) == [
        *("claims", "cost", "cost_parameters", "cost_latency", "front", "attainment"),
        *(
            "performance_against_lambda",
            "sparsity_against_lambda",
            "sparsity_while_training",
            "latency_against_lambda",
            "latency_against_sparsity",
            "affinity",
        ),
        *("groups_by_layer", "stages", "layers", "overlap"),
    ]
    assert figures.absent == {}


def test_drawings_are_alike_every_time_and_keep_text_as_text(merged: Computed, figures: Figures) -> None:
    with style():
        again = front_figure(merged.sweep, merged.marked)
    assert (again.svg, again.png) == (figures.drawn["front"].svg, figures.drawn["front"].png)
    for drawing in figures.drawn.values():
        assert drawing.png.startswith(b"\x89PNG")
        assert len(drawing.data)
        texts = {
            element.text for element in ElementTree.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}text")
        }
        assert len(texts) > 3
    spread = "sample standard deviation over 2 seeds"
    assert all(
        spread in figures.drawn[name].caption
        for name in (
            "front",
            "performance_against_lambda",
            "sparsity_against_lambda",
            "sparsity_while_training",
            "groups_by_layer",
            "overlap",
        )
    )


def test_what_one_seed_of_one_task_has_no_numbers_for_is_absent(storage: Path) -> None:
    alone = draw_all(compute(storage / "other"))
    for name in ("front", "performance_against_lambda", "sparsity_against_lambda"):
        assert "One seed per setting, so no error bars" in alone.drawn[name].caption
    assert set(alone.absent) == {"claims", "attainment", "overlap", "affinity"}


def two_panels() -> Drawing:
    with style():
        return draw_sheet(
            Words("pair", "Title", "Caption.", "note"),
            [Panel("one", pd.DataFrame({"x": []})), Panel("two", pd.DataFrame({"x": [0, 1]}))],
            lambda rows, ax: ax.plot(rows["x"], color=palette.SERIES[0].light),
            [Line2D([], [], label="a line")],
            Layout(columns=1),
        )


def test_panels_and_entries_do_not_overlap() -> None:
    drawing = two_panels()
    assert (drawing.caption, drawing.data["x"].tolist()) == ("Caption. note.", [0, 1])
    one, two = drawing.panels
    assert one.y + one.height == pytest.approx(two.y)
    assert drawing.entries[0].y > two.y + two.height
    root = ElementTree.fromstring(drawing.svg)
    assert float(root.attrib["height"].removesuffix("pt")) > drawing.entries[0].y + drawing.entries[0].height


def test_parts_hold_their_own_panel_in_the_readers_colours() -> None:
    cut = parts(two_panels())
    assert len(cut.panels) == 2
    assert [svg.count("two") for svg in cut.panels] == [0, 1]
    assert "var(--series-1)" in cut.panels[1]
    assert "a line" in cut.entries[0]
    for svg in (*cut.panels, *cut.entries):
        ElementTree.fromstring(svg)
        assert not re.search(r'id="(?!pair-)', svg)
    clips = re.findall(r"clip-path=\"url\(#([^)]+)\)\"", cut.panels[1])
    assert clips
    assert all(f'<clipPath id="{name}"' in cut.panels[1] for name in clips)


@pytest.mark.parametrize(
    ("title", "lines"),
    [
        ("segmentation+depth+normals", ["segmentation+", "depth+normals"]),
        ("depth, lasso + scratch", ["depth, lasso +", "scratch"]),
        ("short\nlines\nstay", ["short", "lines", "stay"]),
        ("no_place_to_break_this", ["no_place_to_break_this"]),
    ],
)
def test_long_titles_are_broken_after_a_plus(title: str, lines: list[str]) -> None:
    assert wrapped(title, 18).split("\n") == lines
