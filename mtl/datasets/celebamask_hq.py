"""CelebAMask-HQ, Lee et al., "MaskGAN: Towards Diverse and Interactive Facial Image Manipulation" (CVPR 2020).

    CelebA-HQ-img/K.jpg                                   RGB, 1024 x 1024 as published
    CelebAMask-HQ-mask-anno/{K // 2000}/{K:05d}_PART.png  0 or 255, 512 x 512; no file where the part is not seen
    CelebAMask-HQ-attribute-anno.txt                      the number of images, the attributes' names, then
                                                          `K.jpg  -1 1 ...`, one image a line

Any number of the 30000 images may be there; those that the attribute file lists must be.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtl.datasets.base import Dataset, Sample, Split
from mtl.datasets.resize import resize_classes, resize_image
from mtl.errors import BadInput
from mtl.tasks import Task

IMAGES = "CelebA-HQ-img"
MASKS = "CelebAMask-HQ-mask-anno"
ATTRIBUTES = "CelebAMask-HQ-attribute-anno.txt"
LAYOUT = f"{IMAGES}/, {MASKS}/, {ATTRIBUTES}"

SPLIT_SEED = 0
CLASSES = ("background", "skin", "hair")
ATTRIBUTE_OF = {"male": "Male", "smile": "Smiling"}


class CelebAMaskHQ(Dataset):
    """The images under `root`, see the module for the layout.

    The classes are background, skin where `skin.png` is set, and hair where `hair.png` is, which goes over skin.
    Skin is what `skin.png` covers and no more: ears, neck, glasses and whatever it leaves out of the face (in some
    copies nose, brows, eyes and lips, which have masks of their own) count as background. Every pixel is labelled.
    """

    name = "celebamask_hq"
    tasks: Mapping[str, Task] = {
        "segmentation": Task("segmentation", "segmentation", CLASSES),
        "male": Task("male", "binary"),
        "smile": Task("smile", "binary"),
    }

    def __init__(self, root: Path) -> None:
        self._root = root
        if not root.is_dir():
            raise self._bad(f"{root} is not a directory" if root.exists() else f"{root} does not exist")
        for part, there in (
            (f"{IMAGES}/", (root / IMAGES).is_dir()),
            (f"{MASKS}/", (root / MASKS).is_dir()),
            (ATTRIBUTES, (root / ATTRIBUTES).is_file()),
        ):
            if not there:
                raise self._bad(f"{root} has no {part}; expected {LAYOUT}")
        self._labels = self._read_attributes()
        self._ids = self._splits()
        self._masks = self._find_masks()

    def fingerprint(self) -> str:
        """Hash of the splits, the two attributes, and the size in bytes of every file that is read."""
        files = [f"{IMAGES}/{k}.jpg" for k in self._labels]
        files += [file for masks in self._masks.values() for file in masks.values()]
        sizes = {file: (self._root / file).stat().st_size for file in files}
        content = json.dumps([self._ids, self._labels, sizes], sort_keys=True)
        return f"celebamask_hq-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def size(self, split: Split) -> int:
        return len(self._ids[split])

    def read(self, split: Split, index: int, image_size: tuple[int, int]) -> Sample:
        """Sample `index` of a split at `image_size`. Raises `BadInput` for a file that is damaged."""
        k = self._ids[split][index]
        classes = np.zeros(image_size, np.uint8)
        for part, file in self._masks[k].items():
            mask = resize_classes(self._load(file, "L"), image_size)
            classes[mask > 127] = CLASSES.index(part)
        targets: dict[str, NDArray] = {"segmentation": classes}
        targets |= {task: np.array(label, np.uint8) for task, label in self._labels[k].items()}
        return Sample(resize_image(self._load(f"{IMAGES}/{k}.jpg", "RGB"), image_size), targets)

    def _read_attributes(self) -> dict[int, dict[str, int]]:
        """The binary labels, by image id and task."""
        path = self._root / ATTRIBUTES
        try:
            count, header, *rows = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise self._bad(f"{path} cannot be read, or has no two lines of header ({error})") from error
        names = header.split()
        for attribute in ATTRIBUTE_OF.values():
            if attribute not in names:
                raise self._bad(f"{path} has no attribute {attribute} among the {len(names)} of line 2")
        column = {task: 1 + names.index(attribute) for task, attribute in ATTRIBUTE_OF.items()}
        labels: dict[int, dict[str, int]] = {}
        for line, row in enumerate(rows, start=3):
            cells = row.split()
            stem, _, suffix = cells[0].partition(".") if cells else ("", "", "")
            if len(cells) != 1 + len(names) or not stem.isdecimal() or suffix != "jpg":
                raise self._bad(f"{path} line {line} is not 'K.jpg' and {len(names)} labels")
            values = {task: cells[position] for task, position in column.items()}
            for task, value in values.items():
                if value not in ("-1", "1"):
                    raise self._bad(f"{path} line {line} has {ATTRIBUTE_OF[task]} {value}; allowed are -1 and 1")
            labels[int(stem)] = {task: int(value == "1") for task, value in values.items()}
        if count.strip() != str(len(labels)):
            raise self._bad(f"{path} lists {len(labels)} images, its first line says {count.strip()}")
        return labels

    def _splits(self) -> dict[Split, list[int]]:
        """60 % of the images for train and 20 % each for val and test, ids in rising order.

        The order that decides is that of SHA-256("SPLIT_SEED/K"), a shuffle that no library's generator can change.
        """
        shuffled = sorted(self._labels, key=lambda k: hashlib.sha256(f"{SPLIT_SEED}/{k}".encode()).digest())
        fifth = len(shuffled) // 5
        if not fifth:
            raise self._bad(f"{self._root / ATTRIBUTES} lists {len(shuffled)} images; at least 5 are needed")
        return {
            "train": sorted(shuffled[2 * fifth :]),
            "val": sorted(shuffled[:fifth]),
            "test": sorted(shuffled[fifth : 2 * fifth]),
        }

    def _find_masks(self) -> dict[int, dict[str, str]]:
        """The skin and hair masks that there are, relative to the root, by image id and part, skin before hair."""
        images = self._list(IMAGES)
        self._refuse_missing([f"{IMAGES}/{k}.jpg" for k in self._labels if f"{k}.jpg" not in images])
        folder_of = {k: f"{MASKS}/{k // 2000}" for k in self._labels}
        present = {folder: self._list(folder) for folder in set(folder_of.values())}
        # One absent part is a part not seen, but every image shows something.
        masked = {f"{folder}/{name.split('_')[0]}" for folder, names in present.items() for name in names}
        expected = [f"{folder}/{k:05d}" for k, folder in folder_of.items()]
        self._refuse_missing([f"{stem}_*.png" for stem in expected if stem not in masked])
        return {
            k: {
                part: f"{folder}/{k:05d}_{part}.png" for part in CLASSES[1:] if f"{k:05d}_{part}.png" in present[folder]
            }
            for k, folder in folder_of.items()
        }

    def _refuse_missing(self, missing: list[str]) -> None:
        if missing:
            raise self._bad(
                f"{len(missing)} of the {len(self._labels)} images listed in {self._root / ATTRIBUTES} "
                f"lack files, the first {missing[0]}"
            )

    def _list(self, folder: str) -> set[str]:
        """The names in a folder, none where it is missing; one listing is faster than asking for each of them."""
        try:
            return set(os.listdir(self._root / folder))
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise self._bad(f"{self._root / folder} cannot be listed ({error})") from error

    def _load(self, file: str, mode: Literal["RGB", "L"]) -> NDArray[np.uint8]:
        path = self._root / file
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert(mode))
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for a broken PNG
            raise self._bad(f"{path} cannot be read ({error})") from error

    def _bad(self, problem: str) -> BadInput:
        return BadInput(f"dataset {self.name}: {problem}")
