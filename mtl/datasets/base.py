"""What a dataset must offer to be trained on."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
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
    """A labelled image set with fixed train, val and test splits.

    The constructor recognises the layout and raises `BadInput`, one line that names the file, when something is
    missing; reading a sample may then assume the files are there.
    """

    name: str
    tasks: Mapping[str, Task]

    @abstractmethod
    def fingerprint(self) -> str:
        """A short text that changes when the labelled images change, and not when the folder moves."""

    @abstractmethod
    def size(self, split: Split) -> int:
        """The number of samples in a split."""

    @abstractmethod
    def read(self, split: Split, index: int, image_size: tuple[int, int]) -> Sample:
        """Sample `index` of a split at `image_size` (height, width)."""
