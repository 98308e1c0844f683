"""Layouts that keep a file for each frame and target: reading them, and checking what they hold."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.base import Sample
from mtl.datasets.nyuv2.classes import regroup
from mtl.datasets.nyuv2.dataset import Nyuv2, usable_depth
from mtl.datasets.nyuv2.normals_from_depth import normals_from_depth
from mtl.datasets.reading import read_npy
from mtl.datasets.resize import unit_normals
from mtl.errors import BadInput


class FrameFiles(Nyuv2):
    """A subclass says where a frame's files are, and how images and labels are stored.

    stored: the targets that there are files of, of segmentation, depth and normals; a subclass sets it before use.
    """

    stored: Sequence[str]

    @abstractmethod
    def image_file(self, sample_id: str) -> str:
        """The frame's image, relative to `root`."""

    @abstractmethod
    def target_file(self, target: str, sample_id: str) -> str:
        """The frame's file of a target, relative to `root`."""

    @abstractmethod
    def read_image(self, path: Path) -> NDArray[np.uint8]:
        """An image (H, W, 3), RGB."""

    @abstractmethod
    def read_labels(self, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
        """A class map (H, W) of the stored classes, counted from 0, IGNORE where there is none."""

    def read_depth(self, path: Path, size: tuple[int, int]) -> NDArray[np.floating]:
        """Depth (H, W) in metres."""
        return read_map(path, size, 1)

    def read_normals(self, path: Path, size: tuple[int, int]) -> NDArray[np.floating]:
        """Normals (H, W, 3), of any length."""
        return read_map(path, size, 3)

    def files(self, sample_id: str) -> Sequence[str]:
        return [self.image_file(sample_id), *(self.target_file(target, sample_id) for target in self.stored)]

    def load(self, sample_id: str) -> Sample:
        image = self.read_image(self.root / self.image_file(sample_id))
        size = (image.shape[0], image.shape[1])
        targets: dict[str, NDArray] = {}
        for target in self.stored:
            path = self.root / self.target_file(target, sample_id)
            match target:
                case "segmentation":
                    targets[target] = regroup(self.read_labels(path, size), self.stored_classes, self.classes)
                case "depth":
                    targets[target] = usable_depth(self.read_depth(path, size))
                case "normals":
                    targets[target] = unit_normals(self.read_normals(path, size))
        if self.computes_normals:
            targets["normals"] = normals_from_depth(targets["depth"])
        return Sample(image, targets)


def stored_targets(root: Path, folders: Mapping[str, str]) -> list[str]:
    """The targets whose folders, by target, are under `root`. Raises `BadInput` where there are none."""
    found = [target for target, folder in folders.items() if (root / folder).is_dir()]
    if not found:
        raise BadInput(f"folder {root}: has no targets; allowed: {', '.join(f'{f}/' for f in folders.values())}")
    return found


def read_map(path: Path, size: tuple[int, int] | None, channels: int) -> NDArray[np.floating]:
    """The .npy of floating-point numbers (H, W) for one channel, else (H, W, channels); any size if that is None.

    Raises `BadInput` for another shape, and for whole numbers: depth in them is rarely in metres.
    """
    return checked_map(path, read_npy(path), size, channels)


def checked_map(path: Path, values: NDArray, size: tuple[int, int] | None, channels: int) -> NDArray[np.floating]:
    """As `read_map`, of what has been read from `path`."""
    if not np.issubdtype(values.dtype, np.floating):
        raise BadInput(f"file {path}: holds numbers of type {values.dtype}; allowed: floating point")
    return with_shape(path, values, size, channels)


def with_shape(path: Path, values: NDArray, size: tuple[int, int] | None, channels: int) -> NDArray:
    """What `path` holds as (H, W) for one channel, which may be stored as a last axis of 1, else (H, W, channels).

    Raises `BadInput` for another shape.
    """
    shaped = values[..., 0] if channels == 1 and values.ndim == 3 and values.shape[-1] == 1 else values
    last = () if channels == 1 else (channels,)
    if (
        shaped.ndim != 2 + len(last)
        or shaped.shape[2:] != last
        or not shaped.size
        or size not in (None, shaped.shape[:2])
    ):
        height, width = size or ("H", "W")
        allowed = f"({height}, {width}, {channels})" if last else f"({height}, {width}) or ({height}, {width}, 1)"
        raise BadInput(f"file {path}: holds an array of shape {values.shape}; allowed: {allowed}")
    return shaped
