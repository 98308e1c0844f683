"""Which of its published layouts a folder of NYU-Depth-v2 has."""

from pathlib import Path

from mtl.datasets.nyuv2.dataset import HELD_OUT, Nyuv2
from mtl.datasets.nyuv2.mtan import Mtan
from mtl.datasets.nyuv2.nyud_mt import NyudMT
from mtl.datasets.nyuv2.official import Official
from mtl.errors import BadInput

# In the order of preference in a folder that holds several: those with stored normals come first.
_LAYOUTS = (NyudMT, Mtan, Official)


def recognise_nyuv2(root: Path) -> bool:
    """Whether a folder looks like one of the layouts, complete or not."""
    return any(layout.recognises(root) for layout in _LAYOUTS)


def open_nyuv2(root: Path, classes: int | None = None, split: str = HELD_OUT) -> Nyuv2:
    """The dataset in the folder `root`, of the official, the NYUD_MT or the MTAN layout.

    classes: 40 or 13, which follow from 40; by default those that are stored.
    split: `held_out` validates on frames of the training list that are not trained on. `published` trains on all 795 of
    them, as other papers do, and so validates on frames that it has seen: for a model that has been chosen before. Both
    test on the same frames.

    Raises `BadInput` where `root` has none of the layouts, where its lists or tables cannot be read, for classes
    that it does not have, and for a published split that its lists are not. Missing files are the dataset's `problems`.
    """
    if not root.is_dir():
        raise BadInput(f"dataset nyuv2: {root} {'is not a directory' if root.exists() else 'does not exist'}")
    for layout in _LAYOUTS:
        if layout.recognises(root):
            return layout(root, classes, split)
    looked_for = "; ".join(layout.looked_for for layout in _LAYOUTS)
    raise BadInput(f"dataset nyuv2: {root} has no layout that is known; looked for {looked_for}")
