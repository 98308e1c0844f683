"""Taskonomy, Zamir et al., "Taskonomy: Disentangling Task Transfer Learning" (CVPR 2018), 512 x 512, in the folders

    DOMAIN/BUILDING/point_P_view_V_domain_DOMAIN.png      or DOMAIN/taskonomy/BUILDING/…, as its tool downloads it,
    BUILDING/DOMAIN/point_P_view_V_domain_DOMAIN.png      or each building by itself

of these domains; those that are absent are absent tasks:

    rgb                RGB, 8 bits segment_semantic   8 bits: 0 uncertain, 1 background, 2..17 objects; predicted by a
    network. Files end in segmentsemantic depth_zbuffer      16 bits, 1/512 m along the optical axis; 65535 none normal
    8 bits for -1..1; grey where there is none edge_texture       16 bits: how strong an edge of the picture is

Edges are where edge_texture is above the option `edge_threshold`: a share of 65535, by default half of 0.08, the upper
end of the range to which others scale it (AdaShare, Sun et al. 2020). The set itself has no binary edges.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtl.datasets.base import SPLITS, Sample, Split
from mtl.datasets.file_dataset import FileDataset
from mtl.datasets.own.splits import split_by_seed
from mtl.datasets.reading import read_image, read_mask, read_numbers, reading
from mtl.datasets.resize import unit_normals
from mtl.errors import BadInput
from mtl.tasks import IGNORE, Task

CLASSES = (
    "background", "bottle", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv", "microwave",
    "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
)  # fmt: skip
DOMAIN = {
    "segmentation": "segment_semantic", "depth": "depth_zbuffer", "normals": "normal", "edges": "edge_texture",
}  # fmt: skip
TASKS = {
    "segmentation": Task("segmentation", "segmentation", CLASSES),
    "depth": Task("depth", "depth"),
    "normals": Task("normals", "normals"),
    "edges": Task("edges", "edges"),
}
VIEW = re.compile(r"(point_[0-9]+_view_[0-9]+)_domain_rgb\.png")
UNITS_A_METRE, NO_DEPTH = 512, 65_535
# 8-bit normals below this length mean none: grey is not quite 0.
SHORTEST_OF_8_BITS = 0.5
PLACES = ("{domain}/{building}", "{domain}/taskonomy/{building}", "{building}/{domain}")
RGB_PLACES = tuple(place.format(domain="rgb", building="*") for place in PLACES)
EDGE_THRESHOLD = 0.04


class Taskonomy(FileDataset):
    """Whole buildings train, validate or test.

    split_file: a list of buildings with the columns id, train, val and test, 1 or 0 in the last three, such as the
    published train_val_test_tiny.csv; its path relative to `root`. Buildings that are not there are left out.
    split_seed: without a list, 70, 15 and 15 % of the images by whole buildings, see `own.splits.split_by_seed`.
    """

    name = "taskonomy"
    layout = "Taskonomy, DOMAIN/BUILDING/ or BUILDING/DOMAIN/"

    @staticmethod
    def recognises(root: Path) -> bool:
        # One file is enough: a glob stops there.
        return any(next(root.glob(f"{place}/*_domain_rgb.png"), None) for place in RGB_PLACES)

    def __init__(
        self, root: Path, split_file: str | None = None, split_seed: int = 0, edge_threshold: float = EDGE_THRESHOLD
    ) -> None:
        super().__init__(root)
        if (
            isinstance(edge_threshold, bool)
            or not isinstance(edge_threshold, int | float)
            or not 0 < edge_threshold < 1
        ):
            raise BadInput(f"dataset_options.edge_threshold: {edge_threshold!r}; allowed: above 0 and below 1")
        if split_file is not None and not isinstance(split_file, str):
            raise BadInput(f"dataset_options.split_file: {split_file!r}; allowed: the path of a .csv file")
        if isinstance(split_seed, bool) or not isinstance(split_seed, int) or split_seed < 0:
            raise BadInput(f"dataset_options.split_seed: {split_seed!r}; allowed: 0 or more")
        self.edge_threshold = edge_threshold
        views = self._views()
        if not views:
            raise self.bad(f"{root} has no point_P_view_V_domain_rgb.png; expected {self.layout}")
        self._there = {
            (task, building): place
            for building in views
            for task, domain in DOMAIN.items()
            if (place := self._place(domain, building))
        }
        self.tasks = {name: task for name, task in TASKS.items() if any((name, one) in self._there for one in views)}
        if not self.tasks:
            raise self.bad(f"{root} has no targets; allowed: {', '.join(f'{one}/' for one in DOMAIN.values())}")
        every = [f"{building}/{view}" for building, found in views.items() for view in found]
        if split_file is None:
            self.ids: Mapping[Split, Sequence[str]] = split_by_seed(every, split_seed, by="^[^/]+")
            self.notes = [f"split by whole buildings, 70-15-15, by split_seed {split_seed}"]
        else:
            split_of = _read_split_file(root / split_file)
            self.ids = {one: [i for i in every if split_of.get(i.partition("/")[0]) == one] for one in SPLITS}
            left = [building for building in views if building not in split_of]
            told = f"; {len(left)} of {len(views)} buildings are not in it and left out" if left else ""
            self.notes = [f"split by {root / split_file}{told}"]

    def files(self, sample_id: str) -> Sequence[str]:
        return list(self._files(sample_id).values())

    def load(self, sample_id: str) -> Sample:
        path = {task: self.root / file for task, file in self._files(sample_id).items()}
        targets: dict[str, NDArray] = {}
        if "segmentation" in path:
            stored = read_mask(path["segmentation"])
            if (largest := int(stored.max())) > len(CLASSES):
                raise BadInput(f"file {path['segmentation']}: holds label {largest}; allowed: 0..{len(CLASSES)}")
            targets["segmentation"] = np.where(stored == 0, IGNORE, stored - 1).astype(np.uint8)
        if "depth" in path:
            depth = read_numbers(path["depth"])
            targets["depth"] = np.where(depth == NO_DEPTH, 0, depth / np.float32(UNITS_A_METRE)).astype(np.float32)
        if "normals" in path:
            normals = read_image(path["normals"]).astype(np.float64) / 127.5 - 1
            none = np.linalg.norm(normals, axis=-1, keepdims=True) < SHORTEST_OF_8_BITS
            targets["normals"] = unit_normals(np.where(none, 0, normals))
        if "edges" in path:
            targets["edges"] = (read_numbers(path["edges"]) > self.edge_threshold * 65_535).astype(np.uint8)
        return Sample(read_image(path["image"]), targets)

    def variant(self) -> str:
        return f"edges above {self.edge_threshold:g}" if "edges" in self.tasks else ""

    def _files(self, sample_id: str) -> dict[str, str]:
        building, view = sample_id.split("/")
        files = {"image": f"{self._place('rgb', building)}/{view}_domain_rgb.png"}
        for task in self.tasks:
            domain = DOMAIN[task]
            # Where a building lacks a domain, the file is reported under the first of its names.
            place = self._there.get((task, building)) or PLACES[0].format(domain=domain, building=building)
            files[task] = f"{place}/{view}_domain_{domain.replace('segment_semantic', 'segmentsemantic')}.png"
        return files

    def _place(self, domain: str, building: str) -> str:
        """The folder of a building's files of a domain, relative to the root; empty where there is none."""
        places = (place.format(domain=domain, building=building) for place in PLACES)
        return next((place for place in places if self.listing.names(place)), "")

    def _views(self) -> dict[str, list[str]]:
        """The views of each building that have an image."""
        folders = [folder for place in RGB_PLACES for folder in self.root.glob(place)]
        found: dict[str, list[str]] = {}
        for folder in sorted(folders):
            building = folder.parent.name if folder.name == "rgb" else folder.name
            names = self.listing.names(folder.relative_to(self.root).as_posix())
            if views := sorted(match[1] for name in names if (match := VIEW.fullmatch(name))):
                found.setdefault(building, views)
        return found


def _read_split_file(path: Path) -> dict[str, Split]:
    """The split of each building. Raises BadInput, in the name of the option, for another file."""
    option = "dataset_options.split_file"
    with reading(path, "text"):
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    header = [cell.strip() for cell in rows[0]] if rows else []
    if header != ["id", *SPLITS]:
        raise BadInput(f"{option}: {path} line 1 is {','.join(header)!r}; allowed: id,train,val,test")
    found: dict[str, Split] = {}
    for number, cells in enumerate(rows[1:], start=2):
        if not cells:
            continue
        marks = [cell.strip() for cell in cells[1:]]
        if len(marks) != len(SPLITS) or not {*marks} <= {"0", "1"} or marks.count("1") > 1:
            raise BadInput(f"{option}: {path} line {number}: {','.join(cells)!r}; allowed: BUILDING and a 1 among 0s")
        if "1" in marks:
            found[cells[0].strip()] = SPLITS[marks.index("1")]
    return found
