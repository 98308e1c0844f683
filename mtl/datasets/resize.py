"""Resizing an image and each kind of target, sizes as (height, width); `mtl.tasks` fixes the targets' forms.

A filter may average colours, but not class numbers, nor measured depth with the 0 that marks missing depth.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtl.tasks import IGNORE, Kind

Size = tuple[int, int]

# A vector shorter than this has no direction to trust: see `unit_normals` and `resize_target`.
SHORTEST = 1e-3


def resize_image(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """An (H, W, 3) image at `size` by Pillow's bilinear filter, which widens as it shrinks and so is antialiased."""
    return image if image.shape[:2] == size else _pillow(image, size, Image.Resampling.BILINEAR)


def resize_target(kind: Kind, target: NDArray, size: Size) -> NDArray:
    """A target of any kind at `size`; a label of the whole image has no pixels and stays the same.

    Classes and depth: each pixel is the nearest one, so unlabelled pixels stay unlabelled and no class is made up. For
    depth the mean of the valid pixels would be worse: at the edge of an object a mean of near and far lies in the empty
    space between them, a depth that nothing in the room has.

    Edges are lines that the nearest pixel would miss: as a map shrinks, a pixel is on an edge where any of those that
    it stands for is, and unlabelled where none of them has a label. Each stored pixel counts for one pixel.

    Normals: the mean over labelled pixels with the weights of `resize_image`, brought back to unit length. A pixel is
    unlabelled (all 0) where none under the filter is labelled, or their weighted sum is shorter than `SHORTEST`: they
    cancel, or have next to no weight.
    """
    if not target.ndim or target.shape[:2] == size:
        return target
    if kind == "edges":
        return _resize_edges(target, size)
    if kind != "normals":
        return _pillow(target, size, Image.Resampling.NEAREST)
    # Unlabelled normals are 0 and add nothing to the sum; its length, and so the weight they take, is divided away.
    channels = [_pillow(target[..., c], size, Image.Resampling.BILINEAR) for c in range(3)]
    return unit_normals(np.stack(channels, axis=-1))


def unit_normals(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Vectors (..., 3) at unit length; all 0 where they are not finite or shorter than `SHORTEST`."""
    exact = vectors.astype(np.float64)
    length = np.linalg.norm(exact, axis=-1, keepdims=True)
    usable = np.isfinite(length) & (length >= SHORTEST)
    return np.where(usable, exact / np.where(usable, length, 1), 0).astype(np.float32)


def _resize_edges(target: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """(H, W) of 0, 1 and IGNORE at `size`; along a side that grows, each pixel is the nearest one."""
    rank = np.where(target == IGNORE, 0, target + 1)
    for axis, length in enumerate(size):
        old = rank.shape[axis]
        if length >= old:
            nearest = ((np.arange(length) + 0.5) * old / length).astype(np.intp)
            rank = rank.take(nearest, axis)
        else:
            cell = ((np.arange(old) + 0.5) * length / old).astype(np.intp)
            rank = np.maximum.reduceat(rank, np.searchsorted(cell, np.arange(length)), axis)
    return np.where(rank == 0, IGNORE, rank - 1).astype(np.uint8)


def _pillow(pixels: NDArray, size: Size, resampling: Image.Resampling) -> NDArray:
    return np.array(Image.fromarray(pixels).resize(size[::-1], resampling))
