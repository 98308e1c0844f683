"""A small dataset in files with every kind of task, whose labels are known in numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mtl.datasets.base import Sample, Split
from mtl.datasets.file_dataset import FileDataset
from mtl.datasets.reading import read_image, read_mask, read_npy
from mtl.tasks import Task

SIZE = (24, 32)
CLASSES = ("wall", "floor", "lamp")
IDS: Mapping[Split, Sequence[str]] = {"train": ["a", "b", "c"], "val": ["d"], "test": ["e", "f"]}
EVERY = [sample_id for ids in IDS.values() for sample_id in ids]


class LabelledFolder(FileDataset):
    """images/ID.png, classes/ID.png, depth/ID.npy, normals/ID.npy, words/ID.txt with the binary label."""

    name = "labelled"
    layout = "images/, classes/, depth/, normals/, words/"
    notes = ("normals computed from depth",)
    tasks: Mapping[str, Task] = {
        "classes": Task("classes", "segmentation", CLASSES),
        "depth": Task("depth", "depth"),
        "normals": Task("normals", "normals"),
        "smile": Task("smile", "binary"),
    }

    def __init__(self, root: Path, fewer: int = 0) -> None:
        super().__init__(root)
        self.ids = {**IDS, "train": IDS["train"][fewer:]}

    def files(self, sample_id: str) -> Sequence[str]:
        arrays = [f"depth/{sample_id}.npy", f"normals/{sample_id}.npy", f"words/{sample_id}.txt"]
        return [f"images/{sample_id}.png", f"classes/{sample_id}.png", *arrays]

    def load(self, sample_id: str) -> Sample:
        return Sample(
            read_image(self.root / f"images/{sample_id}.png"),
            {
                "classes": read_mask(self.root / f"classes/{sample_id}.png"),
                "depth": read_npy(self.root / f"depth/{sample_id}.npy"),
                "normals": read_npy(self.root / f"normals/{sample_id}.npy"),
                "smile": np.array(int((self.root / f"words/{sample_id}.txt").read_text()), np.uint8),
            },
        )


class OpenFile(LabelledFolder):
    """One that another process cannot be given."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.unsendable = lambda: None


def write_folder(root: Path) -> Path:
    """Each map is 24 x 32: in every image 12 rows of wall, 6 of floor, 6 without a label; the last, f, is all lamp.

    Depths are 1 m on the left half and 4 m on the right, 0 in the first row; normals (0, 0, 1), none in the first row;
    a and d smile, e has no label.
    """
    for folder in ("images", "classes", "depth", "normals", "words"):
        (root / folder).mkdir(parents=True)
    for number, sample_id in enumerate(EVERY):
        image = np.random.default_rng(number).integers(0, 256, (*SIZE, 3), np.uint8)
        classes = np.repeat(np.array([0] * 12 + [1] * 6 + [255] * 6, np.uint8)[:, None], SIZE[1], axis=1)
        depth = np.full(SIZE, 1, np.float32)
        depth[:, 16:], depth[0] = 4, 0
        normals = np.zeros((*SIZE, 3), np.float32)
        normals[1:, :, 2] = 1
        Image.fromarray(image).save(root / f"images/{sample_id}.png")
        Image.fromarray(np.full(SIZE, 2, np.uint8) if sample_id == "f" else classes).save(
            root / f"classes/{sample_id}.png"
        )
        np.save(root / f"depth/{sample_id}.npy", depth)
        np.save(root / f"normals/{sample_id}.npy", normals)
        (root / f"words/{sample_id}.txt").write_text({"a": "1", "d": "1", "e": "255"}.get(sample_id, "0"))
    return root
