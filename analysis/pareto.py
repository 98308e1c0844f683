"""Pareto dominance and hypervolume, on arrays. The algorithms are moocore's."""

from collections.abc import Sequence

import moocore
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtl.errors import BadInput


def pareto_front(points: ArrayLike, maximize: Sequence[bool]) -> NDArray[np.bool_]:
    """Which points no other point dominates.

    A point dominates another if it is at least as good in every objective and better in one, so equal points do not
    dominate each other: duplicates of a point of the front are all on it.

    Args:
        points: (n, m), one row per point, one column per objective; n may be 0.
        maximize: m booleans, True where more is better.

    Returns:
        (n,) boolean mask.

    Raises:
        BadInput: other shapes or types, or a value that is NaN or infinite; the row is named.
    """
    values, directions = _checked(points, maximize)
    mask: NDArray[np.bool_] = moocore.is_nondominated(values, maximise=directions, keep_weakly=True)
    return mask


def hypervolume(points: ArrayLike, reference: ArrayLike, maximize: Sequence[bool]) -> float:
    """The volume of the space that is dominated by `points` and is better than `reference` (Zitzler & Thiele 1998).

    Its unit is the product of the objectives' units. Points that are not better than the reference in every objective
    contribute nothing; no points have the volume 0.

    Args:
        points: (n, m), one row per point, one column per objective; n may be 0.
        reference: (m,), in the objectives' own units and directions.
        maximize: m booleans, True where more is better.

    Raises:
        BadInput: other shapes or types, or a value that is NaN or infinite; the row is named.
    """
    values, directions = _checked(points, maximize)
    corner = np.asarray(reference, dtype=float)
    if corner.shape != (values.shape[1],):
        raise BadInput(f"reference has shape {corner.shape}; it must be ({values.shape[1]},), one value per objective")
    if not np.isfinite(corner).all():
        raise BadInput(f"reference is {corner.tolist()}; every value must be finite")
    if len(values) == 0:
        return 0.0
    return float(moocore.hypervolume(values, ref=corner, maximise=directions))


def _checked(points: ArrayLike, maximize: Sequence[bool]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = np.asarray(points, dtype=float)
    directions = np.asarray(maximize)
    if values.ndim != 2 or values.shape[1] == 0:
        raise BadInput(f"points has shape {values.shape}; it must be (n, m), a row per point and m >= 1 objectives")
    if directions.shape != (values.shape[1],) or directions.dtype != bool:
        raise BadInput(f"maximize is {maximize!r}; it must hold {values.shape[1]} booleans, one per objective")
    broken = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(broken):
        raise BadInput(f"row {broken[0]} of points is {values[broken[0]].tolist()}; every value must be finite")
    return values, directions
