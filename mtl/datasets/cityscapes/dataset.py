"""What the two layouts of Cityscapes share: tasks, units of disparity, and what validates.

The published test split has no labels, so that we test on the published val (500 images), as MTAN, LibMTL and others
do, and validate on a part of the published train (2975), unless the option `split` says otherwise.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mtl.datasets.base import SPLITS
from mtl.datasets.cityscapes.labels import NAMES, choose_classes
from mtl.datasets.file_dataset import FileDataset
from mtl.errors import BadInput
from mtl.tasks import Task

HELD_OUT, PUBLISHED = "held_out", "published"
PUBLISHED_TRAIN, PUBLISHED_TEST = 2975, 500
Unit = Literal["pixels", "mtan"]
# MTAN's files hold the disparity over this. The largest that they have is 0.4922, and the largest of the published
# 16-bit files, where a pixel of disparity is 256, is 32257: each is 126 pixels.
MTAN_PIXELS = 256
UNITS: dict[str, str] = {"pixels": "px", "mtan": f"{MTAN_PIXELS} px"}


class Cityscapes(FileDataset):
    """A subclass reads one of the layouts.

    classes: 19 or 7, see `labels`.
    split: `held_out` validates on images of the published train that are not trained on; `published` trains on all of
    them, as other papers do, and so validates on images that it has seen: for a model that has been chosen before.
    disparity: `pixels` of the images at 2048 x 1024, whatever size they are trained at; or `mtan`, in whose unit the
    numbers of MTAN and LibMTL are, who call it depth.
    """

    name = "cityscapes"

    def __init__(self, root: Path, classes: int = 19, split: str = HELD_OUT, disparity: str = "pixels") -> None:
        super().__init__(root)
        self.classes = choose_classes(classes)
        for option, found, allowed in (("split", split, (HELD_OUT, PUBLISHED)), ("disparity", disparity, tuple(UNITS))):
            if found not in allowed:
                raise BadInput(f"dataset_options.{option}: {found!r}; allowed: {', '.join(allowed)}")
        self.split, self.unit = split, disparity

    def choose_tasks(self, stored: Sequence[str]) -> None:
        """Set the tasks by those of segmentation, disparity and depth that are `stored`."""
        every = (
            Task("segmentation", "segmentation", NAMES[self.classes]),
            Task("disparity", "disparity", unit=UNITS[self.unit]),
            Task("depth", "depth"),
        )
        self.tasks = {task.name: task for task in every if task.name in stored}

    def choose_ids(self, train: Sequence[str], val: Sequence[str], test: Sequence[str]) -> None:
        """Set the splits by the option `split`; `val` are those of the published train that would be held out."""
        self.ids = {"train": list(train), "val": list(val), "test": list(test)}
        self.notes = (f"tested on the published val, and validated on {len(val)} images of the published train",)
        if self.split == PUBLISHED:
            self.ids = {**self.ids, "train": sorted([*train, *val])}
            found = [len(self.ids[split]) for split in SPLITS]
            if (found[0], found[2]) != (PUBLISHED_TRAIN, PUBLISHED_TEST):
                raise BadInput(
                    f"dataset_options.split: {PUBLISHED}, but {self.root} has {found[0]} images to train on and "
                    f"{found[2]} to test on; allowed: {PUBLISHED_TRAIN} and {PUBLISHED_TEST}, or split = {HELD_OUT}"
                )
            self.validates_on_train = True
            told = f"all {found[0]} published training images train; the {found[1]} that validate are among them"
            self.notes = (*self.notes, f"{told}: choose nothing by these")

    def variant(self) -> str:
        return f"{self.classes} classes, disparity in {self.unit}"
