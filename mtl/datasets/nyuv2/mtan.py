"""NYU-Depth-v2 in the layout of Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention" (CVPR 2019).

    {train,val}/image/K.npy    float, (H, W, 3), RGB in 0..1; 288 x 384 as published
    {train,val}/label/K.npy    int or float, (H, W) or (H, W, 1): -1 unlabelled, 0..12 the 13 classes, or 0..39 the 40
    {train,val}/depth/K.npy    float, (H, W) or (H, W, 1), metres; 0, negative or not finite where there is none
    {train,val}/normal/K.npy   float, (H, W, 3), axes kept as stored; 0 or not finite where there is none

K is a frame's number, from 0 in each of the two. LibMTL reads the same files. `val` is the official test split, and
is test here; validation is taken from `train`, see `Nyuv2.choose_ids`. A folder of targets that is absent from train
is an absent task, but for normals, which are then computed from depth.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.nyuv2.classes import NAMES, Classes
from mtl.datasets.nyuv2.dataset import HELD_OUT
from mtl.datasets.nyuv2.frame_files import FrameFiles, stored_targets
from mtl.datasets.reading import checked_map, first_outside, read_npy, read_unit_image
from mtl.errors import BadInput
from mtl.tasks import IGNORE

FOLDER = {"segmentation": "label", "depth": "depth", "normals": "normal"}

# So many label files, spread over train, are looked at to tell 40 classes from 13. Of the 1449 frames, 3 have none of
# the 40 classes beyond the 13th.
LOOKED_AT = 32


class Mtan(FrameFiles):
    """The frames under `root`. Whether labels are of 13 or of 40 classes is told by looking at some of them."""

    layout = "MTAN folder"
    looked_for = "train/image/ and val/image/ (MTAN)"

    @staticmethod
    def recognises(root: Path) -> bool:
        return all((root / part / "image").is_dir() for part in ("train", "val"))

    def __init__(self, root: Path, classes: int | None = None, split: str = HELD_OUT) -> None:
        super().__init__(root)
        self.stored = stored_targets(root / "train", FOLDER)
        listed, test = self._frames("train"), self._frames("val")
        self.choose_tasks(self.stored, self._look_at_labels(listed), classes)
        self.choose_ids(split, listed, test, f"folder {root / 'train'}")

    def file(self, what: str, sample_id: str) -> str:
        part, number = sample_id.split("/")
        return f"{part}/{FOLDER.get(what, what)}/{number}.npy"

    def read_image(self, path: Path) -> NDArray[np.uint8]:
        return read_unit_image(path)

    def read_segmentation(self, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
        stored = checked_map(path, read_npy(path), size, 1, "iuf")
        largest = len(NAMES[self.stored_classes]) - 1
        outside = first_outside(stored, -1, largest)
        if outside is not None:
            why = f", as none of {LOOKED_AT} label files of train goes beyond" if self.stored_classes == 13 else ""
            raise BadInput(f"file {path}: holds label {outside}; allowed: -1..{largest}{why}")
        return np.where(stored < 0, IGNORE, stored).astype(np.uint8)

    def _frames(self, part: str) -> list[str]:
        """The frames that have an image or a target, by number, so that a frame that lacks some of them is found."""
        folders = ("image", *(FOLDER[target] for target in self.stored))
        numbers = {
            name.removesuffix(".npy")
            for folder in folders
            for name in self.listing.names(f"{part}/{folder}")
            if name.endswith(".npy") and name.removesuffix(".npy").isdecimal()
        }
        if not numbers:
            raise self.bad(f"folder {self.root / part} has no frames; allowed: {', '.join(folders)}/K.npy")
        return [f"{part}/{number}" for number in sorted(numbers, key=int)]

    def _look_at_labels(self, frames: Sequence[str]) -> Classes:
        """40 where one of up to `LOOKED_AT` label files has a label of which 13 classes are too few, else 13."""
        if "segmentation" not in self.stored:
            return 40
        for sample_id in frames[:: -(-len(frames) // LOOKED_AT)]:
            try:
                labels = read_npy(self.root / self.file("segmentation", sample_id))
            except BadInput:
                continue  # missing or damaged, which is said where frames are checked or read
            if np.issubdtype(labels.dtype, np.number) and np.any(labels >= len(NAMES[13])):
                return 40
        return 13
