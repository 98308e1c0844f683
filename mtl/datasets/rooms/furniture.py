"""Furniture for `rooms`, composed from boxes, cylinders and spheres with sizes and materials drawn at random.

A piece is built in its own frame, metres: it stands on y = 0, its front faces +z, and what stands against a wall has
the wall at its back, towards -z.
"""

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from numpy.random import Generator

Vector = tuple[float, float, float]
Shape = Literal["box", "cylinder", "sphere", "rectangle"]

TEXTURES = ("plain", "tiles", "noise", "wood")

# Linear RGB. Every class draws from these same families, so that a colour alone does not give the class away.
PALETTES: Mapping[str, tuple[Vector, ...]] = {
    "wood": ((0.42, 0.25, 0.12), (0.25, 0.13, 0.06), (0.60, 0.42, 0.24), (0.12, 0.08, 0.06)),
    "paint": ((0.75, 0.74, 0.70), (0.62, 0.66, 0.70), (0.72, 0.63, 0.50), (0.45, 0.47, 0.48), (0.60, 0.70, 0.58)),
    "fabric": ((0.50, 0.10, 0.10), (0.10, 0.18, 0.45), (0.12, 0.35, 0.14), (0.65, 0.45, 0.10), (0.35, 0.15, 0.35)),
}


class Material(NamedTuple):
    texture: str  # one of TEXTURES
    frequency: Vector  # texture cells per metre along each axis; the texture is constant along an axis of 0
    phase: Vector  # offset of the texture in cells
    color: Vector  # linear RGB reflectance
    accent: Vector  # the colour that the texture mixes in
    glow: float = 0.0  # light given off, as a multiple of the reflectance


class Part(NamedTuple):
    """One shape of a class. Half extents: (radius, half height, radius) of a cylinder, one of them 0 of a rectangle."""

    shape: Shape
    center: Vector
    half: Vector
    label: str
    material: Material
    yaw: float = 0.0


class Furniture(NamedTuple):
    """Parts, and the half extents of the floor that they cover; `top` is the height of a surface to put things on."""

    parts: list[Part]
    half_width: float  # along x
    half_depth: float  # along z
    top: float | None = None


def draw_material(rng: Generator, wood: float, paint: float, fabric: float, cells_per_metre: float = 8) -> Material:
    """A material whose colour family is drawn with the given weights (they add up to 1)."""
    family = ("wood", "paint", "fabric")[rng.choice(3, p=(wood, paint, fabric))]
    texture = TEXTURES[rng.integers(len(TEXTURES))]
    frequency = [cells_per_metre * rng.uniform(0.5, 1.5)] * 3
    grain = rng.integers(3)
    if texture == "wood":
        frequency[grain] *= 0.1
    elif texture == "tiles" and rng.random() < 0.5:  # stripes: tiles that never end along two axes
        frequency = [f if axis == grain else 0.0 for axis, f in enumerate(frequency)]
    color = _jitter(rng, PALETTES[family][rng.integers(len(PALETTES[family]))])
    contrast = rng.uniform(0.5, 0.9)
    accent = color[0] * contrast, color[1] * contrast, color[2] * contrast
    if rng.random() < 0.1:
        accent = _jitter(rng, PALETTES["fabric"][rng.integers(len(PALETTES["fabric"]))])
    x, y, z = frequency
    return Material(texture, (x, y, z), tuple(rng.uniform(0, 16, 3).tolist()), color, accent)


def _jitter(rng: Generator, color: Vector) -> Vector:
    red, green, blue = (rng.uniform(0.75, 1.25, 3) * rng.uniform(0.7, 1.2)).tolist()
    return min(color[0] * red, 0.9), min(color[1] * green, 0.9), min(color[2] * blue, 0.9)


def box(label: str, material: Material, width: float, height: float, depth: float, at: Vector) -> Part:
    """A box with the middle of its underside at `at`."""
    return Part("box", (at[0], at[1] + height / 2, at[2]), (width / 2, height / 2, depth / 2), label, material)


def cylinder(label: str, material: Material, radius: float, height: float, at: Vector) -> Part:
    """A cylinder with the middle of its underside at `at`."""
    return Part("cylinder", (at[0], at[1] + height / 2, at[2]), (radius, height / 2, radius), label, material)


def sphere(label: str, material: Material, radius: float, center: Vector) -> Part:
    return Part("sphere", center, (radius, radius, radius), label, material)


def _legs(label: str, material: Material, thickness: float, height: float, width: float, depth: float) -> list[Part]:
    """Four legs at the corners of a width by depth area."""
    x, z = (width - thickness) / 2, (depth - thickness) / 2
    corners = ((-x, -z), (-x, z), (x, -z), (x, z))
    return [box(label, material, thickness, height, thickness, (cx, 0, cz)) for cx, cz in corners]


def draw_table(rng: Generator) -> Furniture:
    """A dining table, or one time in four a low one; round on a column or rectangular on four legs."""
    material = draw_material(rng, 0.55, 0.35, 0.1)
    height = rng.uniform(0.36, 0.5) if rng.random() < 0.25 else rng.uniform(0.68, 0.8)
    slab = rng.uniform(0.03, 0.07)
    if rng.random() < 0.35:
        radius = rng.uniform(0.4, 0.65)
        parts = [
            cylinder("table", material, radius, slab, (0, height - slab, 0)),
            cylinder("table", material, rng.uniform(0.04, 0.08), height - slab, (0, 0, 0)),
            cylinder("table", material, 0.55 * radius, 0.03, (0, 0, 0)),
        ]
        return Furniture(parts, radius, radius, height)
    width, depth = rng.uniform(0.9, 1.7), rng.uniform(0.6, 0.95)
    legs = _legs("table", material, rng.uniform(0.04, 0.08), height - slab, width, depth)
    return Furniture(
        [box("table", material, width, slab, depth, (0, height - slab, 0)), *legs], width / 2, depth / 2, height
    )


def draw_chair(rng: Generator) -> Furniture:
    """A chair on four legs, an armchair or a round stool."""
    material = draw_material(rng, 0.4, 0.2, 0.4)
    kind = rng.choice(3, p=(0.6, 0.25, 0.15))
    if kind == 2:
        radius, seat = rng.uniform(0.16, 0.24), rng.uniform(0.42, 0.65)
        parts = [
            cylinder("chair", material, radius, 0.06, (0, seat - 0.06, 0)),
            cylinder("chair", material, 0.04, seat - 0.06, (0, 0, 0)),
            cylinder("chair", material, 0.8 * radius, 0.03, (0, 0, 0)),
        ]
        return Furniture(parts, radius, radius)
    if kind == 1:
        width, depth, seat, arm = rng.uniform(0.75, 1.6), rng.uniform(0.7, 0.85), rng.uniform(0.38, 0.46), 0.14
        cushions = draw_material(rng, 0.2, 0.2, 0.6) if rng.random() < 0.5 else material
        parts = [
            box("chair", cushions, width - 2 * arm, seat, depth - 0.2, (0, 0, 0.1)),
            box("chair", material, width, rng.uniform(0.75, 0.95), 0.2, (0, 0, 0.1 - depth / 2)),
            box("chair", material, arm, seat + 0.18, depth - 0.2, ((arm - width) / 2, 0, 0.1)),
            box("chair", material, arm, seat + 0.18, depth - 0.2, ((width - arm) / 2, 0, 0.1)),
        ]
        return Furniture(parts, width / 2, depth / 2)
    width, seat, leg = rng.uniform(0.4, 0.5), rng.uniform(0.42, 0.48), rng.uniform(0.03, 0.05)
    back = rng.uniform(0.35, 0.55)
    parts = [
        box("chair", material, width, 0.05, width, (0, seat - 0.05, 0)),
        box("chair", material, width, back, 0.04, (0, seat, 0.02 - width / 2)),
        *_legs("chair", material, leg, seat - 0.05, width, width),
    ]
    return Furniture(parts, width / 2, width / 2)


def draw_bed(rng: Generator) -> Furniture:
    """A bed with its head at the wall, a blanket and one or two pillows."""
    frame, sheet, blanket = (
        draw_material(rng, *weights) for weights in ((0.6, 0.3, 0.1), (0, 0.8, 0.2), (0, 0.3, 0.7))
    )
    width, length = rng.choice((0.95, 1.4, 1.7)), rng.uniform(1.9, 2.1)
    base, mattress = rng.uniform(0.2, 0.35), rng.uniform(0.16, 0.24)
    covered = length * rng.uniform(0.55, 0.7)
    top = base + mattress
    parts = [
        box("bed", frame, width, base, length, (0, 0, 0)),
        box("bed", frame, width, top + rng.uniform(0.2, 0.6), 0.06, (0, 0, 0.03 - length / 2)),
        box("bed", sheet, width - 0.04, mattress, length - 0.08, (0, base, 0.03)),
        box("bed", blanket, width, mattress + 0.04, covered, (0, base, (length - covered) / 2)),
    ]
    pillows = 1 if width < 1.2 else 2
    for side in range(pillows):
        x = width * ((side + 0.5) / pillows - 0.5)
        parts.append(box("bed", sheet, 0.7 * width / pillows, 0.1, 0.35, (x, top, 0.28 - length / 2)))
    return Furniture(parts, width / 2, length / 2)


def draw_cabinet(rng: Generator) -> Furniture:
    """A chest or wardrobe with doors, or an open shelf with books."""
    material = draw_material(rng, 0.5, 0.4, 0.1)
    width, depth, height = rng.uniform(0.6, 1.4), rng.uniform(0.32, 0.55), rng.uniform(0.6, 2.1)
    top = height if height < 1.2 else None
    if rng.random() < 0.5:
        columns, rows = int(rng.integers(1, 4)), 1 if height > 1.3 else int(rng.integers(1, 4))
        front = draw_material(rng, 0.5, 0.4, 0.1) if rng.random() < 0.5 else material
        parts = [box("cabinet", material, width, height, depth - 0.02, (0, 0, -0.01))]
        for column in range(columns):
            for row in range(rows):
                at = width * ((column + 0.5) / columns - 0.5), height * row / rows + 0.025, depth / 2 - 0.02
                parts.append(box("cabinet", front, width / columns - 0.05, height / rows - 0.05, 0.02, at))
        return Furniture(parts, width / 2, depth / 2, top)
    board = 0.03
    parts = [
        box("cabinet", material, width, height, board, (0, 0, (board - depth) / 2)),
        box("cabinet", material, board, height, depth, ((board - width) / 2, 0, 0)),
        box("cabinet", material, board, height, depth, ((width - board) / 2, 0, 0)),
    ]
    shelves = max(2, round(height / 0.4))
    gap = (height - board) / shelves
    for shelf in range(shelves + 1):
        parts.append(box("cabinet", material, width - 2 * board, board, depth, (0, shelf * gap, 0)))
        if shelf < shelves and rng.random() < 0.6:
            books = (width - 2 * board) * rng.uniform(0.3, 0.9)
            x = (width - 2 * board - books) / 2 * rng.choice((-1, 1))
            size = books, gap * rng.uniform(0.4, 0.8), 0.6 * depth
            parts.append(box("clutter", draw_material(rng, 0.2, 0.3, 0.5, 25), *size, (x, shelf * gap + board, 0)))
    return Furniture(parts, width / 2, depth / 2, top)


def draw_shade(rng: Generator, center: Vector, scale: float = 1.0) -> Part:
    """A lamp's shade, round or drum-shaped, switched on half of the time."""
    shade = draw_material(rng, 0.2, 0.6, 0.2)._replace(glow=rng.choice((0.0, 2.0)))
    radius = scale * rng.uniform(0.16, 0.28)
    if rng.random() < 0.4:
        return sphere("lamp", shade, radius, center)
    height = radius * rng.uniform(1, 1.6)
    return cylinder("lamp", shade, radius, height, (center[0], center[1] - height / 2, center[2]))


def draw_floor_lamp(rng: Generator) -> Furniture:
    stand = draw_material(rng, 0.4, 0.4, 0.2)
    height = rng.uniform(1.2, 1.75)
    parts = [
        cylinder("lamp", stand, rng.uniform(0.13, 0.2), 0.03, (0, 0, 0)),
        cylinder("lamp", stand, rng.uniform(0.015, 0.035), height, (0, 0, 0)),
        draw_shade(rng, (0, height, 0)),
    ]
    return Furniture(parts, 0.28, 0.28)


def draw_table_lamp(rng: Generator) -> list[Part]:
    stand = draw_material(rng, 0.4, 0.4, 0.2)
    height = rng.uniform(0.25, 0.4)
    return [cylinder("lamp", stand, rng.uniform(0.02, 0.07), height, (0, 0, 0)), draw_shade(rng, (0, height, 0), 0.6)]


def draw_pendant(rng: Generator, room_height: float) -> Furniture:
    """A lamp on a cord from the ceiling."""
    drop = rng.uniform(0.4, 0.8)
    cord = cylinder("lamp", draw_material(rng, 0.4, 0.4, 0.2), 0.012, drop, (0, room_height - drop, 0))
    return Furniture([cord, draw_shade(rng, (0, room_height - drop, 0))], 0.28, 0.28)


def draw_plant(rng: Generator) -> Furniture:
    """A pot with a ball of leaves, low or on a stem; the leaves are green two times in three."""
    pot = draw_material(rng, 0.4, 0.4, 0.2)
    leaves = draw_material(rng, 0.2, 0.1, 0.7, 25)
    if rng.random() < 0.67:
        green = _jitter(rng, (0.12, 0.35, 0.1))
        leaves = leaves._replace(texture="noise", color=green, accent=(green[0] * 0.4, green[1] * 0.5, green[2] * 0.4))
    radius, height = rng.uniform(0.12, 0.2), rng.uniform(0.2, 0.4)
    stem = rng.choice((0.05, rng.uniform(0.3, 0.7)))
    crown = rng.uniform(0.2, 0.36)
    middle = height + stem + crown
    parts = [
        cylinder("plant", pot, radius, height, (0, 0, 0)),
        cylinder("plant", pot, 0.02, stem + crown, (0, height, 0)),
    ]
    for _ in range(int(rng.integers(5, 9))):
        turn, lift = rng.uniform(0, 2 * math.pi), rng.uniform(-0.8, 1)
        center = 0.6 * crown * math.cos(turn), middle + 0.8 * crown * lift, 0.6 * crown * math.sin(turn)
        parts.append(sphere("plant", leaves, crown * rng.uniform(0.35, 0.65), center))
    return Furniture(parts, 0.4, 0.4)


def draw_clutter(rng: Generator, size: float) -> Furniture:
    """A carton, a ball, or a bin or vase, at most 2 * `size` wide."""
    material = draw_material(rng, 0.33, 0.33, 0.34, 15)
    half = size * rng.uniform(0.55, 1)
    kind = rng.integers(3)
    if kind == 0:
        part = sphere("clutter", material, half, (0, half, 0))
    elif kind == 1:
        part = cylinder("clutter", material, half * rng.uniform(0.4, 0.9), 2 * half * rng.uniform(0.7, 1.3), (0, 0, 0))
    else:
        part = box("clutter", material, 2 * half, 2 * half * rng.uniform(0.5, 1), half * rng.uniform(1, 2), (0, 0, 0))
    return Furniture([part], half, half)
