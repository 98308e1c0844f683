"""Datasets by name."""

from collections.abc import Callable
from pathlib import Path

from mtl.datasets.base import Dataset
from mtl.datasets.celebamask_hq import CelebAMaskHQ
from mtl.datasets.nyud_mt import NyudMT
from mtl.datasets.rooms import Rooms
from mtl.errors import BadInput

GENERATED: dict[str, Callable[[], Dataset]] = {"rooms": Rooms}
PUBLISHED: dict[str, Callable[[Path], Dataset]] = {"nyud_mt": NyudMT, "celebamask_hq": CelebAMaskHQ}


def load_dataset(name: str, root: Path | None) -> Dataset:
    """The dataset called `name`; `root` is the folder of a published one, and None for one that is generated.

    Raises `BadInput` for an unknown name, a `root` that is missing or has no use, and what the dataset itself refuses.
    """
    if name in GENERATED:
        if root is not None:
            raise BadInput(f"dataset {name}: is generated, found --data {root}; allowed: no --data")
        return GENERATED[name]()
    if name not in PUBLISHED:
        raise BadInput(f"dataset {name!r}: unknown; allowed: {', '.join([*GENERATED, *PUBLISHED])}")
    if root is None:
        raise BadInput(f"dataset {name}: give its folder with --data DIR")
    return PUBLISHED[name](root)
