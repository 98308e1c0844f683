"""Furnished rooms drawn from a random generator: shapes, materials, lights and a camera; `rooms` renders them.

The room is a box about the world's y axis with its floor at y = 0 (frame: see `raycast`).
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mtl.datasets.rooms import furniture
from mtl.datasets.rooms.furniture import Furniture, Material, Part, Vector, draw_clutter, draw_material
from mtl.datasets.rooms.raycast import Boxes, Cylinders, Floats, Rectangles, Shapes, Spheres, rotate_yaw

CLASSES = (
    "floor", "wall", "ceiling", "rug", "door", "window", "picture",
    "table", "chair", "bed", "cabinet", "lamp", "plant", "clutter",
)  # fmt: skip

# What hangs on a wall stands this far off it (and a rug off the floor), so that it is in front beyond rounding.
_LAYER_METRES = 0.004
# The shell's rectangles reach this far beyond its corners, so that no ray slips out between two of them.
_OVERLAP_METRES = 0.05
# Twice as fast to render as float64, and its rounding moves no surface by more than some micrometres.
_FLOAT = np.float32


class Room(NamedTuple):
    half_width: float  # along x
    half_depth: float  # along z
    height: float


class Spot(NamedTuple):
    """A turned rectangle of floor."""

    x: float
    z: float
    yaw: float
    half_width: float
    half_depth: float


class Camera(NamedTuple):
    """A pinhole camera; in its frame x is right, y up and z backwards."""

    position: Floats  # (3,)
    rotation: Floats  # (3, 3), from camera to world components
    focal: float  # focal length over half of the image's shorter side


class Lights(NamedTuple):
    position: Floats  # (L, 3)
    color: Floats  # (L, 3), radiance of a white surface that faces the light from nearby
    ambient: float


class Surfaces(NamedTuple):
    """Class and material of each of P shapes, in the order of `Scene.groups`."""

    label: NDArray[np.uint8]  # (P,) index into CLASSES
    center: Floats  # (3, P), origin of the texture's frame
    yaw: Floats  # (P,)
    texture: NDArray[np.uint8]  # (P,) index into TEXTURES
    frequency: Floats  # (3, P), see Material
    phase: Floats  # (3, P)
    color: Floats  # (3, P)
    accent: Floats  # (3, P)
    glow: Floats  # (P,)


class Scene(NamedTuple):
    solids: tuple[Boxes, Cylinders, Spheres]
    flats: Rectangles  # the shell and what lies flat on it: they hide no light
    surfaces: Surfaces
    lights: Lights
    camera: Camera

    @property
    def groups(self) -> tuple[Shapes, ...]:
        return (*self.solids, self.flats)


def draw_scene(rng: Generator) -> Scene:
    room = Room(rng.uniform(1.6, 3.1), rng.uniform(1.6, 3.1), rng.uniform(2.3, 3.1))
    camera = _draw_camera(rng, room)
    eye_x, _, eye_z = camera.position.tolist()
    fixtures, thresholds = _draw_fixtures(rng, room)
    taken = [Spot(eye_x, eye_z, 0.0, 0.75, 0.75), *thresholds]
    parts = _draw_shell(rng, room) + fixtures + _furnish(rng, room, taken)
    return _assemble(parts, _draw_lights(rng, room), camera)


def _turn(x: float, z: float, yaw: float) -> tuple[float, float]:
    """World (x, z) of a local (x, z)."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    return x * cos + z * sin, z * cos - x * sin


def _move(parts: Sequence[Part], x: float, z: float, yaw: float, y: float = 0) -> list[Part]:
    """Parts turned about the vertical axis, then shifted."""
    moved = []
    for part in parts:
        turned_x, turned_z = _turn(part.center[0], part.center[2], yaw)
        moved.append(part._replace(center=(turned_x + x, part.center[1] + y, turned_z + z), yaw=part.yaw + yaw))
    return moved


def _walls(room: Room) -> list[tuple[float, float, float]]:
    """Yaw of the inward normal, distance from the middle of the room, half length: one row per wall."""
    return [
        (quarter * math.pi / 2, *((room.half_depth, room.half_width), (room.half_width, room.half_depth))[quarter % 2])
        for quarter in range(4)
    ]


def _panel(label: str, material: Material, half_width: float, half_height: float, x: float, y: float, z: float) -> Part:
    """An upright rectangle that faces +z."""
    return Part("rectangle", (x, y, z), (half_width, half_height, 0.0), label, material)


def _draw_shell(rng: Generator, room: Room) -> list[Part]:
    """Floor, ceiling and four walls, one of which may have a paint of its own."""
    half_width, half_depth = room.half_width + _OVERLAP_METRES, room.half_depth + _OVERLAP_METRES
    floor, ceiling = draw_material(rng, 0.5, 0.3, 0.2, 4), draw_material(rng, 0.1, 0.85, 0.05, 2)
    paint = draw_material(rng, 0.1, 0.75, 0.15, 3)
    accent = draw_material(rng, 0.25, 0.45, 0.3, 4) if rng.random() < 0.4 else paint
    parts = [
        Part("rectangle", (0, 0, 0), (half_width, 0.0, half_depth), "floor", floor),
        Part("rectangle", (0, room.height, 0), (half_width, 0.0, half_depth), "ceiling", ceiling),
    ]
    accent_wall = rng.integers(4)
    for wall, (yaw, distance, half_length) in enumerate(_walls(room)):
        half_size = half_length + _OVERLAP_METRES, room.height / 2 + _OVERLAP_METRES
        panel = _panel("wall", accent if wall == accent_wall else paint, *half_size, 0, room.height / 2, -distance)
        parts += _move([panel], 0, 0, yaw)
    return parts


def _draw_fixtures(rng: Generator, room: Room) -> tuple[list[Part], list[Spot]]:
    """Doors, windows and pictures, at most one on each half of a wall; and the floor that doors need to open."""
    parts: list[Part] = []
    thresholds = []
    for yaw, distance, half_length in _walls(room):
        for side in (-1, 1):
            kind = rng.choice(("door", "window", "picture", "nothing"), p=(0.25, 0.3, 0.25, 0.2))
            x = side * half_length / 2 + rng.uniform(-0.1, 0.1)
            z = _LAYER_METRES - distance
            fixture: list[Part] = []
            if kind == "door":
                fixture = _draw_door(rng)
                thresholds.append(Spot(*_turn(x, z + 0.4, yaw), yaw, 0.45, 0.4))
            elif kind == "window":
                fixture = _draw_window(rng, room.height)
            elif kind == "picture":
                fixture = _draw_picture(rng)
            parts += _move(fixture, *_turn(x, z, yaw), yaw)
    return parts, thresholds


def _draw_door(rng: Generator) -> list[Part]:
    frame, leaf = draw_material(rng, 0.4, 0.55, 0.05), draw_material(rng, 0.45, 0.45, 0.1)
    half_width, height = rng.uniform(0.37, 0.46), rng.uniform(1.95, 2.1)
    return [
        _panel("door", frame, half_width + 0.07, height / 2 + 0.035, 0, height / 2 + 0.035, 0),
        _panel("door", leaf, half_width, height / 2, 0, height / 2, _LAYER_METRES),
        furniture.sphere("door", frame, 0.04, (0.8 * half_width, 1.0, 0.04)),
    ]


def _draw_window(rng: Generator, room_height: float) -> list[Part]:
    """A frame about two panes, bright by day and dark by night."""
    frame, pane = draw_material(rng, 0.4, 0.55, 0.05), draw_material(rng, 0, 0.8, 0.2, 3)
    pane = pane._replace(glow=rng.choice((0.1, 0.8, 2.0)))
    half_width, sill, top = rng.uniform(0.4, 0.65), rng.uniform(0.7, 1.1), room_height - rng.uniform(0.15, 0.5)
    middle, half_height = (sill + top) / 2, (top - sill) / 2
    panes = [
        _panel("window", pane, half_width / 2 - 0.05, half_height - 0.06, x, middle, _LAYER_METRES)
        for x in (-half_width / 2, half_width / 2)
    ]
    return [_panel("window", frame, half_width, half_height, 0, middle, 0), *panes]


def _draw_picture(rng: Generator) -> list[Part]:
    frame, canvas = draw_material(rng, 0.5, 0.3, 0.2), draw_material(rng, 0.2, 0.3, 0.5, 6)
    half_width, half_height, middle = rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.45), rng.uniform(1.4, 1.7)
    return [
        _panel("picture", frame, half_width, half_height, 0, middle, 0),
        _panel("picture", canvas, half_width - 0.04, half_height - 0.04, 0, middle, _LAYER_METRES),
    ]


def _furnish(rng: Generator, room: Room, taken: list[Spot]) -> list[Part]:
    """Furniture that keeps clear of the spots in `taken`, to which its own are added."""
    parts: list[Part] = []

    def place(piece: Furniture, draw_spot: Callable[[Generator, Room, Furniture], Spot]) -> Spot | None:
        for _ in range(12):
            spot = draw_spot(rng, room, piece)
            if _inside(spot, room) and not any(spots_overlap(spot, other) for other in taken):
                taken.append(spot)
                parts.extend(_move(piece.parts, *spot[:3]))
                return spot
        return None

    if rng.random() < 0.55:
        place(furniture.draw_bed(rng), _spot_at_wall)
    for _ in range(rng.integers(1, 4)):
        cabinet = furniture.draw_cabinet(rng)
        if spot := place(cabinet, _spot_at_wall):
            parts += _draw_things_on(rng, cabinet, spot)
    for _ in range(rng.integers(1, 3)):
        table = furniture.draw_table(rng)
        if spot := place(table, _spot_anywhere):
            parts += _draw_things_on(rng, table, spot)
            for quarter in rng.permutation(4)[: rng.integers(1, 4)].tolist():
                place(furniture.draw_chair(rng), _spot_beside(spot, quarter))
    for draw, at_most in ((furniture.draw_chair, 2), (furniture.draw_floor_lamp, 2), (furniture.draw_plant, 3)):
        for _ in range(rng.integers(at_most + 1)):
            place(draw(rng), _spot_anywhere if rng.random() < 0.4 else _spot_at_wall)
    for _ in range(rng.integers(1, 5)):
        place(draw_clutter(rng, rng.uniform(0.12, 0.32)), _spot_anywhere)
    if rng.random() < 0.4:
        place(furniture.draw_pendant(rng, room.height), _spot_anywhere)
    if rng.random() < 0.6:
        parts.append(_draw_rug(rng, room))
    return parts


def _draw_things_on(rng: Generator, support: Furniture, spot: Spot) -> list[Part]:
    """Up to three things side by side on top of a piece of furniture that can carry them."""
    if support.top is None:
        return []
    places = max(1, min(3, int(support.half_width / 0.3)))
    half_place = support.half_width * 0.9 / places
    parts = []
    for place in range(places):
        choice = rng.random()
        size = min(half_place, 0.8 * support.half_depth, 0.22)
        if choice < 0.4:
            thing = draw_clutter(rng, rng.uniform(0.5, 1) * size).parts
        elif choice < 0.55 and size > 0.17:
            thing = furniture.draw_table_lamp(rng)
        else:
            continue
        x, z = _turn((2 * place + 1 - places) * half_place, 0, spot.yaw)
        parts += _move(thing, spot.x + x, spot.z + z, spot.yaw + rng.uniform(-0.4, 0.4), support.top)
    return parts


def _draw_rug(rng: Generator, room: Room) -> Part:
    """A rug anywhere on the floor; furniture may stand on it."""
    size = Furniture([], rng.uniform(0.6, 1.2), rng.uniform(0.45, 0.9))
    spot = _spot_anywhere(rng, room, size)
    while not _inside(spot, room):  # the smallest room has space for the largest rug, however it is turned
        spot = _spot_anywhere(rng, room, size)
    material = draw_material(rng, 0.2, 0.2, 0.6, 5)
    half = spot.half_width, 0.0, spot.half_depth
    return Part("rectangle", (spot.x, _LAYER_METRES, spot.z), half, "rug", material, spot.yaw)


def _spot_at_wall(rng: Generator, room: Room, piece: Furniture) -> Spot:
    yaw, distance, half_length = _walls(room)[rng.integers(4)]
    along = rng.uniform(-1, 1) * max(half_length - piece.half_width - 0.02, 0)
    x, z = _turn(along, piece.half_depth + rng.uniform(0.01, 0.05) - distance, yaw)
    return Spot(x, z, yaw, piece.half_width, piece.half_depth)


def _spot_anywhere(rng: Generator, room: Room, piece: Furniture) -> Spot:
    x, z = rng.uniform(-1, 1) * room.half_width, rng.uniform(-1, 1) * room.half_depth
    return Spot(x, z, rng.uniform(-math.pi, math.pi), piece.half_width, piece.half_depth)


def _spot_beside(table: Spot, quarter: int) -> Callable[[Generator, Room, Furniture], Spot]:
    """Draws spots at one of a table's four sides, for a piece that faces the table."""

    def draw_spot(rng: Generator, room: Room, piece: Furniture) -> Spot:
        outwards = table.yaw + quarter * math.pi / 2
        reach = (table.half_depth, table.half_width)[quarter % 2] + piece.half_depth + rng.uniform(0.01, 0.2)
        x, z = _turn(rng.uniform(-0.2, 0.2), reach, outwards)
        yaw = outwards + math.pi + rng.uniform(-0.3, 0.3)
        return Spot(table.x + x, table.z + z, yaw, piece.half_width, piece.half_depth)

    return draw_spot


def _reach(spot: Spot, x: float, z: float) -> float:
    """Half the extent of a spot along the unit vector (x, z)."""
    width_x, width_z = _turn(spot.half_width, 0, spot.yaw)
    depth_x, depth_z = _turn(0, spot.half_depth, spot.yaw)
    return abs(width_x * x + width_z * z) + abs(depth_x * x + depth_z * z)


def _inside(spot: Spot, room: Room) -> bool:
    fits_x = abs(spot.x) + _reach(spot, 1, 0) <= room.half_width
    return fits_x and abs(spot.z) + _reach(spot, 0, 1) <= room.half_depth


def spots_overlap(first: Spot, second: Spot) -> bool:
    """Whether two spots meet: they do not if an edge's direction separates them (separating axis theorem)."""
    dx, dz = second.x - first.x, second.z - first.z
    if math.hypot(dx, dz) > math.hypot(*first[3:]) + math.hypot(*second[3:]):
        return False
    for yaw in (first.yaw, first.yaw + math.pi / 2, second.yaw, second.yaw + math.pi / 2):
        x, z = _turn(1, 0, yaw)
        if abs(dx * x + dz * z) > _reach(first, x, z) + _reach(second, x, z):
            return False
    return True


def _draw_camera(rng: Generator, room: Room) -> Camera:
    """A camera at eye height, away from the walls, that looks roughly across the room and a little down."""
    x, z = 0.0, 0.0
    while math.hypot(x / room.half_width, z / room.half_depth) < 0.5:
        x, z = rng.uniform(-1, 1) * (room.half_width - 0.5), rng.uniform(-1, 1) * (room.half_depth - 0.5)
    towards_x = rng.uniform(-0.35, 0.35) * room.half_width - x
    towards_z = rng.uniform(-0.35, 0.35) * room.half_depth - z
    # The camera looks along its -z, which a yaw turns to (-sin, -cos).
    yaw = math.atan2(-towards_x, -towards_z) + rng.uniform(-0.35, 0.35)
    pitch, roll = rng.uniform(-0.5, 0.06), rng.normal(0, 0.03)
    position = np.array([x, rng.uniform(1.1, 1.8), z])
    focal = 1 / math.tan(math.radians(rng.uniform(50, 75)) / 2)
    return Camera(position.astype(_FLOAT), _rotation(yaw, pitch, roll).astype(_FLOAT), focal)


def _rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """Camera to world: roll about the camera's z, then pitch about its x (up is positive), then yaw about y."""
    cos, sin = math.cos(roll), math.sin(roll)
    rolled = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    cos, sin = math.cos(pitch), math.sin(pitch)
    pitched = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    cos, sin = math.cos(yaw), math.sin(yaw)
    turned = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    return turned @ pitched @ rolled


def _draw_lights(rng: Generator, room: Room) -> Lights:
    """One or two lights below the ceiling."""
    count = int(rng.integers(1, 3))
    x = rng.uniform(-0.7, 0.7, count) * room.half_width
    y = room.height - rng.uniform(0.1, 0.5, count)
    z = rng.uniform(-0.7, 0.7, count) * room.half_depth
    color = rng.uniform(1.5, 4, (count, 1)) * rng.uniform(0.85, 1.15, (count, 3))
    return Lights(np.stack([x, y, z], axis=1).astype(_FLOAT), color.astype(_FLOAT), rng.uniform(0.15, 0.5))


def _assemble(parts: Sequence[Part], lights: Lights, camera: Camera) -> Scene:
    kinds = ("box", "cylinder", "sphere", "rectangle")
    parts = sorted(parts, key=lambda part: kinds.index(part.shape))
    center, half = _vectors(part.center for part in parts), _vectors(part.half for part in parts)
    yaw = np.array([part.yaw for part in parts], _FLOAT)
    boxes, cylinders, spheres, flats = (np.array([part.shape == kind for part in parts]) for kind in kinds)
    solids = (
        Boxes(center[:, boxes], half[:, boxes], yaw[boxes]),
        Cylinders(center[:, cylinders], half[0, cylinders], half[1, cylinders]),
        Spheres(center[:, spheres], half[0, spheres]),
    )
    # The edges of flat parts, which face their own z (upright) or y (lying).
    width, height, depth = half[:, flats]
    nothing = np.zeros_like(width)
    u = rotate_yaw(np.stack([width, nothing, nothing]), yaw[flats])
    v = rotate_yaw(np.stack([nothing, height, depth]), yaw[flats])
    materials = [part.material for part in parts]
    surfaces = Surfaces(
        label=np.array([CLASSES.index(part.label) for part in parts], np.uint8),
        center=center,
        yaw=yaw,
        texture=np.array([furniture.TEXTURES.index(material.texture) for material in materials], np.uint8),
        frequency=_vectors(material.frequency for material in materials),
        phase=_vectors(material.phase for material in materials),
        color=_vectors(material.color for material in materials),
        accent=_vectors(material.accent for material in materials),
        glow=np.array([material.glow for material in materials], _FLOAT),
    )
    return Scene(solids, Rectangles(center[:, flats], u, v), surfaces, lights, camera)


def _vectors(vectors: Iterable[Vector]) -> Floats:
    return np.ascontiguousarray(np.array(list(vectors), _FLOAT).T)
