"""NYU-Depth-v2 in the NYUD_MT layout of Maninis et al., "Attentive Single-Tasking of Multiple Tasks" (CVPR 2019).

    images/ID.jpg         or ID.png, RGB
    segmentation/ID.png   uint8, 0 or 255 unlabelled, 1..40 the classes of Gupta et al. (CVPR 2013)
    depth/ID.npy          float, (H, W), metres; 0, negative or not finite where there is none
    normals/ID.npy        float, (H, W, 3), axes kept as stored; 0 or not finite where there is none
    gt_sets/SPLIT.txt     the ids of train, val and test, one a line

A folder of targets may be absent, and its task with it, but for normals, which are then computed from depth. Other
folders (the published `edge/`) are not read. The published set has no third list, its val being the official test
split, and neither has one whose test list repeats val; validation is then taken from the training list, see
`validation_blocks`.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.nyuv2.classes import FORTY
from mtl.datasets.nyuv2.frame_files import FrameFiles, stored_targets
from mtl.datasets.reading import read_image, read_mask, read_words
from mtl.errors import BadInput
from mtl.tasks import IGNORE

LOOKED_FOR = "images/ and gt_sets/ (NYUD_MT)"
SUFFIX = {"segmentation": ".png", "depth": ".npy", "normals": ".npy"}

# Stored numbers to ours: 1..40 become 0..39, and 0 and 255 are unlabelled.
_OURS = np.full(256, IGNORE, np.uint8)
_OURS[1 : 1 + len(FORTY)] = np.arange(len(FORTY))


def recognise(root: Path) -> bool:
    return (root / "images").is_dir() and (root / "gt_sets").is_dir()


class NyudMT(FrameFiles):
    """The frames that the lists under `root` name; frames may differ in size."""

    layout = "NYUD_MT folder"

    def __init__(self, root: Path, classes: int | None = None) -> None:
        super().__init__(root)
        self.stored = stored_targets(root, {target: target for target in SUFFIX})
        self.choose_tasks(self.stored, 40, classes)
        lists = root / "gt_sets"
        train, val = read_words(lists / "train.txt"), read_words(lists / "val.txt")
        test = read_words(lists / "test.txt") if (lists / "test.txt").exists() else val
        if test == val:
            train, val = self.split_training_list(train, f"file {lists / 'train.txt'}")
        self.ids = {"train": train, "val": val, "test": test}

    def image_file(self, sample_id: str) -> str:
        png = f"images/{sample_id}.png"
        return png if self.listing.has(png) else f"images/{sample_id}.jpg"

    def target_file(self, target: str, sample_id: str) -> str:
        return f"{target}/{sample_id}{SUFFIX[target]}"

    def read_image(self, path: Path) -> NDArray[np.uint8]:
        return read_image(path)

    def read_labels(self, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
        stored = read_mask(path)
        if stored.shape != size:
            raise BadInput(f"file {path}: is of size {stored.shape}; allowed: {size}, as its image")
        outside = stored[(stored > len(FORTY)) & (stored != IGNORE)]
        if outside.size:
            raise BadInput(f"file {path}: holds label {outside[0]}; allowed: 0..{len(FORTY)}, and {IGNORE}")
        return _OURS[stored]
