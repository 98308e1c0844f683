"""The figures' markers as SVG paths within -1 to 1, for a page that draws the same points itself."""

import math


def _polygon(corners: int, inner: float = 1.0) -> str:
    """A regular polygon that stands on its base, or a star whose inner corners lie at `inner`."""
    steps = corners if inner == 1 else 2 * corners
    places = [
        (1.0 if number % 2 == 0 or inner == 1 else inner, 2 * math.pi * number / steps) for number in range(steps)
    ]
    return _path([(radius * math.sin(angle), -radius * math.cos(angle)) for radius, angle in places])


def _path(corners: list[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x + 0.0:.3g},{y + 0.0:.3g}" for x, y in corners) + "Z"


def _turned(corners: list[tuple[float, float]], quarters: int) -> list[tuple[float, float]]:
    for _ in range(quarters):
        corners = [(-y, x) for x, y in corners]
    return corners


_UP = [(0.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
_ARM = 0.4
_PLUS = [
    *((-_ARM, -1.0), (_ARM, -1.0), (_ARM, -_ARM), (1.0, -_ARM), (1.0, _ARM), (_ARM, _ARM)),
    *((_ARM, 1.0), (-_ARM, 1.0), (-_ARM, _ARM), (-1.0, _ARM), (-1.0, -_ARM), (-_ARM, -_ARM)),
]
_HALF = math.sqrt(0.5)
SHAPES = {
    "o": "M1,0A1,1,0,1,1,-1,0A1,1,0,1,1,1,0Z",
    "s": _path([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]),
    "^": _path(_UP),
    "D": _path([(0, -1.1), (1.1, 0), (0, 1.1), (-1.1, 0)]),
    "v": _path(_turned(_UP, 2)),
    "P": _path(_PLUS),
    "X": _path([(_HALF * (x - y), _HALF * (x + y)) for x, y in _PLUS]),
    "<": _path(_turned(_UP, 3)),
    ">": _path(_turned(_UP, 1)),
    "p": _polygon(5),
    "*": _polygon(5, 0.45),
}
