"""Layouts that keep a file for each frame and target."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.nyuv2.dataset import Nyuv2
from mtl.datasets.reading import checked_map, read_npy
from mtl.errors import BadInput


class FrameFiles(Nyuv2):
    """A subclass says where a frame's files are, and how they are stored.

    stored: the targets that have files, of segmentation, depth and normals; a subclass sets it before use.
    """

    stored: Sequence[str]

    @abstractmethod
    def file(self, what: str, sample_id: str) -> str:
        """The frame's file of a target or of the "image", relative to `root`."""

    @abstractmethod
    def read_image(self, path: Path) -> NDArray[np.uint8]:
        """An image (H, W, 3), RGB."""

    @abstractmethod
    def read_segmentation(self, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
        """A class map (H, W) of the stored classes, counted from 0, IGNORE where there is none."""

    def read_depth(self, path: Path, size: tuple[int, int]) -> NDArray[np.floating]:
        """Depth (H, W) in metres."""
        return checked_map(path, read_npy(path), size, 1)

    def read_normals(self, path: Path, size: tuple[int, int]) -> NDArray[np.floating]:
        """Normals (H, W, 3), of any length."""
        return checked_map(path, read_npy(path), size, 3)

    def files(self, sample_id: str) -> Sequence[str]:
        return [self.file(what, sample_id) for what in ("image", *self.stored)]

    def load_stored(self, sample_id: str) -> tuple[NDArray[np.uint8], Mapping[str, NDArray]]:
        image = self.read_image(self.root / self.file("image", sample_id))
        read = {"segmentation": self.read_segmentation, "depth": self.read_depth, "normals": self.read_normals}
        size = (image.shape[0], image.shape[1])
        return image, {what: read[what](self.root / self.file(what, sample_id), size) for what in self.stored}


def stored_targets(root: Path, folders: Mapping[str, str]) -> list[str]:
    """The targets whose folders, by target, are under `root`. Raises `BadInput` where there are none."""
    found = [target for target, folder in folders.items() if (root / folder).is_dir()]
    if not found:
        raise BadInput(f"folder {root}: has no targets; allowed: {', '.join(f'{f}/' for f in folders.values())}")
    return found
