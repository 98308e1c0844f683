"""NYU-Depth-v2 in the NYUD_MT layout of Maninis et al., "Attentive Single-Tasking of Multiple Tasks" (CVPR 2019).

    images/ID.jpg         or ID.png, RGB
    segmentation/ID.png   uint8, 0 or 255 unlabelled, 1..40 the classes of Gupta et al. (CVPR 2013)
    depth/ID.npy          float, (H, W), metres; 0, negative or not finite where there is none
    normals/ID.npy        float, (H, W, 3), axes kept as stored; 0 or not finite where there is none
    gt_sets/SPLIT.txt     the ids of train, val and test, one a line

A folder of targets may be absent, and its task with it; what is there must be complete. Other folders (the
published `edge/`) are not read.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtl.datasets.base import SPLITS, Dataset, Sample, Split
from mtl.datasets.resize import resize_image, resize_target, unit_normals
from mtl.errors import BadInput
from mtl.tasks import IGNORE, Task

CLASSES = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door",
    "window", "bookshelf", "picture", "counter", "blinds", "desk", "shelves", "curtain",
    "dresser", "pillow", "mirror", "floor mat", "clothes", "ceiling", "books", "refrigerator",
    "television", "paper", "towel", "shower curtain", "box", "whiteboard", "person", "night stand",
    "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
)  # fmt: skip
TASKS = (Task("segmentation", "segmentation", CLASSES), Task("depth", "depth"), Task("normals", "normals"))
SUFFIXES = {"images": (".jpg", ".png"), "segmentation": (".png",), "depth": (".npy",), "normals": (".npy",)}
LAYOUT = "images/, segmentation/, depth/, normals/, gt_sets/{train,val,test}.txt"


class NyudMT(Dataset):
    """The frames under `root`, whose frames may differ in size; see the module for the layout and `_splits`."""

    name = "nyud_mt"
    tasks: Mapping[str, Task]

    def __init__(self, root: Path) -> None:
        self._root = root
        if not root.is_dir():
            raise self._bad(f"{root} is not a directory" if root.exists() else f"{root} does not exist")
        if not (root / "images").is_dir():
            raise self._bad(f"{root} has no images/; expected {LAYOUT}")
        self.tasks = {task.name: task for task in TASKS if (root / task.name).is_dir()}
        if not self.tasks:
            raise self._bad(f"{root} has no targets; expected {LAYOUT}")
        self._ids = self._splits()
        self._files = self._find_files()

    def fingerprint(self) -> str:
        """Hash of the splits and of the size in bytes of every file that is read."""
        sizes = {file: (self._root / file).stat().st_size for files in self._files.values() for file in files.values()}
        content = json.dumps([self._ids, sizes], sort_keys=True)
        return f"nyud_mt-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def size(self, split: Split) -> int:
        return len(self._ids[split])

    def read(self, split: Split, index: int, image_size: tuple[int, int]) -> Sample:
        """Sample `index` of a split at `image_size`. Raises `BadInput` for a file that is damaged or mislabelled."""
        frame = self._ids[split][index]
        image = self._load("images", frame)
        targets = {}
        for task in self.tasks.values():
            pixels = self._load(task.name, frame)
            expected = (*image.shape[:2], 3) if task.kind == "normals" else image.shape[:2]
            if pixels.shape != expected:
                raise self._bad(f"{self._path(task.name, frame)} has shape {pixels.shape}, its image wants {expected}")
            targets[task.name] = resize_target(task.kind, self._target(task, frame, pixels), image_size)
        return Sample(resize_image(image, image_size), targets)

    def _splits(self) -> dict[Split, list[str]]:
        """The ids of each split, in the order of the lists.

        The published set has no third list: its val is the official test split. Validation is then every fifth block
        of 16 frames of the train list, as neighbouring frames show the same room and single ones would leak.
        """
        ids: dict[Split, list[str]] = {"train": self._read_list("train"), "val": self._read_list("val")}
        # A test list that repeats val is the published pair under a second name.
        test = self._read_list("test") if (self._root / "gt_sets" / "test.txt").exists() else ids["val"]
        if test == ids["val"]:
            listed = ids["train"]
            ids["train"] = [frame for k, frame in enumerate(listed) if k // 16 % 5 != 4]
            ids["val"] = [frame for k, frame in enumerate(listed) if k // 16 % 5 == 4]
            if not ids["val"]:
                raise self._bad(
                    f"{self._root}/gt_sets has no test.txt, so validation is taken from train.txt, "
                    f"whose {len(listed)} frames are too few: at least 65"
                )
        ids["test"] = test
        every = [frame for split in SPLITS for frame in ids[split]]
        if len(set(every)) < len(every):
            twice = next(frame for k, frame in enumerate(every) if frame in every[:k])
            raise self._bad(f"{self._root}/gt_sets lists frame {twice} more than once; the splits must be disjoint")
        return ids

    def _read_list(self, split: Split) -> list[str]:
        path = self._root / "gt_sets" / f"{split}.txt"
        if not path.is_file():
            raise self._bad(f"{self._root} has no gt_sets/{split}.txt; expected {LAYOUT}")
        try:
            ids = path.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise self._bad(f"{path} cannot be read ({error})") from error
        if not ids:
            raise self._bad(f"{path} lists no frames")
        return ids

    def _find_files(self) -> dict[str, dict[str, str]]:
        """The file of every frame, relative to the root, by folder and id."""
        files: dict[str, dict[str, str]] = {}
        missing: list[str] = []
        every = [frame for split in SPLITS for frame in self._ids[split]]
        for folder in ("images", *self.tasks):
            # One listing a folder: asking for each of thousands of files by name is slow on a shared file system.
            try:
                present = set(os.listdir(self._root / folder))
            except OSError as error:
                raise self._bad(f"{self._root / folder} cannot be listed ({error})") from error
            files[folder] = {}
            for frame in every:
                names = [frame + suffix for suffix in SUFFIXES[folder]]
                found = next((name for name in names if name in present), None)
                if found is None:
                    missing.append(f"{folder}/{names[0]}")
                else:
                    files[folder][frame] = f"{folder}/{found}"
        if missing:
            total = len(files) * len(every)
            first = f"the first {missing[0]}"
            raise self._bad(f"{len(missing)} of {total} files listed in {self._root}/gt_sets are missing, {first}")
        return files

    def _path(self, folder: str, frame: str) -> Path:
        return self._root / self._files[folder][frame]

    def _load(self, folder: str, frame: str) -> NDArray:
        """The pixels as they are stored; of an image (H, W, 3) uint8."""
        path = self._path(folder, frame)
        try:
            if path.suffix == ".npy":
                with path.open("rb") as stream:
                    return np.lib.format.read_array(stream, allow_pickle=False)
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB") if folder == "images" else image)
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
            raise self._bad(f"{path} cannot be read ({error})") from error

    def _target(self, task: Task, frame: str, pixels: NDArray) -> NDArray:
        """The stored pixels of a task in the form that `mtl.tasks` fixes."""
        if task.kind == "segmentation":
            unlabelled = (pixels == 0) | (pixels == IGNORE)
            outside = pixels[(pixels > len(CLASSES)) & ~unlabelled]
            if outside.size:
                allowed = f"0..{len(CLASSES)} and {IGNORE}"
                raise self._bad(f"{self._path(task.name, frame)} holds label {outside[0]}; allowed are {allowed}")
            return np.where(unlabelled, IGNORE, pixels - 1).astype(np.uint8)
        if task.kind == "depth":
            valid = np.isfinite(pixels) & (pixels > 0)
            return np.where(valid, pixels, 0).astype(np.float32)
        return unit_normals(pixels)

    def _bad(self, problem: str) -> BadInput:
        return BadInput(f"dataset {self.name}: {problem}")
