"""Photos as people have them: turned, transparent, of 16 bits or indexed colours, all as 8-bit RGB."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from mtl.datasets.reading import reading
from mtl.errors import BadInput

# 8192 x 8192: more than any usual camera's. The maps of one such photo take 1.3 GB.
MOST_PIXELS = 2**26
BACKGROUND = (255, 255, 255)


def read_photo(path: Path) -> NDArray[np.uint8]:
    """A photo, upright as its camera noted, as (H, W, 3) uint8 RGB; of several pictures in a file the first.

    Grey of 16 bits is scaled to 8, what is transparent shows white. Raises BadInput, which names the file, for one that
    cannot be read, has more than `MOST_PIXELS`, or has floating-point values, whose range nobody knows.
    """
    with reading(path, "an image"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of large pictures and of odd notes in them
        try:
            opened = Image.open(path)
        except Image.DecompressionBombError as error:
            raise BadInput(f"file {path}: is far too large; {_allowed()}") from error
        with opened as image:
            if image.width * image.height > MOST_PIXELS:
                raise BadInput(f"file {path}: has {image.width:,} x {image.height:,} pixels; {_allowed()}")
            image.load()
            return _rgb(path, ImageOps.exif_transpose(image))


def _rgb(path: Path, image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if image.mode.startswith("F") or values.min() < 0 or values.max() > 65535:
            raise BadInput(f"file {path}: holds {values.dtype} of any size; allowed: 8 or 16 bits a channel")
        grey = ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        below = Image.new("RGBA", seen.size, (*BACKGROUND, 255))
        return np.array(Image.alpha_composite(below, seen).convert("RGB"))
    return np.array(image.convert("RGB"))


def _allowed() -> str:
    return f"allowed: at most {MOST_PIXELS / 1e6:.0f} million, such as 8192 x 8192"
