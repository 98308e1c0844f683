"""Rays against boxes, cylinders, spheres and rectangles, in closed form.

World frame: right-handed, metres, y up. A yaw (radians) turns about y and takes local (x, z) to world
(x cos + z sin, z cos - x sin).

Arrays lead with the vector component: points and directions are (3, ...), and the trailing axes of rays and shapes
broadcast. R rays of (3, R) against P shapes of (3, P, 1) give (P, R); against (3, R), ray i meets shape i alone.

`distance` is the smallest t > 0 for which origin + t * direction lies on the surface, inf for a ray that misses:
metres if the direction is a unit vector, else multiples of its length. The solids are seen from outside only: a ray
that starts inside one misses it. `normal` is the unit outward normal where the ray enters, (3, ...), on the ray's
side for a rectangle, and means nothing for a ray that misses.
"""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Indices = NDArray[np.integer]

Interval = tuple[Floats, Floats]  # the t at which a ray's line enters and leaves a convex set; empty if near > far

# A component of a direction smaller than this counts as parallel; its inverse, times metres, must stay finite.
_PARALLEL = 1e-12


def rotate_yaw(vectors: Floats, yaw: Floats) -> Floats:
    """World components (3, ...) of vectors (3, ...) given in frames turned by `yaw` (...)."""
    x, y, z = vectors
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack(np.broadcast_arrays(x * cos + z * sin, y, z * cos - x * sin))


class Boxes(NamedTuple):
    """Boxes turned about the vertical axis."""

    center: Floats  # (3, P)
    half: Floats  # (3, P) half extents along the box's own axes
    yaw: Floats  # (P,)

    def bounding_radius(self) -> Floats:
        return np.sqrt(_dot(self.half, self.half))

    def distance(self, origin: Floats, direction: Floats) -> Floats:
        return _entry(self._slabs(origin, direction))

    def normal(self, origin: Floats, direction: Floats) -> Floats:
        """The face of entry is the slab entered last."""
        nears = np.stack([near for near, _ in self._slabs(origin, direction)])
        entered_last = np.arange(3).reshape(3, *[1] * (nears.ndim - 1)) == nears.argmax(axis=0)
        local_direction = np.stack(np.broadcast_arrays(*_to_local(direction, self.yaw)))
        return rotate_yaw(np.where(entered_last, -np.sign(local_direction), 0), self.yaw)

    def _slabs(self, origin: Floats, direction: Floats) -> list[Interval]:
        offset = _to_local(tuple(o - c for o, c in zip(origin, self.center, strict=True)), self.yaw)
        return [_slab(*axis) for axis in zip(offset, _to_local(direction, self.yaw), self.half, strict=True)]


class Cylinders(NamedTuple):
    """Upright cylinders with caps."""

    center: Floats  # (3, P)
    radius: Floats  # (P,)
    half_height: Floats  # (P,)

    def bounding_radius(self) -> Floats:
        return np.hypot(self.radius, self.half_height)

    def distance(self, origin: Floats, direction: Floats) -> Floats:
        return _entry([self._side(origin, direction), self._caps(origin, direction)])

    def normal(self, origin: Floats, direction: Floats) -> Floats:
        """Radial where the ray enters through the side, vertical where it enters through a cap."""
        side_near, cap_near = self._side(origin, direction)[0], self._caps(origin, direction)[0]
        x, _, z = (o + side_near * d - c for o, d, c in zip(origin, direction, self.center, strict=True))
        by_side = side_near > cap_near
        out = np.maximum(np.hypot(x, z), _PARALLEL)  # not the radius: the entry of a grazing ray is badly rounded
        up = np.where(by_side, 0, -np.sign(direction[1]))
        return np.stack([np.where(by_side, x / out, 0), up, np.where(by_side, z / out, 0)])

    def _side(self, origin: Floats, direction: Floats) -> Interval:
        (dx, _, dz), x, z = direction, origin[0] - self.center[0], origin[2] - self.center[2]
        return _quadratic(np.maximum(dx * dx + dz * dz, _PARALLEL), x * dx + z * dz, x * x + z * z - self.radius**2)

    def _caps(self, origin: Floats, direction: Floats) -> Interval:
        return _slab(origin[1] - self.center[1], direction[1], self.half_height)


class Spheres(NamedTuple):
    center: Floats  # (3, P)
    radius: Floats  # (P,)

    def bounding_radius(self) -> Floats:
        return self.radius

    def distance(self, origin: Floats, direction: Floats) -> Floats:
        return _entry([self._interval(origin, direction)])

    def normal(self, origin: Floats, direction: Floats) -> Floats:
        near, _ = self._interval(origin, direction)
        entry = np.stack([o + near * d - c for o, d, c in zip(origin, direction, self.center, strict=True)])
        return entry / np.sqrt(_dot(entry, entry))  # not the radius, as for a cylinder

    def _interval(self, origin: Floats, direction: Floats) -> Interval:
        offset = tuple(o - c for o, c in zip(origin, self.center, strict=True))
        return _quadratic(_dot(direction, direction), _dot(offset, direction), _dot(offset, offset) - self.radius**2)


class Rectangles(NamedTuple):
    """Rectangles seen from both sides: center + a u + b v for |a|, |b| <= 1."""

    center: Floats  # (3, P)
    u: Floats  # (3, P) from the centre to the middle of an edge
    v: Floats  # (3, P) the same for the next edge, at a right angle to u

    def bounding_radius(self) -> Floats:
        return np.sqrt(_dot(self.u, self.u) + _dot(self.v, self.v))

    def distance(self, origin: Floats, direction: Floats) -> Floats:
        normal = np.cross(self.u, self.v, axis=0)
        offset = tuple(c - o for c, o in zip(self.center, origin, strict=True))
        t = _dot(normal, offset) / _away_from_zero(_dot(normal, direction))
        point = tuple(t * d - c for d, c in zip(direction, offset, strict=True))
        within_u = np.abs(_dot(self.u, point)) <= _dot(self.u, self.u)
        within_v = np.abs(_dot(self.v, point)) <= _dot(self.v, self.v)
        return np.where((t > 0) & within_u & within_v, t, np.inf)

    def normal(self, origin: Floats, direction: Floats) -> Floats:
        normal = np.cross(self.u, self.v, axis=0)
        return -np.sign(_dot(normal, direction)) * normal / np.sqrt(_dot(normal, normal))


Shapes = Boxes | Cylinders | Spheres | Rectangles
S = TypeVar("S", bound=Shapes)


class Hits(NamedTuple):
    """What each of R rays meets first."""

    distance: Floats  # (R,) inf where there is nothing
    shape: Indices  # (R,) its index, counted through all the groups in their order
    normal: Floats  # (3, R)


def nearest_hits(origin: Floats, direction: Floats, groups: Sequence[Shapes]) -> Hits:
    """The first surface that each ray from one origin (3,) along direction (3, R) meets."""
    rays = direction.shape[1]
    hits = Hits(np.full(rays, np.inf, direction.dtype), np.zeros(rays, dtype=np.intp), np.zeros_like(direction))
    cone = _cone(direction)
    first = 0
    for group in groups:
        candidates = _reached(group, origin, *cone)
        if candidates.size:
            distances = _at(_at(group, candidates), np.newaxis).distance(origin, direction)
            (nearer,) = np.nonzero(distances.min(axis=0) < hits.distance)
            winner = distances[:, nearer].argmin(axis=0)
            hits.distance[nearer] = distances[winner, nearer]
            hits.shape[nearer] = first + candidates[winner]
            hits.normal[:, nearer] = _at(group, candidates[winner]).normal(origin, direction[:, nearer])
        first += group.center.shape[1]
    return hits


def is_blocked(origin: Floats, direction: Floats, groups: Sequence[Shapes]) -> NDArray[np.bool_]:
    """Whether any shape cuts the segment from one origin (3,) to origin + direction (3, R), as (R,)."""
    blocked = np.zeros(direction.shape[1], dtype=bool)
    cone = _cone(direction)
    for group in groups:
        candidates = _at(group, _reached(group, origin, *cone))
        blocked |= (_at(candidates, np.newaxis).distance(origin, direction) < 1).any(axis=0)
    return blocked


def _at(shapes: S, index: Indices | None) -> S:
    """The shapes of an index, or with None a trailing axis to broadcast all of them against rays."""
    return type(shapes)(*(field[..., index] for field in shapes))


def _cone(direction: Floats) -> tuple[Floats, float]:
    """Axis (3,) of a cone that holds all of the directions, and the cosine of the angle from axis to side."""
    units = direction / np.sqrt(_dot(direction, direction))
    axis = units.sum(axis=1)  # 0 if there are no rays, or if they cancel: then the cone is all of space
    axis /= max(float(np.sqrt(_dot(axis, axis))), _PARALLEL)
    return axis, float(_dot(axis, units).min(initial=1))


def _reached(shapes: Shapes, origin: Floats, axis: Floats, cosine: float) -> Indices:
    """The shapes whose bounding sphere meets the cone: the others cannot be hit, and need no exact test."""
    offset = shapes.center - origin[:, np.newaxis]
    along = _dot(axis, offset)
    aside = np.sqrt(np.maximum(_dot(offset, offset) - along**2, 0))
    beyond_side = cosine * aside - np.sqrt(1 - cosine**2) * along
    return np.nonzero(beyond_side <= shapes.bounding_radius())[0]


def _dot(left: Sequence[Floats] | Floats, right: Sequence[Floats] | Floats) -> Floats:
    return left[0] * right[0] + left[1] * right[1] + left[2] * right[2]


def _to_local(vector: Sequence[Floats] | Floats, yaw: Floats) -> Sequence[Floats]:
    """The inverse of `rotate_yaw`, which leaves the components apart for they need not share a shape yet."""
    x, y, z = vector
    cos, sin = np.cos(yaw), np.sin(yaw)
    return x * cos - z * sin, y, z * cos + x * sin


def _away_from_zero(divisor: Floats) -> Floats:
    return np.copysign(np.maximum(np.abs(divisor), _PARALLEL), divisor)


def _slab(origin: Floats, direction: Floats, half: Floats) -> Interval:
    """Where |origin + t direction| <= half."""
    direction = _away_from_zero(direction)
    middle, reach = -origin / direction, half / np.abs(direction)
    return middle - reach, middle + reach


def _quadratic(a: Floats, half_b: Floats, c: Floats) -> Interval:
    """Where a t^2 + 2 half_b t + c <= 0, for a > 0."""
    discriminant = half_b * half_b - a * c
    root = np.sqrt(np.maximum(discriminant, 0))
    misses = discriminant < 0
    return np.where(misses, np.inf, (-half_b - root) / a), np.where(misses, -np.inf, (-half_b + root) / a)


def _entry(intervals: Sequence[Interval]) -> Floats:
    """Where a ray enters what all intervals share, inf where there is nothing ahead of it."""
    nears, fars = zip(*intervals, strict=True)
    near, far = reduce(np.maximum, nears), reduce(np.minimum, fars)
    return np.where((near > 0) & (near <= far), near, np.inf)
