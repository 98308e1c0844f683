"""Reading the files of datasets: a damaged one is a BadInput that names it, and nothing is ever unpickled."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat

from mtl.errors import BadInput


def read_image(path: Path) -> NDArray[np.uint8]:
    """An image file as (H, W, 3) uint8 RGB, whatever its colours are stored as."""
    return _read_picture(path, "RGB")


def read_mask(path: Path) -> NDArray[np.uint8]:
    """An image file of class numbers or of black and white, as (H, W) uint8, values as stored."""
    pixels = _read_picture(path, None)
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.bool_):
        raise BadInput(f"file {path}: holds {pixels.dtype} {pixels.shape}; allowed: one channel of 8 bits")
    return pixels.astype(np.uint8)


def read_npy(path: Path) -> NDArray:
    """The array in a .npy file. One that would have to be unpickled is refused."""
    try:
        with path.open("rb") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"file {path}: cannot be read as .npy ({_first_line(error)})") from error


def read_mat(path: Path, variable: str) -> NDArray:
    """A variable of a MATLAB 5 file, at least two-dimensional as all of MATLAB's."""
    try:
        found = loadmat(path, variable_names=[variable]).get(variable)
    except Exception as error:  # scipy raises whatever its reader stumbles over in a damaged file
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise BadInput(f"file {path}: cannot be read as MATLAB 5 ({reason})") from error
    if found is None:
        raise BadInput(f"file {path}: has no variable {variable}")
    return found


def read_words(path: Path) -> list[str]:
    """The words of a text file, such as ids one a line. A file without any is refused."""
    try:
        words = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"file {path}: cannot be read as text ({_first_line(error)})") from error
    if not words:
        raise BadInput(f"file {path}: is empty; allowed: one or more words")
    return words


def _read_picture(path: Path, mode: Literal["RGB"] | None) -> NDArray:
    try:
        with Image.open(path) as image:
            return np.array(image.convert(mode) if mode else image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # Pillow raises SyntaxError for a broken PNG, and OSError for a JPEG that ends too early.
        raise BadInput(f"file {path}: cannot be read as an image ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
