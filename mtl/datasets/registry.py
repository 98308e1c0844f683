"""Datasets by name: the generated, the published, and those of a user's own module."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mtl.datasets.base import Dataset
from mtl.datasets.celeba.dataset import CelebA
from mtl.datasets.celebamask_hq.dataset import CelebAMaskHQ
from mtl.datasets.cityscapes.layouts import open_cityscapes, recognise_cityscapes
from mtl.datasets.nyuv2.layouts import open_nyuv2, recognise_nyuv2
from mtl.datasets.own.checked import OwnDataset
from mtl.datasets.pascal_context.dataset import PascalContext
from mtl.datasets.rooms.dataset import Rooms
from mtl.datasets.taskonomy.dataset import Taskonomy
from mtl.errors import BadInput
from mtl.own_code import own_code
from mtl.own_modules import import_own
from mtl.vocabulary.close import did_you_mean

GENERATED: dict[str, Callable[..., Dataset]] = {"rooms": Rooms}
PUBLISHED: dict[str, Callable[..., Dataset]] = {
    "nyuv2": open_nyuv2,
    "celebamask_hq": CelebAMaskHQ,
    "celeba": CelebA,
    "cityscapes": open_cityscapes,
    "pascal_context": PascalContext,
    "taskonomy": Taskonomy,
}

# Whether a folder holds each published dataset, whole or not.
RECOGNISED: dict[str, Callable[[Path], bool]] = {
    # Before NYU-v2, as it tells its MTAN folders from those of NYU-v2.
    "cityscapes": recognise_cityscapes,
    "nyuv2": recognise_nyuv2,
    "celebamask_hq": CelebAMaskHQ.recognises,
    "celeba": CelebA.recognises,
    "pascal_context": PascalContext.recognises,
    "taskonomy": Taskonomy.recognises,
}
# How many of a folder's names the message shows where the folder is not recognised.
NAMES_SHOWN = 6


def load_dataset(name: str, root: Path | None, options: Mapping[str, Any] | None = None) -> Dataset:
    """The dataset called `name`, ready to be trained on.

    name: one of `GENERATED` or `PUBLISHED`, or `my_module:MyDataset` for a class of the user's own.
    root: the folder of a dataset in files, None for a generated dataset.
    options: the recipe's `dataset_options`, keyword arguments of the dataset's class.

    Raises `BadInput` for an unknown name or option, a `root` that is missing or has no use, what the dataset itself
    refuses, and for the first of its `problems`.
    """
    dataset = open_dataset(name, root, options)
    if dataset.problems:
        more = len(dataset.problems) - 1
        rest = f" (and {more} more; `parsimony datasets check {root} --dataset {name}` lists them)" if more else ""
        raise BadInput(f"dataset {name}: {dataset.problems[0]}{rest}")
    return dataset


def open_dataset(name: str, root: Path | None, options: Mapping[str, Any] | None = None) -> Dataset:
    """As `load_dataset`, but a dataset with problems is given back, to be looked at."""
    make = _find(name)
    given = dict(options or {})
    if name in GENERATED and root is not None:
        raise BadInput(f"dataset {name}: is generated, found --data {root}; allowed: no --data")
    if name not in GENERATED and root is None:
        raise BadInput(f"dataset {name}: give its folder with --data DIR")
    folder = () if root is None else (root,)
    with own_code(f"dataset {name}", "__init__", make):
        parameters = list(inspect.signature(make).parameters.values())[len(folder) :]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    allowed = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for option in given:
        if option not in allowed and not takes_any:
            raise BadInput(f"dataset_options: {option!r}; allowed for {name}: {', '.join(allowed) or 'none'}")
    if root is not None and name not in PUBLISHED:
        return OwnDataset(name, make, root, given)
    return make(*folder, **given)


def recognise(root: Path) -> str:
    """The name of the published dataset that lies in a folder. Raises `BadInput` where it is none of them."""

    def name_in(folder: Path) -> str | None:
        return next((name for name, lies_in in RECOGNISED.items() if lies_in(folder)), None)

    if name := name_in(root):
        return name
    if not root.is_dir():
        raise BadInput(f"folder {root}: {'is not a directory' if root.exists() else 'does not exist'}")
    try:
        inside = sorted(root.iterdir())
    except OSError as error:
        raise BadInput(f"folder {root}: cannot be listed ({error})") from error
    for path in inside:
        if name := name_in(path):
            raise BadInput(f"folder {root}: holds none of {', '.join(RECOGNISED)} itself; {name} lies in {path}")
    found = [f"{path.name}/" if path.is_dir() else path.name for path in inside]
    first = ", ".join(found[:NAMES_SHOWN]) + (", …" if len(found) > NAMES_SHOWN else "")
    raise BadInput(
        f"folder {root}: holds none of {', '.join(RECOGNISED)}; found {first or 'nothing'}; "
        "say what it is with --dataset NAME or --dataset my_module:MyDataset"
    )


def _find(name: str) -> Callable[..., Dataset]:
    known = GENERATED | PUBLISHED
    if name in known:
        return known[name]
    module_name, colon, class_name = name.partition(":")
    if not colon:
        hint = did_you_mean(name, known)
        raise BadInput(f"dataset {name!r}: unknown; {hint}allowed: {', '.join(known)}, or my_module:MyDataset")
    module = import_own(f"dataset {name!r}", module_name)
    classes = {k: v for k, v in vars(module).items() if inspect.isclass(v) and issubclass(v, Dataset)}
    found = classes.get(class_name)
    if found is None or inspect.isabstract(found):
        there = [k for k, v in classes.items() if v.__module__ == module_name]
        what = "is not a dataset class there" if found is None else "lacks methods that a dataset must have"
        raise BadInput(f"dataset {name!r}: {class_name} {what}; {module_name} has: {', '.join(there) or 'none'}")
    return found
