"""Cityscapes as it is published:

    leftImg8bit/{train,val}/CITY/CITY_SEQ_FRAME_leftImg8bit.png     RGB, 2048 x 1024
    gtFine/{train,val}/CITY/CITY_SEQ_FRAME_gtFine_labelIds.png      8 bits, ids of labels
    disparity/{train,val}/CITY/CITY_SEQ_FRAME_disparity.png         16 bits p: 0 none, else (p - 1) / 256 pixels
    camera/{train,val}/CITY/CITY_SEQ_FRAME_camera.json              baseline in metres, focal length in pixels

A folder of targets that is absent is an absent task; `depth`, in metres along the optical axis, is baseline x focal
length / disparity and needs the last two. Other folders and other files (instances, polygons, the coarse labels, test)
are not read. Every sixth city of train, in alphabetical order, validates: of all 18 Düsseldorf, Mönchengladbach and
Zürich, 437 images. Cities and not images, as neighbouring images show the same street.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.base import Sample
from mtl.datasets.cityscapes.dataset import HELD_OUT, MTAN_PIXELS, Cityscapes
from mtl.datasets.cityscapes.labels import class_map
from mtl.datasets.reading import read_image, read_mask, read_numbers, reading
from mtl.errors import BadInput

IMAGES = "leftImg8bit"
# The folder of each target, and what its files end in.
TARGETS = {"segmentation": ("gtFine", "_gtFine_labelIds.png"), "disparity": ("disparity", "_disparity.png")}
CAMERA = ("camera", "_camera.json")
EVERY = 6
# A disparity of less than a pixel is noise; it would be farther than about 470 m.
LEAST_PIXELS = 1.0


class Official(Cityscapes):
    layout = f"Cityscapes as published: {IMAGES}/, gtFine/, disparity/, camera/"
    looked_for = f"{IMAGES}/train/ (as published)"

    @staticmethod
    def recognises(root: Path) -> bool:
        return (root / IMAGES).is_dir()

    def __init__(self, root: Path, classes: int = 19, split: str = HELD_OUT, disparity: str = "pixels") -> None:
        super().__init__(root, classes, split, disparity)
        self.stored = [task for task, (folder, _) in TARGETS.items() if (root / folder).is_dir()]
        self.has_depth = "disparity" in self.stored and (root / CAMERA[0]).is_dir()
        if not self.stored:
            raise self.bad(f"{root} has no targets; allowed: gtFine/, disparity/ or both")
        self.choose_tasks([*self.stored, *(["depth"] if self.has_depth else [])])
        cities = self._cities("train")
        if len(cities) < 2:
            raise self.bad(f"{root / IMAGES / 'train'} has {len(cities)} cities; allowed: 2 or more, as one validates")
        held = cities[EVERY - 1 :: EVERY] or cities[-1:]
        self.choose_ids(
            self._images("train", [city for city in cities if city not in held]),
            self._images("train", held),
            self._images("val", self._cities("val")),
        )
        self.notes = (*self.notes, f"cities that validate: {', '.join(held)}")

    def files(self, sample_id: str) -> Sequence[str]:
        targets = [f"{folder}/{sample_id}{end}" for folder, end in (TARGETS[task] for task in self.stored)]
        camera = [f"{CAMERA[0]}/{sample_id}{CAMERA[1]}"] if self.has_depth else []
        return [f"{IMAGES}/{sample_id}_{IMAGES}.png", *targets, *camera]

    def load(self, sample_id: str) -> Sample:
        image, *others = (self.root / file for file in self.files(sample_id))
        path = dict(zip([*self.stored, *(["camera"] if self.has_depth else [])], others, strict=True))
        targets: dict[str, NDArray] = {}
        if "segmentation" in path:
            try:
                targets["segmentation"] = class_map(read_mask(path["segmentation"]), self.classes)
            except BadInput as error:
                if str(error).startswith("file "):
                    raise
                raise BadInput(f"file {path['segmentation']}: {error}") from error
        if "disparity" in path:
            stored = read_numbers(path["disparity"]).astype(np.float32)
            pixels = np.maximum(stored - 1, 0) / 256
            targets["disparity"] = pixels / np.float32(MTAN_PIXELS if self.unit == "mtan" else 1)
            if "camera" in path:
                metres = _baseline_times_focal(path["camera"]) / np.maximum(pixels, LEAST_PIXELS)
                targets["depth"] = np.where(pixels >= LEAST_PIXELS, metres, 0).astype(np.float32)
        return Sample(read_image(image), targets)

    def _cities(self, part: str) -> list[str]:
        folder = self.root / IMAGES / part
        try:
            return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        except OSError as error:
            raise self.bad(f"{folder} cannot be listed ({error.strerror}); expected {self.layout}") from error

    def _images(self, part: str, cities: Sequence[str]) -> list[str]:
        end = f"_{IMAGES}.png"
        return [
            f"{part}/{city}/{name.removesuffix(end)}"
            for city in cities
            for name in sorted(self.listing.names(f"{IMAGES}/{part}/{city}"))
            if name.endswith(end)
        ]


def _baseline_times_focal(path: Path) -> float:
    """Metres times pixels."""
    with reading(path, "a camera in JSON"):
        camera = json.loads(path.read_text(encoding="utf-8"))
        product = float(camera["extrinsic"]["baseline"]) * float(camera["intrinsic"]["fx"])
    if not 0 < product < np.inf:
        raise BadInput(f"file {path}: baseline x fx is {product:g}; allowed: above 0")
    return product
