"""What the three layouts of NYU-Depth-v2 share: tasks, class sets, and the validation split."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.file_dataset import FileDataset
from mtl.datasets.nyuv2.classes import NAMES, Classes, choose_classes
from mtl.datasets.nyuv2.normals_from_depth import NOTE, VERSION
from mtl.datasets.nyuv2.validation_blocks import FEWEST, split_off_validation
from mtl.tasks import Task


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

    def split_training_list(self, listed: Sequence[str], where: str) -> tuple[list[str], list[str]]:
        """Training and validation frames of a list that `where` names; BadInput where it is too short for both."""
        train, val = split_off_validation(listed)
        if not val:
            raise self.bad(
                f"{where} has {len(listed)} frames, of which every fifth block of 16 is to validate; "
                f"allowed: {FEWEST} or more"
            )
        return train, val

    def variant(self) -> str:
        return f"normals from depth, version {VERSION}" if self.computes_normals else ""


def usable_depth(depth: NDArray[np.floating]) -> NDArray[np.float32]:
    """Depth with 0 where it is 0, negative or not finite."""
    return np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
