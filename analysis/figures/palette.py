"""Colours by what they stand for, each on a light and on a dark ground.

Figures are drawn in the light ones. In the report `themed` makes them CSS variables, so that the reader's scheme
decides.
"""

import re
from typing import NamedTuple


class Color(NamedTuple):
    """One role: its CSS variable's name, and its value on white and on dark grey."""

    name: str
    light: str
    dark: str


# Okabe & Ito (2008): seven colours that people with any common colour blindness can tell apart. The dark ones are the
# same hues, lighter, as their blue and black would be lost on a dark ground.
SERIES = (
    Color("series-1", "#0072b2", "#2f97d8"),
    Color("series-2", "#d55e00", "#e8772a"),
    Color("series-3", "#009e73", "#12b886"),
    Color("series-4", "#cc79a7", "#e59cc4"),
    Color("series-5", "#e69f00", "#f2b632"),
    Color("series-6", "#56b4e9", "#93d6ff"),
    Color("series-7", "#30302f", "#f4f4f2"),
)
# Steps of viridis, for values with an order: the last is the strongest on either background.
ORDER = (
    Color("order-1", "#9dbb20", "#6675c4"),
    Color("order-2", "#58ae4c", "#4189b8"),
    Color("order-3", "#2f9f70", "#27a0a8"),
    Color("order-4", "#248489", "#2cb98a"),
    Color("order-5", "#31608e", "#7fd24f"),
    Color("order-6", "#482173", "#dde63b"),
)
INK = Color("ink", "#1c1c1d", "#e6e6e5")
SOFT = Color("soft-ink", "#55565a", "#b0b3b8")
GREY = Color("reference", "#7a7a7b", "#9b9ea3")
PALE = Color("context", "#bdbdbe", "#5d6167")
GRID = Color("grid", "#e6e6e7", "#34383d")
GROUND = Color("ground", "#fffffe", "#1b1e22")
ALL = (*SERIES, *ORDER, INK, SOFT, GREY, PALE, GRID, GROUND)


def css(scheme: str) -> str:
    """The declarations of all variables, for "light" or "dark"."""
    return " ".join(f"--{color.name}: {getattr(color, scheme)};" for color in ALL)


def themed(svg: str) -> str:
    """The drawing with the palette's colours as CSS variables; others stay, as those of a heat map's cells."""
    names = {color.light: color.name for color in ALL}
    return re.sub(
        r"(?<=: )#[0-9a-f]{6}\b", lambda found: f"var(--{names[found[0]]})" if found[0] in names else found[0], svg
    )
