"""Resizing an image and each kind of target, sizes as (height, width); `mtl.tasks` fixes the targets' forms.

A filter may average colours, but not class numbers, nor a measured depth with the 0 that marks a missing one.
Each function returns its argument as it is when the size is already right.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtl.tasks import Kind

Size = tuple[int, int]

# A vector shorter than this has no direction to trust: see `unit_normals` and `resize_normals`.
SHORTEST = 1e-3


def resize_image(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """An (H, W, 3) image at `size` by Pillow's bilinear filter, which widens as it shrinks and so is antialiased."""
    return image if image.shape[:2] == size else _pillow(image, size, Image.Resampling.BILINEAR)


def resize_classes(classes: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """An (H, W) class map at `size`, each pixel the nearest one, so IGNORE stays IGNORE and no class is made up."""
    return classes if classes.shape == size else _pillow(classes, size, Image.Resampling.NEAREST)


def resize_depth(depth: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """An (H, W) depth map in metres at `size`, each pixel the nearest one, 0 (invalid) included.

    Nearest and not the mean of the valid pixels: at the edge of an object a mean of near and far lies in the empty
    space between them, a depth that nothing in the room has. It also picks the same pixels as `resize_classes`.
    """
    return depth if depth.shape == size else _pillow(depth, size, Image.Resampling.NEAREST)


def resize_normals(normals: NDArray[np.float32], size: Size) -> NDArray[np.float32]:
    """An (H, W, 3) map of unit normals at `size`: the mean over labelled pixels, brought back to unit length.

    The weights are those of `resize_image`. A pixel is unlabelled (all 0) where none under the filter is labelled, or
    their weighted sum is shorter than `SHORTEST`: they cancel, or have next to no weight.
    """
    if normals.shape[:2] == size:
        return normals
    # Unlabelled normals are 0 and add nothing to the sum; its length, and so the weight they take, is divided away.
    return unit_normals(
        np.stack([_pillow(normals[..., c], size, Image.Resampling.BILINEAR) for c in range(3)], axis=-1)
    )


def unit_normals(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Vectors (..., 3) at unit length; all 0 where one is not finite or shorter than `SHORTEST`."""
    exact = vectors.astype(np.float64)
    length = np.linalg.norm(exact, axis=-1, keepdims=True)
    usable = np.isfinite(length) & (length >= SHORTEST)
    return np.where(usable, exact / np.where(usable, length, 1), 0).astype(np.float32)


def resize_target(kind: Kind, target: NDArray, size: Size) -> NDArray:
    """A target of any kind at `size`; a label of the whole image has no pixels and comes back as it is."""
    match kind:
        case "segmentation":
            return resize_classes(target, size)
        case "depth":
            return resize_depth(target, size)
        case "normals":
            return resize_normals(target, size)
        case "classification" | "binary":
            return target


def _pillow(pixels: NDArray, size: Size, resampling: Image.Resampling) -> NDArray:
    height, width = size
    return np.array(Image.fromarray(pixels).resize((width, height), resampling))
