"""CelebAMask-HQ, Lee et al., "MaskGAN: Towards Diverse and Interactive Facial Image Manipulation" (CVPR 2020).

    CelebA-HQ-img/K.jpg                                   RGB, 1024 x 1024 as published
    CelebAMask-HQ-mask-anno/{K // 2000}/{K:05d}_PART.png  0 or 255, 512 x 512; no file where the part is not seen
    CelebAMask-HQ-attribute-anno.txt                      40 labels an image, see `celebamask_attributes`

Any number of the 30000 images may be there; those that the attribute file lists must be.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.base import SPLITS, Sample, Split
from mtl.datasets.celebamask_hq.attributes import ATTRIBUTES, IMAGE_NAME, read_attributes
from mtl.datasets.celebamask_hq.splits import splits_by_list, splits_by_seed
from mtl.datasets.file_dataset import FileDataset
from mtl.datasets.reading import read_image, read_mask
from mtl.errors import BadInput
from mtl.tasks import Task

IMAGES = "CelebA-HQ-img"
MASKS = "CelebAMask-HQ-mask-anno"
ATTRIBUTE_FILE = "CelebAMask-HQ-attribute-anno.txt"
LAYOUT = f"{IMAGES}/, {MASKS}/, {ATTRIBUTE_FILE}"

CLASSES = ("background", "skin", "hair")
# Background and the published parts, in the order in which the authors' script
# (face_parsing/Data_preprocessing/g_mask.py) puts them over one another: where two masks overlap, the later part
# counts, and its number there is its class here.
PARTS = (
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip", "hair",
    "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
NINETEEN = ("background", *PARTS)
# In a mirrored image a left eye is a right eye.
MIRRORED = tuple(
    NINETEEN.index({"l": "r", "r": "l"}[part[0]] + part[1:]) if part[1:] in ("_eye", "_brow", "_ear") else k
    for k, part in enumerate(NINETEEN)
)
CLASS_SETS = {3: CLASSES, 19: NINETEEN}
# Two tasks have shorter names than their attributes; the others are called as published.
ATTRIBUTE_OF = {"male": "Male", "smile": "Smiling"}
ATTRIBUTE_OF |= {attribute: attribute for attribute in ATTRIBUTES if attribute not in ATTRIBUTE_OF.values()}


class CelebAMaskHQ(FileDataset):
    """The images under `root`, see the module for the layout and `celebamask_splits` for the two ways to split them.

    split_seed: the seed of a 60-20-20 split.
    split_file: the path of a list of splits, relative to `root`; images that it leaves out are not used.
    classes: 3, or 19, which are all published parts, see `PARTS`.

    The 3 classes are background, skin where `skin.png` is set, and hair where `hair.png` is, which goes over skin.
    Skin is what `skin.png` covers and no more: ears, neck, glasses and whatever it leaves out of the face (in some
    copies nose, brows, eyes and lips, which have masks of their own) count as background. Every pixel is labelled.
    """

    name = "celebamask_hq"
    layout = f"CelebAMask-HQ as published: {LAYOUT}"
    scaled_targets = True  # masks are published at 512 pixels, images at 1024

    @staticmethod
    def recognises(root: Path) -> bool:
        """Whether a folder has anything of this layout; the constructor says what is missing."""
        return any((root / part).exists() for part in (IMAGES, MASKS, ATTRIBUTE_FILE))

    def __init__(self, root: Path, split_seed: int = 0, split_file: str | None = None, classes: int = 3) -> None:
        super().__init__(root)
        _check_options(split_seed, split_file)
        if type(classes) is not int or classes not in CLASS_SETS:
            raise BadInput(f"dataset_options.classes: {classes!r}; allowed: {', '.join(map(str, CLASS_SETS))}")
        self._names = CLASS_SETS[classes]
        for part in (f"{IMAGES}/", f"{MASKS}/", ATTRIBUTE_FILE):
            if not ((root / part).is_dir() if part.endswith("/") else (root / part).is_file()):
                raise self.bad(f"{root} has no {part}; expected {LAYOUT}")
        self._table = read_attributes(root / ATTRIBUTE_FILE)
        column = {attribute: place for place, attribute in enumerate(self._table.attributes)}
        self._columns = {task: column[name] for task, name in ATTRIBUTE_OF.items() if name in column}
        mirrored = MIRRORED if classes == 19 else ()
        self.tasks = {"segmentation": Task("segmentation", "segmentation", self._names, mirrored=mirrored)}
        self.tasks |= {task: Task(task, "binary") for task in self._columns}
        self._split_problems: Sequence[str] = ()
        images = self._table.labels.keys()
        if split_file is None:
            splits: Mapping[Split, Sequence[int]] = splits_by_seed(images, split_seed)
            self.notes = [f"split 60-20-20 by split_seed {split_seed}, as the set is published without a split"]
        else:
            path = root / split_file
            splits, self._split_problems = splits_by_list(path, images, root)
            used = sum(len(splits[split]) for split in SPLITS)
            self.notes = [f"split by {path}: {len(images) - used} of {len(images)} images are not in it and left out"]
        self.ids = {split: [str(k) for k in splits[split]] for split in SPLITS}

    def files(self, sample_id: str) -> Sequence[str]:
        return [f"{IMAGES}/{sample_id}.jpg", *self._masks(sample_id).values()]

    def shared_files(self) -> Sequence[str]:
        return [ATTRIBUTE_FILE]

    def load(self, sample_id: str) -> Sample:
        """The image, the classes at the size of the masks, and every attribute."""
        image = read_image(self.root / IMAGES / f"{sample_id}.jpg")
        labels = self._table.labels[int(sample_id)]
        targets: dict[str, NDArray] = {"segmentation": self._classes(sample_id, image.shape[:2])}
        targets |= {task: labels[place, ...] for task, place in self._columns.items()}
        return Sample(image, targets)

    def own_problems(self) -> Sequence[str]:
        """What is wrong in the attribute file and the list of splits, images without labels, and without any mask."""
        found = [*self._table.problems, *self._split_problems]
        numbers = [match[1] for name in self.listing.names(IMAGES) if (match := IMAGE_NAME.fullmatch(name))]
        unlisted = sorted(int(k) for k in numbers if int(k) not in self._table.labels)
        found += [f"{self.root / IMAGES / f'{k}.jpg'} has no line in {ATTRIBUTE_FILE}" for k in unlisted]
        unmasked = [k for split in SPLITS for k in self.ids[split] if not self._masks(k)]
        # One absent part is a part not seen, but every image shows something.
        folders = {_mask_folder(k) for k in unmasked}
        stems = {folder: {name.partition("_")[0] for name in self.listing.names(folder)} for folder in folders}
        found += [
            f"{self.root / _mask_folder(k)}/{_stem(k)}_*.png are missing, there is no mask for image {k}.jpg"
            for k in unmasked
            if _stem(k) not in stems[_mask_folder(k)]
        ]
        return found

    def _masks(self, sample_id: str) -> dict[str, str]:
        """The files of the masks that there are by part, each before those that go over it."""
        files = {part: f"{_mask_folder(sample_id)}/{_stem(sample_id)}_{part}.png" for part in self._names[1:]}
        return {part: file for part, file in files.items() if self.listing.has(file)}

    def _classes(self, sample_id: str, image_size: tuple[int, int]) -> NDArray[np.uint8]:
        """The class map at the size of the masks; of the image where there is none."""
        classes = None
        for part, file in self._masks(sample_id).items():
            path = self.root / file
            mask = read_mask(path)
            classes = np.zeros(mask.shape, np.uint8) if classes is None else classes
            if mask.shape != classes.shape:
                raise self.bad(f"{path} is {mask.shape}; allowed: {classes.shape}, as the other mask of its image")
            other = mask[(mask != 0) & (mask != 255)]
            if other.size:
                raise self.bad(f"{path} holds {other[0]}; allowed: 0 and 255")
            classes[mask != 0] = self._names.index(part)
        return np.zeros(image_size, np.uint8) if classes is None else classes


def _mask_folder(sample_id: str) -> str:
    return f"{MASKS}/{int(sample_id) // 2000}"


def _stem(sample_id: str) -> str:
    return f"{int(sample_id):05d}"


def _check_options(split_seed: object, split_file: object) -> None:
    """What stands in a recipe may be of any type."""
    if not isinstance(split_seed, int) or isinstance(split_seed, bool):
        raise BadInput(f"dataset_options.split_seed: {split_seed!r}; allowed: a whole number")
    if split_file is not None and not isinstance(split_file, str):
        raise BadInput(f"dataset_options.split_file: {split_file!r}; allowed: the path of a text file")
    if split_file is not None and split_seed != 0:
        raise BadInput(f"dataset_options.split_seed: {split_seed} beside split_file; allowed: one of the two")
