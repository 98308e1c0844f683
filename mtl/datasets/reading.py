"""Reading the files of datasets: a damaged one is a BadInput that names it, and nothing is ever unpickled."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from scipy.io import loadmat

from mtl.errors import BadInput


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file of 8 bits a channel as (H, W, 3) uint8 RGB, whether grey, indexed or in colours; no transparency.

    The pixels as stored: a camera's note that the picture is to be turned is not followed, as targets do not have it.
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


def read_npy(path: Path) -> NDArray:
    """The array in a .npy file. One that would have to be unpickled is refused."""
    try:
        with path.open("rb") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:  # damaged headers are tokenised before they are refused, and fail there in many ways
        raise BadInput(f"file {path}: cannot be read as .npy ({_reason(error)})") from error


def read_mat(path: Path, variable: str) -> NDArray:
    """A variable of a MATLAB 5 file, at least two-dimensional as all of MATLAB's."""
    try:
        found = loadmat(path, variable_names=[variable]).get(variable)
    except Exception as error:  # scipy raises whatever its reader stumbles over in a damaged file
        reason = f"{type(error).__name__}: {_reason(error)}"
        raise BadInput(f"file {path}: cannot be read as MATLAB 5 ({reason})") from error
    if found is None:
        raise BadInput(f"file {path}: has no variable {variable}")
    return found


def read_words(path: Path) -> list[str]:
    """The words of a text file, such as ids one a line. A file without any is refused."""
    try:
        words = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"file {path}: cannot be read as text ({_reason(error)})") from error
    if not words:
        raise BadInput(f"file {path}: is empty; allowed: one or more words")
    return words


def _read_picture(path: Path, mode: Literal["RGB"] | None) -> NDArray:
    if path.is_fifo():
        raise BadInput(f"file {path}: cannot be read as an image (a pipe, which would be waited for)")
    try:
        with Image.open(path) as image:
            deep = image.mode.startswith(("I", "F"))
            pixels = np.array(image.convert(mode) if mode and not deep else image)
    except Exception as error:  # a decoder raises whatever damaged bytes lead it to, SyntaxError and KeyError included
        raise BadInput(f"file {path}: cannot be read as an image ({_reason(error)})") from error
    if mode and deep:  # converted, they would be cut off at 255
        raise BadInput(f"file {path}: holds {pixels.dtype} {pixels.shape}; allowed: 8 bits a channel")
    return pixels


def _reason(error: Exception) -> str:
    """The first line of what went wrong, without the path."""
    if isinstance(error, UnidentifiedImageError):
        return "no known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]
