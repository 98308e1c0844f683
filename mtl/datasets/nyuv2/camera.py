"""The colour camera of NYU-Depth-v2, to which its depth maps are registered."""

import numpy as np
from numpy.typing import NDArray

# camera_params.m of the dataset's toolbox (Silberman, Hoiem, Kohli, Fergus, ECCV 2012), in pixels of 640 x 480.
WIDTH, HEIGHT = 640, 480
FOCAL_X, FOCAL_Y = 518.857901, 519.469611
CENTER_X, CENTER_Y = 325.582449, 253.736166

# Gupta et al. (CVPR 2013), and NYUD_MT after them, cut away the border that has no depth: this size is left, and
# this many pixels went at the top and at the left.
CROPPED = (425, 560)
CROP_TOP, CROP_LEFT = 45, 40


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
