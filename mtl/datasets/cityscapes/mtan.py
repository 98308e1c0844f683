"""Cityscapes as Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention" (CVPR 2019), published it:

    {train,val}/image/K.npy    float, (H, W, 3), RGB in 0..1; 128 x 256 as published
    {train,val}/label/K.npy    float or int, (H, W): -1 unlabelled, 0..6 the 7 classes; or label_7/ and label_19/
    {train,val}/depth/K.npy    float, (H, W) or (H, W, 1): disparity over 256 pixels, 0 where there is none

LibMTL reads the same files. Which image is which of the published ones nobody knows, nor its city: every seventh of
train validates.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.base import Sample
from mtl.datasets.cityscapes.dataset import HELD_OUT, MTAN_PIXELS, Cityscapes
from mtl.datasets.cityscapes.labels import NAMES
from mtl.datasets.reading import checked_map, first_outside, read_npy, read_unit_image
from mtl.errors import BadInput
from mtl.tasks import IGNORE

EVERY = 7


class Mtan(Cityscapes):
    layout = "MTAN folder"
    looked_for = "train/image/ with train/label/, label_7/ or label_19/ (MTAN)"

    @staticmethod
    def recognises(root: Path) -> bool:
        """NYU-v2 has the same folders, and normals too; so by itself only what it never has tells this one."""
        return any((root / "train" / folder).is_dir() for folder in ("label_7", "label_19"))

    @staticmethod
    def could_be(root: Path) -> bool:
        return all((root / part / "image").is_dir() for part in ("train", "val"))

    def __init__(self, root: Path, classes: int = 7, split: str = HELD_OUT, disparity: str = "mtan") -> None:
        super().__init__(root, classes, split, disparity)
        labels = [f"label_{self.classes}", *(["label"] if self.classes == 7 else [])]
        self.labels = next((folder for folder in labels if (root / "train" / folder).is_dir()), "")
        self.has_depth = (root / "train" / "depth").is_dir()
        if not self.labels and not self.has_depth:
            raise self.bad(
                f"{root / 'train'} has no targets; allowed: {', '.join(f'{one}/' for one in labels)}, depth/"
            )
        self.choose_tasks([*(["segmentation"] if self.labels else []), *(["disparity"] if self.has_depth else [])])
        listed = self._frames("train")
        val = listed[EVERY - 1 :: EVERY] or listed[-1:]
        self.choose_ids([one for one in listed if one not in set(val)], val, self._frames("val"))

    def files(self, sample_id: str) -> Sequence[str]:
        part, number = sample_id.split("/")
        folders = ["image", *([self.labels] if self.labels else []), *(["depth"] if self.has_depth else [])]
        return [f"{part}/{folder}/{number}.npy" for folder in folders]

    def load(self, sample_id: str) -> Sample:
        path = dict(zip(("image", *self.tasks), (self.root / file for file in self.files(sample_id)), strict=True))
        image = read_unit_image(path["image"])
        size = (image.shape[0], image.shape[1])
        targets: dict[str, NDArray] = {}
        if "segmentation" in path:
            stored = checked_map(path["segmentation"], read_npy(path["segmentation"]), size, 1, "iuf")
            outside = first_outside(stored, -1, len(NAMES[self.classes]) - 1)
            if outside is not None:
                raise BadInput(
                    f"file {path['segmentation']}: holds label {outside}; allowed: -1..{len(NAMES[self.classes]) - 1}"
                )
            targets["segmentation"] = np.where(stored < 0, IGNORE, stored).astype(np.uint8)
        if "disparity" in path:
            stored = checked_map(path["disparity"], read_npy(path["disparity"]), size, 1)
            known = np.where(np.isfinite(stored) & (stored > 0), stored, 0)
            targets["disparity"] = (known * (1 if self.unit == "mtan" else MTAN_PIXELS)).astype(np.float32)
        return Sample(image, targets)

    def _frames(self, part: str) -> list[str]:
        names = {name.removesuffix(".npy") for name in self.listing.names(f"{part}/image") if name.endswith(".npy")}
        if not (numbers := sorted((name for name in names if name.isdecimal()), key=int)):
            raise self.bad(f"folder {self.root / part / 'image'} has no frames; allowed: K.npy")
        return [f"{part}/{number}" for number in numbers]
