"""Surface normals from a depth map, for layouts that have none.

A plane n . (x, y, z) = d seen by a pinhole camera has n . (x/z, y/z, 1) / d = 1/z: inverse depth is linear in the
pixel's position, exactly, and its three coefficients are the normal up to length. So they are the least-squares fit
of inverse depth in a square window, in which, too, the error of a structured-light sensor is the same near and far.

Near an edge the window centred on a pixel holds two surfaces. Of the nine windows that are centred on the pixel, or
have it on their edge or corner, the window that a plane fits best is taken (the idea of Kuwahara's filter). The
centred window is preferred unless another is twice as good.

Normals are in the camera's frame, x right, y down, z forward, and point to the camera: a wall that it faces squarely
has (0, 0, -1), a floor about (0, -1, 0).
"""

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

# Goes up whenever the normals change; datasets that compute them have it in their fingerprint.
VERSION = 1
NOTE = "normals are computed from depth by fitting planes (x right, y down, z forward, pointing to the camera)"

# The window reaches this share of the image's width to each side: 13 pixels of 640.
RADIUS_SHARE = 1 / 50
# Below this share of pixels with a depth a window is not used.
SMALLEST_SHARE = 0.5
# A fit whose root mean square error in inverse depth, relative to the pixel's own, is larger is no surface.
LARGEST_ERROR = 0.05
# A window off the centre is taken where its error is below this share of the centred one's.
CLEARLY_BETTER = 0.5

# The colour camera, to which the depth maps are registered:
# camera_params.m of the dataset's toolbox (Silberman, Hoiem, Kohli, Fergus, ECCV 2012), in pixels of 640 x 480.
WIDTH, HEIGHT = 640, 480
FOCAL_X, FOCAL_Y = 518.857901, 519.469611
CENTER_X, CENTER_Y = 325.582449, 253.736166

# Gupta et al. (CVPR 2013), and NYUD_MT after them, cut away the border that has no depth: this size is left, and
# this many pixels went at the top and at the left.
CROPPED = (425, 560)
CROP_TOP, CROP_LEFT = 45, 40


Map = NDArray[np.float64]


def normals_from_depth(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit normals (H, W, 3) of a depth map (H, W) in metres, z-depth of NYU-v2's camera, 0 where there is none.

    A normal is all 0 where the pixel has no depth, or where no window that it lies in is close to a plane.
    """
    radius = max(1, round(depth.shape[1] * RADIUS_SHARE))
    planes, error = _fit_planes(depth, radius)
    planes, error = _best_window(planes, error, radius)
    usable = (depth > 0) & (error * np.where(depth > 0, depth, 1) <= LARGEST_ERROR)
    length = np.sqrt((planes**2).sum(axis=0))
    # The plane's coefficients point away from the camera, as inverse depth is positive.
    return np.where(usable, -planes / np.where(usable, length, 1), 0).transpose(1, 2, 0).astype(np.float32)


def pixel_rays(size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x / z of each column (W,) and y / z of each row (H,) in a frame of `size` (height, width); x right, y down.

    A frame of size `CROPPED` is the cut one; one of any other size is the whole frame, resized.
    """
    height, width = size
    columns, rows = np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)
    if size == CROPPED:
        columns, rows = columns + CROP_LEFT, rows + CROP_TOP
    else:
        # Resizing keeps the frame's edges, half a pixel outside of the centres of the outermost pixels, in place.
        columns, rows = (columns + 0.5) * WIDTH / width - 0.5, (rows + 0.5) * HEIGHT / height - 0.5
    return (columns - CENTER_X) / FOCAL_X, (rows - CENTER_Y) / FOCAL_Y


def _fit_planes(depth: NDArray[np.float32], radius: int) -> tuple[Map, Map]:
    """For the window centred on each pixel: the coefficients (3, H, W) of inverse depth over (x/z, y/z, 1), and the
    root mean square error (H, W) of the fit, infinite where there is none."""
    known = (depth > 0).astype(np.float64)
    inverse = known / np.where(depth > 0, depth, 1)
    x, y = pixel_rays((depth.shape[0], depth.shape[1]))
    x, y = x[np.newaxis], y[:, np.newaxis]

    share = _window_mean(known, radius)
    fitted = share >= SMALLEST_SHARE
    weight = 1 / np.where(fitted, share, 1)

    def mean(values: Map) -> Map:
        """Over the window's pixels that have a depth, of values that are 0 at the others."""
        return _window_mean(values, radius) * weight

    known_x, known_y, inverse_x = known * x, known * y, inverse * x
    mean_x, mean_y, mean_inverse = mean(known_x), mean(known_y), mean(inverse)
    xx, xy, yy = mean(known_x * x) - mean_x**2, mean(known_x * y) - mean_x * mean_y, mean(known_y * y) - mean_y**2
    xi, yi = mean(inverse_x) - mean_x * mean_inverse, mean(inverse * y) - mean_y * mean_inverse
    ii = mean(inverse**2) - mean_inverse**2

    determinant = xx * yy - xy**2
    # Pixels with depth in one row or column alone leave the plane's tilt open.
    fitted &= determinant > 1e-6 * xx * yy
    determinant = np.where(fitted, determinant, 1)
    slope_x, slope_y = (xi * yy - yi * xy) / determinant, (yi * xx - xi * xy) / determinant
    planes = np.stack([slope_x, slope_y, mean_inverse - slope_x * mean_x - slope_y * mean_y])
    squared = np.maximum(ii - slope_x * xi - slope_y * yi, 0)  # rounding makes a perfect fit's slightly negative
    return planes, np.where(fitted, np.sqrt(squared), np.inf)


def _best_window(planes: Map, error: Map, radius: int) -> tuple[Map, Map]:
    """For each pixel the plane and the error of the best of the nine windows around it."""
    height, width = error.shape
    best = error * CLEARLY_BETTER
    rows, columns = np.indices((height, width), dtype=np.int32)
    for down, right in product((-radius, 0, radius), repeat=2):
        if down == right == 0:
            continue
        here = (slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right)))
        there = (slice(max(0, down), height - max(0, -down)), slice(max(0, right), width - max(0, -right)))
        better = error[there] < best[here]
        best[here] = np.where(better, error[there], best[here])
        rows[here] = np.where(better, np.arange(height, dtype=np.int32)[there[0], np.newaxis], rows[here])
        columns[here] = np.where(better, np.arange(width, dtype=np.int32)[np.newaxis, there[1]], columns[here])
    return planes[:, rows, columns], error[rows, columns]


def _window_mean(values: Map, radius: int) -> Map:
    """Mean of a (2 radius + 1)² window; what lies outside the image counts as 0."""
    return uniform_filter(values, 2 * radius + 1, mode="constant")
