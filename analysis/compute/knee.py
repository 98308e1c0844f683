"""The knee of a front: where giving up a little of one objective no longer buys much of another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from analysis.pareto import pareto_front


@dataclass(frozen=True)
class Knee:
    """`row` of the points, and its distance from the plane through the front's ends, in units of the front's extent."""

    row: int
    distance: float


def knee_point(points: ArrayLike, maximize: Sequence[bool]) -> Knee | None:
    """The point of the front that lies farthest above the plane through its ends (Das 1999, *On characterizing the
    "knee" of the Pareto curve based on normal-boundary intersection*).

    Each objective is scaled to 0..1 between the worst and the best value on the front, so that the ends of a front of
    two objectives are (0, 1) and (1, 0), and the distance of a point is (Σ scaled values - 1) / √m.

    None where the front has fewer than three different points or bulges nowhere: no point lies above that plane.

    Args:
        points: (n, m), one row per point, one column per objective; dominated points are left out.
        maximize: m booleans, True where more is better.

    Raises:
        BadInput: as `pareto_front`.
    """
    on_front = pareto_front(points, maximize)
    gains = np.asarray(points, dtype=float) * np.where(maximize, 1.0, -1.0)
    front = gains[on_front]
    if len(np.unique(front, axis=0)) < 3:
        return None
    lowest, highest = front.min(axis=0), front.max(axis=0)
    varying = highest > lowest
    scaled = (front[:, varying] - lowest[varying]) / (highest - lowest)[varying]
    distances = (scaled.sum(axis=1) - 1) / math.sqrt(scaled.shape[1])
    farthest = int(distances.argmax())
    # What lies on the plane itself does so but for rounding.
    if distances[farthest] <= 1e-9:
        return None
    return Knee(int(np.flatnonzero(on_front)[farthest]), float(distances[farthest]))
