"""NYU-Depth-v2 as its authors publish it: one MATLAB 7.3 file, which is HDF5 with the axes reversed, and a split.

    nyu_depth_v2_labeled.mat   as h5py sees it, N frames of 640 x 480 (width first):
        images   (N, 3, 640, 480)   uint8, RGB, whole frames with the border that registration left white
        depths   (N, 640, 480)      float32, metres, holes filled in by the authors
        labels   (N, 640, 480)      uint16, raw ids: 0 unlabelled, 1..894
        names    (1, 894)           references to the raw ids' names
    splits.mat                 MATLAB 5: trainNdxs (795) and testNdxs (654), frame numbers from 1

Raw ids become the 40 classes by the table of Gupta et al., see `classes`. There are no normals: they are computed
from depth. Validation is taken from the training frames, see `Nyuv2.choose_ids`. A frame's id is its number from 1
in four digits, as in NYUD_MT.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mtl.datasets.nyuv2.classes import FORTY, FORTY_OF_RAW, NAMED_RAW_IDS, RAW_IDS
from mtl.datasets.nyuv2.dataset import HELD_OUT, Nyuv2
from mtl.datasets.reading import first_outside, read_mat, reading
from mtl.errors import BadInput

FRAMES = "nyu_depth_v2_labeled.mat"
SPLITS = "splits.mat"
SPLITS_AT = "http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/splits.mat"
# The types and axes of the variables that frames are read from.
FORMS = {
    "images": (("uint8",), "(N, 3, W, H)"),
    "depths": (("float32", "float64"), "(N, W, H)"),
    "labels": (("uint16",), "(N, W, H)"),
}
# Compressed blocks of the file may hold several frames, and neighbouring frames are read one after the other. Bytes.
BLOCK_CACHE = 32 * 2**20

# How the file spells a class that is spelt otherwise here.
_SPELT = {"refrigerator": "refridgerator"}


class Official(Nyuv2):
    """The frames of the .mat file under `root`, which is opened on first use in each process and read by the frame."""

    layout = "official .mat file"
    looked_for = f"{FRAMES} (official)"

    @staticmethod
    def recognises(root: Path) -> bool:
        return (root / FRAMES).is_file()

    def __init__(self, root: Path, classes: int | None = None, split: str = HELD_OUT) -> None:
        super().__init__(root)
        self._path = root / FRAMES
        self._variables: dict[str, h5py.Dataset] = {}
        self._process = 0
        self.choose_tasks(("segmentation", "depth"), 40, classes)
        count = self._check_variables()
        listed, test = (self._read_split(name, count) for name in ("trainNdxs", "testNdxs"))
        self.choose_ids(split, listed, test, f"file {root / SPLITS}: trainNdxs")

    def files(self, sample_id: str) -> Sequence[str]:
        return (FRAMES,)

    def load_stored(self, sample_id: str) -> tuple[NDArray[np.uint8], Mapping[str, NDArray]]:
        k = int(sample_id) - 1
        with self._reading() as variables:
            # The axes come reversed, so that .T makes (3, W, H) to (H, W, 3).
            image, raw, depth = (np.ascontiguousarray(variables[name][k].T) for name in ("images", "labels", "depths"))
        if raw.max() > RAW_IDS:
            raise BadInput(f"file {self._path}: frame {sample_id} has label {raw.max()}; allowed: 0..{RAW_IDS}")
        return image, {"segmentation": FORTY_OF_RAW[raw], "depth": depth}

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file, which belongs to this process."""
        return {**self.__dict__, "_variables": {}}

    @contextmanager
    def _reading(self) -> Iterator[Mapping[str, h5py.Dataset]]:
        """The variables of the open file; what goes wrong in reading them is a BadInput that names it."""
        with reading(self._path, "MATLAB 7.3"):
            # A file that was open before a fork is the parent's, too, which HDF5 does not provide for.
            if not self._variables or self._process != os.getpid():
                file = h5py.File(self._path, "r", rdcc_nbytes=BLOCK_CACHE)
                self._variables = {name: file[name] for name in (*FORMS, "names") if name in file}
                self._process = os.getpid()
            yield self._variables

    def _check_variables(self) -> int:
        """The number of frames. Raises `BadInput` where a variable is missing or not of the form that it should be."""
        with self._reading() as variables:
            for name in (*FORMS, "names"):
                if not isinstance(variables.get(name), h5py.Dataset):
                    allowed = ", ".join((*FORMS, "names"))
                    raise BadInput(f"file {self._path}: has no variable {name}; allowed: {allowed}")
            count, *size = variables["labels"].shape or (0,)
            shapes = {"images": (count, 3, *size), "depths": (count, *size), "labels": (count, *size)}
            for name, (types, axes) in FORMS.items():
                found = variables[name]
                if found.dtype.name not in types or found.shape != shapes[name] or len(size) != 2 or not found.size:
                    raise BadInput(
                        f"file {self._path}: {name} is {found.dtype} {found.shape}; "
                        f"allowed: {' or '.join(types)} {axes}, the same N, W and H in all variables"
                    )
            self._check_names(variables["names"])
        return count

    def _check_names(self, names: h5py.Dataset) -> None:
        """That raw ids are those of the table: each of the 37 classes with a raw name of its own must have it."""
        references = names[()].ravel()
        if len(references) != RAW_IDS or not isinstance(references[0], h5py.Reference):
            raise BadInput(f"file {self._path}: names has {len(references)} entries; allowed: {RAW_IDS} texts")
        for raw, name in zip(NAMED_RAW_IDS, FORTY, strict=False):  # the last three classes gather many names
            found = "".join(chr(code) for code in names.file[references[raw - 1]][()].ravel())
            if found not in (name, _SPELT.get(name, name)):
                raise BadInput(f"file {self._path}: names has {found!r} as number {raw}; allowed: {name!r}")

    def _read_split(self, name: str, count: int) -> list[str]:
        path = self.root / SPLITS
        if not path.is_file():
            raise self.bad(f"file {path}: is missing; it lists the splits of {FRAMES} and is published at {SPLITS_AT}")
        found = read_mat(path, name)
        allowed = f"allowed: frame numbers 1..{count}"
        if not found.size:
            raise BadInput(f"file {path}: {name} is empty; {allowed}")
        if found.dtype.kind not in "uif":  # MATLAB often keeps whole numbers in floating point
            raise BadInput(f"file {path}: {name} is {found.dtype}; {allowed}")
        outside = first_outside(found, 1, count)
        if outside is not None:
            raise BadInput(f"file {path}: {name} has {outside}; {allowed}")
        return [f"{int(number):04d}" for number in found.ravel()]
