"""Which of its layouts a folder of Cityscapes has."""

from pathlib import Path
from typing import Any

from mtl.datasets.cityscapes.dataset import HELD_OUT, Cityscapes
from mtl.datasets.cityscapes.mtan import Mtan
from mtl.datasets.cityscapes.official import Official
from mtl.errors import BadInput


def recognise_cityscapes(root: Path) -> bool:
    return Official.recognises(root) or Mtan.recognises(root)


def open_cityscapes(
    root: Path, classes: int | None = None, split: str = HELD_OUT, disparity: str | None = None
) -> Cityscapes:
    """The dataset in the folder `root`. Options: see `dataset.Cityscapes`; left out, they are as the layout has them:
    19 classes and pixels as published, 7 classes and MTAN's unit in MTAN's folder.

    Raises `BadInput` where `root` has neither layout, and what these raise.
    """
    if not root.is_dir():
        raise BadInput(f"dataset cityscapes: {root} {'is not a directory' if root.exists() else 'does not exist'}")
    given: dict[str, Any] = {"classes": classes, "split": split, "disparity": disparity}
    options = {name: value for name, value in given.items() if value is not None}
    if Official.recognises(root):
        return Official(root, **options)
    if Mtan.recognises(root) or Mtan.could_be(root):
        return Mtan(root, **options)
    looked_for = f"{Official.looked_for}; {Mtan.looked_for}"
    raise BadInput(f"dataset cityscapes: {root} has no layout that is known; looked for {looked_for}")
