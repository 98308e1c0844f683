"""An order of points with several objectives: front by front, and inside a front well spread from its first on."""

import moocore
import numpy as np
from numpy.typing import NDArray


def pareto_order(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Place points by non-dominated sorting, and inside a front by an epsilon-net.

    The fronts are those of Deb et al. 2002 (NSGA-II, section III.A). Inside a front, as Schmucker et al. 2021
    (arXiv 2106.12639) have it, the next point is the one farthest from those placed before:

        x_{k+1} = argmax_{x in front} min_{j <= k} ‖x - x_j‖₂

    with each objective scaled to [0, 1] over the front, so that no unit counts and a bad point of a later front,
    however far off, does not squeeze this one. The first is the best in the first objective; of points equally far the
    one that is better in the first objective in which they differ. So the order depends on the points alone, not on
    their rows, and does not change when an objective is shifted or multiplied by a positive number.

    With one objective every front is a single value: this is sorting.

    Args:
        costs: (n, m), one row a point, less is better; m >= 1.

    Returns:
        (n,) places from 0, the best. Equal points share a place, and so do all points with a value that is NaN or
        infinite: the last.
    """
    places = np.zeros(len(costs), dtype=np.int64)
    finite = np.isfinite(costs).all(axis=1)
    # np.unique sorts the points by their first objective, then by their second, and so on.
    points, which = np.unique(costs[finite], axis=0, return_inverse=True)
    if len(points):
        fronts = moocore.pareto_rank(points)
        order = np.concatenate([_spread(points, np.flatnonzero(fronts == front)) for front in np.unique(fronts)])
        places[finite] = np.argsort(order)[which.reshape(-1)]
    places[~finite] = len(points)
    return places


def _spread(points: NDArray[np.float64], front: NDArray[np.int64]) -> NDArray[np.int64]:
    """The front's indices in the epsilon-net's order, from the first of them on."""
    span = np.ptp(points[front], axis=0)
    scaled = (points[front] - points[front].min(axis=0)) / np.where(span > 0, span, 1.0)
    chosen = [0]
    distance = np.full(len(front), np.inf)
    while len(chosen) < len(front):
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[chosen[-1]], axis=1))
        # Below any distance: two points may be so close that theirs is 0 in floating point.
        distance[chosen[-1]] = -1.0
        chosen.append(int(distance.argmax()))
    return front[chosen]
