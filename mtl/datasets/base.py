"""What a dataset must offer to be trained on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mtl.tasks import Task

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Sample:
    """One image, (H, W, 3) uint8 RGB, and its targets by task name, in the form `mtl.tasks` fixes."""

    image: NDArray[np.uint8]
    targets: Mapping[str, NDArray]


class Dataset(ABC):
    """A labelled image set with fixed train, val and test splits; most are kept in files, see `FileDataset`.

    `layout` says in a few words which published form was recognised, `notes` what a user should know about how it was
    read (such as labels that were derived from others), and `problems` what is missing or wrong, each item one line
    that names the file. A dataset with problems can be looked at but not trained on. `scaled_targets` says that masks
    and maps are meant to be stored at another size than their images, so that nobody is warned of it, and
    `validates_on_train` that the validation split is part of the training split, so nothing may be chosen by it.
    """

    name: str
    tasks: Mapping[str, Task]
    layout: str = ""
    notes: Sequence[str] = ()
    problems: Sequence[str] = ()
    scaled_targets: bool = False
    validates_on_train: bool = False

    @abstractmethod
    def fingerprint(self) -> str:
        """A short text that changes when the labelled images change, and not when the folder moves."""

    @abstractmethod
    def size(self, split: Split) -> int:
        """The number of samples in a split."""

    @abstractmethod
    def read(self, split: Split, index: int, image_size: tuple[int, int]) -> Sample:
        """Sample `index` of a split at `image_size` (height, width).

        Raises `BadInput`, one line that names the file, where what is stored is damaged.
        """

    def read_as_stored(self, split: Split, index: int, generated_size: tuple[int, int]) -> Sample:
        """A sample at the size in which its files hold it, or one that is generated at that size, (height, width)."""
        return self.read(split, index, generated_size)

    def is_complete(self, split: Split, index: int) -> bool:
        """Whether all files of a sample are there."""
        return True

    def sample_name(self, split: Split, index: int) -> str:
        """What the sample is called in messages and on contact sheets."""
        return f"{split} {index}"
