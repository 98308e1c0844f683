"""Cityscapes in small: random images in each of its layouts."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (16, 32)
CITIES = {"train": ("aachen", "bochum", "zurich"), "val": ("frankfurt", "munster")}
BASELINE, FOCAL = 0.209313, 2262.52


@dataclass(frozen=True)
class Street:
    """image (H, W, 3) uint8; ids (H, W) of labels, 0..33; disparity (H, W) uint16 as stored."""

    image: np.ndarray
    ids: np.ndarray
    disparity: np.ndarray


def random_street(seed: int) -> Street:
    rng = np.random.default_rng(seed)
    disparity = rng.integers(0, 32_258, SIZE).astype(np.uint16)
    disparity[0, :4] = 0, 1, 256, 257  # none, 0, just below a pixel, a pixel
    return Street(rng.integers(0, 256, (*SIZE, 3), np.uint8), rng.integers(0, 34, SIZE, np.uint8), disparity)


def write_cityscapes(root: Path, count: int = 3) -> dict[str, Street]:
    """As published, so many images a city; by PART/CITY/NAME."""
    streets = {}
    for part, cities in CITIES.items():
        for city in cities:
            for folder in ("leftImg8bit", "gtFine", "disparity", "camera"):
                (root / folder / part / city).mkdir(parents=True)
            for k in range(count):
                name = f"{part}/{city}/{city}_{k:06d}_000019"
                street = streets[name] = random_street(len(streets))
                Image.fromarray(street.image).save(root / "leftImg8bit" / f"{name}_leftImg8bit.png")
                Image.fromarray(street.ids).save(root / "gtFine" / f"{name}_gtFine_labelIds.png")
                Image.fromarray(np.zeros(SIZE, np.uint8)).save(root / "gtFine" / f"{name}_gtFine_instanceIds.png")
                Image.fromarray(street.disparity).save(root / "disparity" / f"{name}_disparity.png")
                camera = {"extrinsic": {"baseline": BASELINE}, "intrinsic": {"fx": FOCAL, "fy": FOCAL}}
                (root / "camera" / f"{name}_camera.json").write_text(json.dumps(camera))
    return streets


def write_cityscapes_mtan(root: Path, labels: str = "label", train: int = 9, val: int = 2) -> dict[str, np.ndarray]:
    """MTAN's files; the label maps by PART/K, -1..6."""
    maps = {}
    for part, count in (("train", train), ("val", val)):
        for folder in ("image", labels, "depth"):
            (root / part / folder).mkdir(parents=True)
        for k in range(count):
            street = random_street(len(maps))
            maps[f"{part}/{k}"] = street.ids.astype(np.float64) % 8 - 1
            np.save(root / part / "image" / f"{k}.npy", street.image / 255)
            np.save(root / part / labels / f"{k}.npy", maps[f"{part}/{k}"])
            np.save(root / part / "depth" / f"{k}.npy", street.disparity[..., None] / 65_536)
    return maps
