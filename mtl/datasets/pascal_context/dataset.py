"""PASCAL-Context in the layout PASCAL_MT of Maninis, Radosavovic, Kokkinos, "Attentive Single-Tasking of Multiple
Tasks" (CVPR 2019), which MTI-Net and those after it use:

    JPEGImages/ID.jpg                          RGB, sizes differ semseg/VOC12/ID.png                        8 bits, 0 to
    20, 255 unlabelled; where absent semseg/pascal-context/ID.png human_parts/ID.mat
    PASCAL-Part's annotation of the image normals_distill/ID.png                     8 bits for -1..1, predicted by a
    network sal_distill/ID.png                         8 bits, predicted by a network: salient above half
    pascal-context/trainval/ID.mat             `LabelMap`: for edges, and for where normals count
    ImageSets/Context/{train,val}.txt          4998 and 5105 ids, one a line

Any but the images, the lists and one folder of targets may be absent, and their tasks with them. An image without a
labelled person has no label for human parts, as there. The published val is test here, as it is what others report on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat

from mtl.datasets.base import SPLITS, Sample
from mtl.datasets.file_dataset import FileDataset
from mtl.datasets.pascal_context.labels import (
    CLASSES,
    CONTEXT_LABELS,
    HAS_NORMALS,
    PART_OF,
    PARTS,
    PERSON,
    SALIENCY,
    label_edges,
)
from mtl.datasets.reading import checked_map, first_outside, read_image, read_mask, read_mat, read_words, reading
from mtl.datasets.resize import unit_normals
from mtl.errors import BadInput
from mtl.tasks import IGNORE, Task

HELD_OUT, PUBLISHED = "held_out", "published"
PUBLISHED_TRAIN, PUBLISHED_TEST = 4998, 5105
EVERY = 10
CONTEXT = "pascal-context/trainval"
FOLDER = {
    "segmentation": "semseg", "human_parts": "human_parts", "normals": "normals_distill", "saliency": "sal_distill",
    "edges": CONTEXT,
}  # fmt: skip
TASKS = {
    "segmentation": Task("segmentation", "segmentation", CLASSES),
    "human_parts": Task("human_parts", "segmentation", PARTS),
    "normals": Task("normals", "normals"),
    "saliency": Task("saliency", "segmentation", SALIENCY),
    "edges": Task("edges", "edges"),
}


class PascalContext(FileDataset):
    """split: `held_out` validates on every tenth image of the published train; `published` trains on all of them, and
    so validates on images that it has seen: for a model that has been chosen before."""

    name = "pascal_context"
    layout = "PASCAL_MT folder"
    looked_for = "ImageSets/Context/ and JPEGImages/ (PASCAL_MT)"

    @staticmethod
    def recognises(root: Path) -> bool:
        return (root / "ImageSets" / "Context").is_dir()

    def __init__(self, root: Path, split: str = HELD_OUT) -> None:
        super().__init__(root)
        if split not in (HELD_OUT, PUBLISHED):
            raise BadInput(f"dataset_options.split: {split!r}; allowed: {HELD_OUT}, {PUBLISHED}")
        if not self.recognises(root):
            raise self.bad(f"{root} has no layout that is known; looked for {self.looked_for}")
        there = {task for task, folder in FOLDER.items() if (root / folder).is_dir()}
        there -= {"normals"} if "edges" not in there else set()  # without labels it is not known where they count
        if not there:
            raise self.bad(f"{root} has no targets; allowed: {', '.join(f'{one}/' for one in FOLDER.values())}")
        self.tasks = {name: task for name, task in TASKS.items() if name in there}
        lists = root / "ImageSets" / "Context"
        listed, test = read_words(lists / "train.txt"), read_words(lists / "val.txt")
        val = listed[EVERY - 1 :: EVERY] or listed[-1:]
        held = set(val)
        self.ids = {"train": [one for one in listed if one not in held], "val": val, "test": test}
        self.notes = (f"tested on the published val, and validated on {len(val)} images of the published train",)
        if split == PUBLISHED:
            self.ids = {**self.ids, "train": listed}
            found = [len(set(self.ids[one])) for one in SPLITS]
            if (found[0], found[2]) != (PUBLISHED_TRAIN, PUBLISHED_TEST):
                raise BadInput(
                    f"dataset_options.split: {PUBLISHED}, but {lists} names {found[0]} images to train on and "
                    f"{found[2]} to test on; allowed: {PUBLISHED_TRAIN} and {PUBLISHED_TEST}, or split = {HELD_OUT}"
                )
            self.validates_on_train = True
            self.notes = (*self.notes, "those that validate are trained on: choose nothing by them")

    def files(self, sample_id: str) -> Sequence[str]:
        return [f"JPEGImages/{sample_id}.jpg", *self._target_files(sample_id).values()]

    def load(self, sample_id: str) -> Sample:
        path = {task: self.root / file for task, file in self._target_files(sample_id).items()}
        image = read_image(self.root / f"JPEGImages/{sample_id}.jpg")
        targets: dict[str, NDArray] = {}
        if "segmentation" in path:
            targets["segmentation"] = _classes(path["segmentation"])
        if "human_parts" in path:
            targets["human_parts"] = _human_parts(path["human_parts"], image.shape[:2])
        if "edges" in path:
            labels = _labels(path["edges"])
            targets["edges"] = label_edges(labels)
            if "normals" in path:
                normals = checked_map(path["normals"], read_image(path["normals"]).astype(np.float64), labels.shape, 3)
                targets["normals"] = unit_normals(np.where(HAS_NORMALS[labels][..., None], normals / 127.5 - 1, 0))
        if "saliency" in path:
            targets["saliency"] = (read_mask(path["saliency"]) > 127).astype(np.uint8)
        return Sample(image, {task: targets[task] for task in self.tasks})

    def _target_files(self, sample_id: str) -> dict[str, str]:
        voc, context = (f"semseg/{one}/{sample_id}.png" for one in ("VOC12", "pascal-context"))
        files = {
            "segmentation": context if self.listing.has(context) and not self.listing.has(voc) else voc,
            "human_parts": f"human_parts/{sample_id}.mat",
            "normals": f"normals_distill/{sample_id}.png",
            "saliency": f"sal_distill/{sample_id}.png",
            "edges": f"{CONTEXT}/{sample_id}.mat",
        }
        return {task: file for task, file in files.items() if task in self.tasks}


def _classes(path: Path) -> NDArray[np.uint8]:
    classes = read_mask(path)
    outside = first_outside(classes[classes != IGNORE], 0, len(CLASSES) - 1)
    if outside is not None:
        raise BadInput(f"file {path}: holds label {outside}; allowed: 0..{len(CLASSES) - 1}, and {IGNORE}")
    return classes


def _labels(path: Path) -> NDArray[np.intp]:
    """PASCAL-Context's labels, 0..459."""
    labels = checked_map(path, read_mat(path, "LabelMap"), None, 1, "iuf")
    outside = first_outside(labels, 0, CONTEXT_LABELS)
    if outside is not None:
        raise BadInput(f"file {path}: holds label {outside}; allowed: 0..{CONTEXT_LABELS}")
    return labels.astype(np.intp)


def _human_parts(path: Path, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """(H, W) numbers among PARTS; all IGNORE where no person has parts. A later person, or part, goes over the
    earlier."""
    with reading(path, "an annotation of parts in MATLAB 5"):
        objects: Any = loadmat(path, variable_names=["anno"])["anno"]["objects"][0, 0].ravel()
        people = [one["parts"].ravel() for one in objects if int(one["class_ind"].flat[0]) == PERSON]
        masks = [(str(part["part_name"].flat[0]), np.asarray(part["mask"]) != 0) for parts in people for part in parts]
    if not masks:
        return np.full(size, IGNORE, np.uint8)
    parts = np.zeros(masks[0][1].shape, np.uint8)
    for name, mask in masks:
        if name not in PART_OF:
            raise BadInput(f"file {path}: a person has the part {name!r}; allowed: {', '.join(PART_OF)}")
        if mask.ndim != 2 or mask.shape != parts.shape:
            raise BadInput(f"file {path}: the mask of {name} is {mask.shape}; allowed: {parts.shape}, as of the others")
        parts[mask] = PART_OF[name]
    return parts
