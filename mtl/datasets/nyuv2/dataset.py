"""What the layouts of NYU-Depth-v2 share: tasks, class sets, normals from depth, and the validation split."""

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.base import SPLITS, Sample
from mtl.datasets.file_dataset import FileDataset
from mtl.datasets.nyuv2.classes import NAMES, Classes, choose_classes, regroup
from mtl.datasets.nyuv2.normals_from_depth import NOTE, VERSION, normals_from_depth
from mtl.datasets.resize import unit_normals
from mtl.errors import BadInput
from mtl.tasks import Kind, Task

# The recipe's option `split`: frames of the published training list are held out to validate, or all of them train.
HELD_OUT, PUBLISHED = "held_out", "published"
SPLIT_OPTIONS = (HELD_OUT, PUBLISHED)
# Frames that the published split trains and tests on.
PUBLISHED_TRAIN, PUBLISHED_TEST = 795, 654
# Every fifth block of 16 frames validates; with fewer frames than this there is no fifth block.
BLOCK, EVERY = 16, 5
FEWEST = BLOCK * (EVERY - 1) + 1


class Nyuv2(FileDataset):
    """NYU-Depth-v2, Silberman, Hoiem, Kohli, Fergus, "Indoor Segmentation and Support Inference from RGBD Images"
    (ECCV 2012), with semantic classes, depth and surface normals; a subclass reads one of its layouts.

    Depth is in metres along the optical axis. Stored normals keep the axes that they are stored in. Where none are
    stored they are computed from depth, which `notes` says.
    """

    name = "nyuv2"

    @abstractmethod
    def load_stored(self, sample_id: str) -> tuple[NDArray[np.uint8], Mapping[str, NDArray]]:
        """The image and the stored targets: labels among the stored classes, depth and normals of any values."""

    def load(self, sample_id: str) -> Sample:
        image, stored = self.load_stored(sample_id)
        targets = dict(stored)
        if "segmentation" in stored:
            targets["segmentation"] = regroup(stored["segmentation"], self.stored_classes, self.classes)
        if "depth" in stored:
            depth = stored["depth"]
            targets["depth"] = np.where(np.isfinite(depth) & (depth > 0), depth, 0).astype(np.float32)
        if "normals" in stored:
            targets["normals"] = unit_normals(stored["normals"])
        elif "depth" in stored:
            targets["normals"] = normals_from_depth(targets["depth"])
        return Sample(image, targets)

    def choose_tasks(self, stored: Collection[str], stored_classes: Classes, option: int | None) -> None:
        """Set tasks, classes and notes by the targets that are `stored` and the recipe's option `classes`."""
        self.stored_classes = stored_classes
        self.classes = choose_classes(stored_classes, option)
        self.computes_normals = "depth" in stored and "normals" not in stored
        kinds: tuple[Kind, ...] = ("segmentation", "depth", "normals")
        given = {*stored, "normals"} if self.computes_normals else {*stored}
        names = NAMES[self.classes]
        self.tasks = {
            kind: Task(kind, kind, names if kind == "segmentation" else ()) for kind in kinds if kind in given
        }
        self.notes = (NOTE,) if self.computes_normals else ()

    def choose_ids(
        self, split: str, listed: Sequence[str], test: Sequence[str], where: str, val: Sequence[str] = ()
    ) -> None:
        """Set the splits by the recipe's option `split` from the lists that `where` names.

        listed: the frames to train on, before any is held out. val: those to validate on where there is such a list,
        by default those that `split_off_validation` takes from `listed`. Raises BadInput where there are too few to
        validate on, for an option that is not known, and for `published` where the lists are not those.
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
            self.ids = {**self.ids, "train": [*train, *val]}
            counts = [len({*self.ids[each]}) for each in SPLITS]
            if (counts[0], counts[2]) != (PUBLISHED_TRAIN, PUBLISHED_TEST):
                raise BadInput(
                    f"dataset_options.split: {PUBLISHED}, but {where} leads to {counts[0]} frames to train on and "
                    f"{counts[2]} to test on; allowed: {PUBLISHED_TRAIN} and {PUBLISHED_TEST}, or split = {HELD_OUT}"
                )
            self.validates_on_train = True
            told = f"all {counts[0]} published training frames train; the {counts[1]} that validate are among them"
            self.notes = (*self.notes, f"{told}: choose nothing by these")

    def variant(self) -> str:
        return f"normals from depth, version {VERSION}" if self.computes_normals else ""


def split_off_validation(listed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Training and validation frames of a training list: every fifth block of 16 validates.

    Blocks and not single frames, as neighbours in the list show the same room, and a network that has seen one would
    be tested on what it knows. Validation is empty where the list has fewer than `FEWEST` frames.
    """
    frames: tuple[list[str], list[str]] = ([], [])
    for place, frame in enumerate(listed):
        frames[place // BLOCK % EVERY == EVERY - 1].append(frame)
    return frames
