"""An order of points with several objectives: front by front, and inside a front each point far from those before."""

import moocore
import numpy as np
from numpy.typing import NDArray


def pareto_order(costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Order points by non-dominated sorting, and inside a front by an epsilon-net.

    The fronts are those of Deb et al. 2002 (NSGA-II, section III.A). Inside a front the next point is the one that is
    farthest from the points placed before it (Schmucker et al. 2021, arXiv 2106.12639):

        x_{k+1} = argmax_{x in front} min_{j <= k} ‖x - x_j‖₂

    Each objective is scaled to [0, 1] over the front, so units do not matter, and a bad point in a later front does not
    squeeze this one. The first point is the best in the first objective. Of points that are equally far, the one comes
    first that is better in the first objective in which they differ. So the order depends only on the points, not on
    their rows, and does not change if an objective is shifted or multiplied by a positive number.

    With one objective each front is a single value, so this is sorting.

    Args:
        costs: (n, m), one row a point, less is better; m >= 1.

    Returns:
        (n,) places from 0, the best. Equal points share a place. All points with a value that is NaN or infinite share
        the last place.
    """
    places = np.zeros(len(costs), dtype=np.int64)
    finite = np.isfinite(costs).all(axis=1)
    # np.unique sorts the points by their first objective, then by their second, and so on.
    points, which = np.unique(costs[finite], axis=0, return_inverse=True)
    if len(points):
        fronts = moocore.pareto_rank(points)
        order = np.concatenate([_net_order(points, np.flatnonzero(fronts == front)) for front in np.unique(fronts)])
        places[finite] = np.argsort(order)[which.reshape(-1)]
    places[~finite] = len(points)
    return places


def _net_order(points: NDArray[np.float64], front: NDArray[np.int64]) -> NDArray[np.int64]:
    """The front's indices in the order of the epsilon-net, which begins with the first index."""
    span = np.ptp(points[front], axis=0)
    scaled = (points[front] - points[front].min(axis=0)) / np.where(span > 0, span, 1.0)
    chosen = [0]
    distance = np.full(len(front), np.inf)
    while len(chosen) < len(front):
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[chosen[-1]], axis=1))
        # Smaller than any distance: the distance of two close points may be 0 in floating point.
        distance[chosen[-1]] = -1.0
        chosen.append(int(distance.argmax()))
    return front[chosen]
