"""Reading the files of datasets: a damaged file is a BadInput that names it, and nothing is ever unpickled."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from scipy.io import loadmat

from mtl.errors import BadInput

# Images that were resized by a filter with negative lobes go a little beyond 0..1.
OVERSHOOT = 0.1


@contextmanager
def reading(path: Path, form: str) -> Iterator[None]:
    """Whatever is raised in here, as a file of this form is read, becomes a BadInput that names the file."""
    if path.is_fifo():
        raise BadInput(f"file {path}: cannot be read as {form} (a pipe, which would be waited for)")
    try:
        yield
    except BadInput:
        raise
    except Exception as error:  # readers raise whatever damaged bytes lead them to, SyntaxError and KeyError included
        if isinstance(error, UnidentifiedImageError):
            reason = "no known format"
        else:  # what the system says of a file, or the first line of the error
            reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise BadInput(f"file {path}: cannot be read as {form} ({reason})") from error


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file of 8 bits a channel as (H, W, 3) uint8 RGB, whether grey, indexed or in colours; no transparency.

    The pixels as stored: a camera's note to turn the picture is ignored, as targets have no such note.
    """
    return _read_picture(path, "RGB")


def read_mask(path: Path) -> NDArray[np.uint8]:
    """An image file of class numbers or of black and white, as (H, W) uint8, values as stored.

    Indexed colours give their indices, and a grey picture that is stored in colours its grey.
    """
    pixels = _read_picture(path, None)
    if pixels.ndim == 3 and pixels.dtype == np.uint8 and pixels.shape[2] >= 3:
        grey = pixels[..., 0]
        if not (np.array_equal(grey, pixels[..., 1]) and np.array_equal(grey, pixels[..., 2])):
            raise BadInput(f"file {path}: holds colours; allowed for a mask: grey, or indexed colours")
        return np.ascontiguousarray(grey)
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.bool_):
        raise BadInput(f"file {path}: holds {pixels.dtype} {pixels.shape}; allowed: one channel of 8 bits")
    return pixels.astype(np.uint8, copy=False)


def read_numbers(path: Path) -> NDArray[np.uint16]:
    """An image file of one channel of 16 bits, such as a depth in millimetres, as (H, W), values as stored."""
    pixels = _read_picture(path, None)
    # Pillow gives what it knows to have 16 bits as such, and other depths in 32.
    whole = pixels.dtype.kind in "iu" and pixels.dtype.itemsize >= 2
    if pixels.ndim != 2 or not whole or pixels.min() < 0 or pixels.max() > 65_535:
        raise BadInput(f"file {path}: holds {pixels.dtype} {pixels.shape}; allowed: one channel of 16 bits")
    return pixels.astype(np.uint16)


def read_unit_image(path: Path) -> NDArray[np.uint8]:
    """An image (H, W, 3) in a .npy file, RGB in 0..1, as 8 bits a channel."""
    values = checked_map(path, read_npy(path), None, 3)
    lowest, highest = float(values.min()), float(values.max())
    if not (lowest >= -OVERSHOOT and highest <= 1 + OVERSHOOT):
        raise BadInput(f"file {path}: holds colours from {lowest:g} to {highest:g}; allowed: 0..1")
    return np.rint(255 * values.clip(0, 1)).astype(np.uint8)


def read_npy(path: Path) -> NDArray:
    """The array in a .npy file. An array that would have to be unpickled is refused."""
    with reading(path, ".npy"), path.open("rb") as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def read_mat(path: Path, variable: str) -> NDArray:
    """A variable of a MATLAB 5 file, at least two-dimensional as all of MATLAB's."""
    with reading(path, "MATLAB 5"):
        found = loadmat(path, variable_names=[variable])
    if variable not in found:
        raise BadInput(f"file {path}: has no variable {variable}")
    return found[variable]


def read_lines(path: Path) -> list[str]:
    """The lines of a text file in UTF-8."""
    with reading(path, "text"):
        return path.read_text(encoding="utf-8").splitlines()


def read_words(path: Path) -> list[str]:
    """The words of a text file, such as an id on each line. A file without any is refused."""
    words = " ".join(read_lines(path)).split()
    if not words:
        raise BadInput(f"file {path}: is empty; allowed: one or more words")
    return words


def checked_map(
    path: Path, values: NDArray, size: tuple[int, int] | None, channels: int, kinds: Literal["f", "iuf"] = "f"
) -> NDArray:
    """What was read from `path` as (H, W) for one channel, which may be stored as a last axis of 1, else
    (H, W, channels).

    size: (H, W), or None for any. kinds: the letters that numpy has for the allowed types; by default floating point
    alone, as whole numbers are rarely in metres. Raises `BadInput` for another type or shape.
    """
    if values.dtype.kind not in kinds:
        allowed = "floating point" if kinds == "f" else "whole numbers"
        raise BadInput(f"file {path}: holds numbers of type {values.dtype}; allowed: {allowed}")
    shaped = values[..., 0] if channels == 1 and values.ndim == 3 and values.shape[-1] == 1 else values
    last = () if channels == 1 else (channels,)
    if (
        shaped.ndim != 2 + len(last)
        or shaped.shape[2:] != last
        or size not in (None, shaped.shape[:2])
        or not shaped.size
    ):
        height, width = size or ("H", "W")
        allowed = f"({height}, {width}, {channels})" if last else f"({height}, {width}) or ({height}, {width}, 1)"
        raise BadInput(f"file {path}: holds an array of shape {values.shape}; allowed: {allowed}")
    return shaped


def first_outside(values: NDArray, lowest: int, highest: int) -> object:
    """The first value that is not a whole number in lowest..highest (a NaN is none), or None."""
    outside = values[~((values >= lowest) & (values <= highest) & (values == np.floor(values)))]
    return outside[0] if outside.size else None


def _read_picture(path: Path, mode: Literal["RGB"] | None) -> NDArray:
    with reading(path, "an image"), Image.open(path) as image:
        deep = image.mode.startswith(("I", "F"))
        pixels = np.array(image.convert(mode) if mode and not deep else image)
    if mode and deep:  # converted, they would be cut off at 255
        raise BadInput(f"file {path}: holds {pixels.dtype} {pixels.shape}; allowed: 8 bits a channel")
    return pixels
