"""What the three layouts of NYU-Depth-v2 share: tasks, class sets, and the validation split."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.base import SPLITS
from mtl.datasets.file_dataset import FileDataset
from mtl.datasets.nyuv2.classes import NAMES, Classes, choose_classes
from mtl.datasets.nyuv2.normals_from_depth import NOTE, VERSION
from mtl.datasets.nyuv2.validation_blocks import FEWEST, split_off_validation
from mtl.errors import BadInput
from mtl.tasks import Task

# The recipe's option `split`: frames of the published training list are held out to validate, or all of them train.
HELD_OUT, PUBLISHED = "held_out", "published"
SPLIT_OPTIONS = (HELD_OUT, PUBLISHED)
# Frames that the published split trains and tests on.
PUBLISHED_TRAIN, PUBLISHED_TEST = 795, 654


class Nyuv2(FileDataset):
    """NYU-Depth-v2, Silberman, Hoiem, Kohli, Fergus, "Indoor Segmentation and Support Inference from RGBD Images"
    (ECCV 2012), with semantic classes, depth and surface normals; a subclass reads one of its layouts.

    Depth is in metres along the optical axis. Stored normals keep the axes that they are stored in. Where none are
    stored they are computed from depth, which `notes` says.
    """

    name = "nyuv2"

    def choose_tasks(self, stored: Collection[str], stored_classes: Classes, option: int | None) -> None:
        """Set tasks, classes and notes by the targets that are `stored` and the recipe's option `classes`."""
        self.stored_classes = stored_classes
        self.classes = choose_classes(stored_classes, option)
        self.computes_normals = "depth" in stored and "normals" not in stored
        every = (
            Task("segmentation", "segmentation", NAMES[self.classes]),
            Task("depth", "depth"),
            Task("normals", "normals"),
        )
        given = {*stored, "normals"} if self.computes_normals else {*stored}
        self.tasks = {task.name: task for task in every if task.name in given}
        self.notes = (NOTE,) if self.computes_normals else ()

    def choose_ids(
        self, split: str, listed: Sequence[str], test: Sequence[str], where: str, val: Sequence[str] = ()
    ) -> None:
        """Set the splits by the recipe's option `split` from the lists that `where` names.

        listed: the frames to train on, before any is held out. val: those to validate on where there is such a list,
        by default `validation_blocks` of `listed`. Raises BadInput where there are too few to validate on, for an
        option that is not known, and for `published` where the lists are not those.
        """
        if split not in SPLIT_OPTIONS:
            raise BadInput(f"dataset_options.split: {split!r}; allowed: {', '.join(SPLIT_OPTIONS)}")
        train = list(listed)
        if not val:
            train, val = split_off_validation(listed)
        if not val:
            raise self.bad(
                f"{where} has {len(listed)} frames, of which every fifth block of 16 is to validate; "
                f"allowed: {FEWEST} or more"
            )
        self.ids = {"train": train, "val": list(val), "test": list(test)}
        if split == PUBLISHED:
            self._train_on_validation(where)

    def _train_on_validation(self, where: str) -> None:
        """Add the validation frames to the training ones. Raises BadInput where these are not those published."""
        self.ids = {**self.ids, "train": [*self.ids["train"], *self.ids["val"]]}
        train, val, test = (len({*self.ids[split]}) for split in SPLITS)
        if (train, test) != (PUBLISHED_TRAIN, PUBLISHED_TEST):
            raise BadInput(
                f"dataset_options.split: {PUBLISHED}, but {where} leads to {train} frames to train on and {test} to "
                f"test on; allowed: {PUBLISHED_TRAIN} and {PUBLISHED_TEST}, or split = {HELD_OUT}"
            )
        self.validates_on_train = True
        self.notes = (
            *self.notes,
            f"all {train} published training frames train; the {val} that validate are among them: choose nothing by "
            "these",
        )

    def variant(self) -> str:
        return f"normals from depth, version {VERSION}" if self.computes_normals else ""


def usable_depth(depth: NDArray[np.floating]) -> NDArray[np.float32]:
    """Depth with 0 where it is 0, negative or not finite."""
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
