"""A folder in the layout of CelebAMask-HQ with as many files as the published set, and how long it takes to index.

The files are tiny and all different, so what is measured is the work of listing, checking and hashing them.
"""

import os
import struct
import time
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtl.datasets.celebamask_hq.attributes import ATTRIBUTES
from mtl.datasets.celebamask_hq.dataset import ATTRIBUTE_FILE, IMAGES, MASKS, CelebAMaskHQ

# The parts of the published set, and the share of 400 of its images that have each.
SHARE_OF_PART = {
    "skin": 1.0, "nose": 1.0, "u_lip": 1.0, "l_lip": 0.99, "neck": 0.98, "l_eye": 0.98, "r_eye": 0.98, "l_brow": 0.97,
    "r_brow": 0.97, "hair": 0.96, "cloth": 0.6, "mouth": 0.57, "l_ear": 0.53, "r_ear": 0.5, "ear_r": 0.23,
    "eye_g": 0.05, "hat": 0.04, "neck_l": 0.04,
}  # fmt: skip
SIDE = 8
PAGE_CACHE = Path("/proc/sys/vm/drop_caches")


def write_folder(root: Path, images: int = 30000) -> int:
    """Write `images` images with their masks and attributes under `root`; the number of files."""
    (root / IMAGES).mkdir(parents=True)
    starts = range(0, images, 2000)  # the images of one folder of masks
    with ProcessPoolExecutor() as pool:
        written = sum(pool.map(partial(_write_folder_of_masks, root, images), starts))
    rng = np.random.default_rng(0)
    rows = np.where(rng.random((images, len(ATTRIBUTES))) < 0.5, "-1", "1")
    lines = [str(images), " ".join(ATTRIBUTES), *(f"{k}.jpg  {' '.join(row)}" for k, row in enumerate(rows))]
    (root / ATTRIBUTE_FILE).write_text("\n".join(lines) + "\n")
    return written + 1


def index_seconds(root: Path, cold: bool = True) -> dict[str, float | str]:
    """Wall seconds to open the set under `root`, to check it, and to hash its contents; then of all that once more.

    At the second start the hashes are remembered. With `cold` the system's page cache is dropped before either start;
    `cache` is "warm" where that is not asked for or not permitted.
    """
    result: dict[str, float | str] = {}
    with TemporaryDirectory() as memory, mock.patch.dict(os.environ, {"PARSIMONY_CACHE": memory}):
        for start in ("first", "second"):
            result["cache"] = "cold" if cold and drop_page_cache() else "warm"
            times = [time.perf_counter()]
            dataset = CelebAMaskHQ(root)
            times.append(time.perf_counter())
            problems = len(dataset.problems)
            times.append(time.perf_counter())
            dataset.fingerprint()
            times.append(time.perf_counter())
            if problems:
                raise ValueError(f"{root} has {problems} problems, the first {dataset.problems[0]}")
            for name, begin, end in zip(("open", "check", "fingerprint"), times, times[1:], strict=False):
                result[f"{start}_{name}_seconds"] = round(end - begin, 2)
    return result


def drop_page_cache() -> bool:
    """Let the system forget every file that it holds in memory; whether it was permitted (only root's is)."""
    os.sync()
    try:
        PAGE_CACHE.write_text("3")
    except OSError:
        return False
    return True


def _write_folder_of_masks(root: Path, images: int, start: int) -> int:
    """Write the images from `start` that share a folder of masks, and those masks; the number of files."""
    folder = root / MASKS / str(start // 2000)
    folder.mkdir(parents=True)
    rng = np.random.default_rng(start)
    jpeg = BytesIO()
    Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(jpeg, "JPEG")
    written = 0
    for k in range(start, min(start + 2000, images)):
        # What follows the end of a JPEG is ignored: it makes the file one of its own without encoding it anew.
        _write(f"{root}/{IMAGES}/{k}.jpg", jpeg.getvalue() + k.to_bytes(4, "big"))
        written += 1
        for part, share in SHARE_OF_PART.items():
            if part == "skin" or rng.random() < share:
                _write(f"{folder}/{k:05d}_{part}.png", _mask_png(rng.integers(0, 2, (SIDE, SIDE), np.uint8)))
                written += 1
    return written


def _mask_png(mask: NDArray[np.uint8]) -> bytes:
    """A mask of 0 and 1 as a grey PNG of 0 and 255, put together here as Pillow takes ten times as long."""
    height, width = mask.shape
    rows = np.pad(mask * np.uint8(255), ((0, 0), (1, 0)))  # each row begins with its filter, 0: none
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 1)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _write(path: str, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(descriptor, content)
    os.close(descriptor)
