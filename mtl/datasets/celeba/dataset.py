"""CelebA, Liu, Luo, Wang, Tang, "Deep Learning Face Attributes in the Wild" (ICCV 2015), its aligned images:

    img_align_celeba/000001.jpg        RGB, 178 x 218 list_attr_celeba.txt               line 1 the number of images,
    line 2 the 40 attributes, then NAME and -1 or 1 for each list_eval_partition.txt            NAME and 0, 1 or 2 for
    train, val or test: 162770, 19867 and 19962 images list_landmarks_align_celeba.txt    line 1 the number, line 2 the
    10 columns, then NAME and 10 whole numbers, in pixels

The last may be absent, and the task `landmarks` with it. The lists may also lie in Anno/ and Eval/, and the images in
Img/, as in the published archive; and all of it in celeba/, where torchvision has it. Images that no partition lists
are not used, and of those that a list has any number may be there only if the partition is cut to it: a missing file is
an error.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.base import SPLITS, Sample
from mtl.datasets.celebamask_hq.attributes import ATTRIBUTES
from mtl.datasets.file_dataset import FileDataset
from mtl.datasets.reading import read_image, read_lines
from mtl.errors import BadInput
from mtl.tasks import IGNORE, Task

IMAGES, LABELS, PARTITION = "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"
LANDMARKS = "list_landmarks_align_celeba.txt"
# Where each may lie below the folder.
FOLDERS = {IMAGES: ("", "Img/"), LABELS: ("", "Anno/"), PARTITION: ("", "Eval/", "Anno/"), LANDMARKS: ("", "Anno/")}
NAME = re.compile(r"[0-9]{6}\.(jpg|png)")
COLUMNS = tuple(
    f"{part}_{axis}" for part in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
)
# Shares of the image's sides; mirrored, a left eye is a right one. Points of aligned faces differ by few of them.
POINTS = Task("landmarks", "regression", values=COLUMNS, unit="side lengths", scale=0.02, points=(1, 0, 2, 4, 3))


class CelebA(FileDataset):
    """The images that the partition names, each attribute a task of its published name, and the landmarks."""

    name = "celeba"
    layout = f"CelebA as published: {IMAGES}/, {LABELS}, {PARTITION}, {LANDMARKS}"

    @staticmethod
    def recognises(root: Path) -> bool:
        """Whether a folder, or celeba/ in it, has anything that only this set has."""
        places = [(below, part, one) for below in ("", "celeba") for part in (IMAGES, LABELS) for one in FOLDERS[part]]
        return any((root / below / f"{one}{part}").exists() for below, part, one in places)

    def __init__(self, root: Path) -> None:
        below = "celeba/" if (root / "celeba").is_dir() else ""
        super().__init__(root)
        self._place = {
            part: next((f"{below}{one}{part}" for one in folders if (root / f"{below}{one}{part}").exists()), "")
            for part, folders in FOLDERS.items()
        }
        for part in (IMAGES, LABELS, PARTITION):
            if not self._place[part]:
                raise self.bad(f"{root} has no {part}; expected {self.layout}")
        self.tasks = {attribute: Task(attribute, "binary") for attribute in ATTRIBUTES}
        self._problems: list[str] = []
        split_of = self._split_of()
        self._labels = self._attributes()
        self._points: dict[str, NDArray[np.float32]] = {}
        if self._place[LANDMARKS]:
            self.tasks[POINTS.name] = POINTS
            self._points = self._landmarks()
        self.ids = {split: [name for name, one in split_of.items() if one == k] for k, split in enumerate(SPLITS)}
        for task, known in ((LABELS, self._labels.keys()), (LANDMARKS, self._points.keys())):
            if self._place[task]:
                absent = [name for name in split_of if name not in known]
                self._problems += [f"{root / self._place[task]}: has no line for {name}" for name in absent]

    def files(self, sample_id: str) -> Sequence[str]:
        return [f"{self._place[IMAGES]}/{sample_id}"]

    def shared_files(self) -> Sequence[str]:
        return [self._place[part] for part in (LABELS, PARTITION, LANDMARKS) if self._place[part]]

    def own_problems(self) -> Sequence[str]:
        return self._problems

    def load(self, sample_id: str) -> Sample:
        image = read_image(self.root / self._place[IMAGES] / sample_id)
        labels = self._labels[sample_id]
        targets: dict[str, NDArray] = {attribute: labels[k, ...] for k, attribute in enumerate(ATTRIBUTES)}
        if self._points:
            height, width = image.shape[:2]
            # The middle of pixel x is at x + 1/2.
            targets[POINTS.name] = ((self._points[sample_id] + 0.5) / np.tile([width, height], 5)).astype(np.float32)
        return Sample(image, targets)

    def _split_of(self) -> dict[str, int]:
        path = self.root / self._place[PARTITION]
        found: dict[str, int] = {}
        for number, cells in self._rows(path, 0, 1):
            if cells[1] not in ("0", "1", "2"):
                self._problems.append(f"{path} line {number}: partition {cells[1]!r}; allowed: 0, 1, 2")
            else:
                found[cells[0]] = int(cells[1])
        return found

    def _attributes(self) -> dict[str, NDArray[np.uint8]]:
        path = self.root / self._place[LABELS]
        names = _header(path)
        if sorted(names) != sorted(ATTRIBUTES):
            raise BadInput(f"file {path} line 2: has {', '.join(names[:5])} …; allowed: the 40 attributes' names")
        place = [names.index(attribute) for attribute in ATTRIBUTES]
        value = {"-1": 0, "1": 1}
        found = {}
        for number, (name, *cells) in self._rows(path, 2, len(names)):
            labels = [value.get(cell, IGNORE) for cell in cells]
            if IGNORE in labels:
                at = labels.index(IGNORE)
                self._problems.append(f"{path} line {number}: {names[at]} is {cells[at]!r}; allowed: -1 and 1")
            found[name] = np.array(labels, np.uint8)[place]
        return found

    def _landmarks(self) -> dict[str, NDArray[np.float32]]:
        """In pixels."""
        path = self.root / self._place[LANDMARKS]
        names = _header(path)
        if tuple(names) != COLUMNS:
            raise BadInput(f"file {path} line 2: has {', '.join(names[:5])} …; allowed: {', '.join(COLUMNS)}")
        found = {}
        for number, (name, *cells) in self._rows(path, 2, len(COLUMNS)):
            try:
                found[name] = np.array([int(cell) for cell in cells], np.float32)
            except ValueError:
                self._problems.append(f"{path} line {number}: has a coordinate that is no whole number")
                found[name] = np.full(len(COLUMNS), np.nan, np.float32)
        return found

    def _rows(self, path: Path, skipped: int, columns: int) -> list[tuple[int, list[str]]]:
        """The lines of a list, numbered, with a name and so many columns each; the others become problems."""
        rows, line_of = [], dict[str, int]()
        for number, line in enumerate(read_lines(path), start=1):
            cells = line.split()
            if number <= skipped or not cells:
                continue
            if len(cells) != columns + 1 or not NAME.fullmatch(cells[0]):
                allowed = f"a name such as 000001.jpg, and {columns} column{'s' * (columns > 1)}"
                found = f"begins with {cells[0]!r}, {len(cells)} words"
                self._problems.append(f"{path} line {number}: {found}; allowed: {allowed}")
            elif line_of.setdefault(cells[0], number) != number:
                self._problems.append(f"{path} line {number}: {cells[0]} is listed already in line {line_of[cells[0]]}")
            else:
                rows.append((number, cells))
        return rows


def _header(path: Path) -> list[str]:
    """The words of line 2."""
    lines = read_lines(path)
    if len(lines) < 2:
        raise BadInput(f"file {path}: has {len(lines)} lines; allowed: the number of images, the columns, images")
    return lines[1].split()
