"""NYU-Depth-v2 in the NYUD_MT layout of Maninis et al., "Attentive Single-Tasking of Multiple Tasks" (CVPR 2019).

    images/ID          .jpg or .png, RGB
    segmentation/ID    .png uint8, or .mat (`segmentation`): 0 or 255 unlabelled, 1..40 the classes of Gupta et al.
    depth/ID           .npy, or .mat (`depth`): float, (H, W), metres; 0, negative or not finite where there is none
    normals/ID         .npy float, (H, W, 3), 0 or not finite where there is none; or .jpg or .png, 8 bits for -1..1
    gt_sets/SPLIT.txt  the ids of train, val and test, one a line

The published set has .mat and .jpg; the copy of Vandenhende, Georgoulis, Van Gool, "MTI-Net: Multi-Scale Task
Interaction Networks for Multi-Task Learning" (ECCV 2020), and those after it, .png and .npy. Normals keep their axes.
A folder of targets may be absent, and its task with it, but for normals, which are then computed from depth. Other
folders (the published `edge/`) are not read. The published set has no third list, its val being the official test
split, and neither has one whose test list repeats val; validation is then taken from the training list, see
`Nyuv2.choose_ids`.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.nyuv2.classes import FORTY
from mtl.datasets.nyuv2.dataset import HELD_OUT
from mtl.datasets.nyuv2.frame_files import FrameFiles, stored_targets
from mtl.datasets.reading import checked_map, first_outside, read_image, read_mask, read_mat, read_words
from mtl.errors import BadInput
from mtl.tasks import IGNORE

# A file that is missing under each of its names is reported under the last of them.
SUFFIXES = {
    "images": (".png", ".jpg"),
    "segmentation": (".mat", ".png"),
    "depth": (".mat", ".npy"),
    "normals": (".png", ".jpg", ".npy"),
}
# 8-bit normals below this length mean none: grey is not quite 0, and less so after JPEG.
SHORTEST_OF_8_BITS = 0.5


class NyudMT(FrameFiles):
    """The frames that the lists under `root` name; frames may differ in size."""

    layout = "NYUD_MT folder"
    looked_for = "images/ and gt_sets/ (NYUD_MT)"

    @staticmethod
    def recognises(root: Path) -> bool:
        return (root / "images").is_dir() and (root / "gt_sets").is_dir()

    def __init__(self, root: Path, classes: int | None = None, split: str = HELD_OUT) -> None:
        super().__init__(root)
        self.stored = stored_targets(root, {folder: folder for folder in SUFFIXES if folder != "images"})
        self.choose_tasks(self.stored, 40, classes)
        lists = root / "gt_sets"
        train, val = read_words(lists / "train.txt"), read_words(lists / "val.txt")
        test = read_words(lists / "test.txt") if (lists / "test.txt").exists() else val
        self.choose_ids(split, train, test, f"file {lists / 'train.txt'}", () if test == val else val)

    def file(self, what: str, sample_id: str) -> str:
        folder = "images" if what == "image" else what
        names = [f"{folder}/{sample_id}{suffix}" for suffix in SUFFIXES[folder]]
        return next((name for name in names if self.listing.has(name)), names[-1])

    def read_image(self, path: Path) -> NDArray[np.uint8]:
        return read_image(path)

    def read_segmentation(self, path: Path, size: tuple[int, int]) -> NDArray[np.uint8]:
        stored = read_mask(path) if path.suffix == ".png" else read_mat(path, "segmentation")
        stored = checked_map(path, stored, size, 1, "iuf")
        outside = first_outside(stored[stored != IGNORE], 0, len(FORTY))
        if outside is not None:
            raise BadInput(f"file {path}: holds label {outside}; allowed: 0..{len(FORTY)}, and {IGNORE}")
        return np.where(stored == 0, IGNORE, stored - (stored != IGNORE)).astype(np.uint8)

    def read_depth(self, path: Path, size: tuple[int, int]) -> NDArray[np.floating]:
        if path.suffix == ".npy":
            return super().read_depth(path, size)
        return checked_map(path, read_mat(path, "depth"), size, 1)

    def read_normals(self, path: Path, size: tuple[int, int]) -> NDArray[np.floating]:
        if path.suffix == ".npy":
            return super().read_normals(path, size)
        normals = checked_map(path, read_image(path).astype(np.float64), size, 3) / 127.5 - 1
        none = np.linalg.norm(normals, axis=-1, keepdims=True) < SHORTEST_OF_8_BITS
        return np.where(none, 0, normals)
