"""The files that `parsimony predict` writes of each photo and frame, each whole or not at all."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mtl.datasets.inspect.panels import faces_viewer
from mtl.networks.prediction import Prediction
from mtl.networks.prediction_arrays import about_arrays, arrays_of, write_arrays
from mtl.networks.prediction_pictures import Picture, attributes_picture, map_picture, overlay_picture
from mtl.tasks import Task
from mtl.vocabulary.units import byte_size, counted, percent
from search.store.atomic import Unfinished

SHOWN = 5  # of a classification's classes
# PNG's effort. A picture of 12 million pixels takes 1 s with 1 and 5 s with the usual 6, for a tenth of its size.
EFFORT = 1


@dataclass(frozen=True)
class Wanted:
    """overlay: the share of colours over the photo; None: no overlay. depth_unit: of a depth task's numbers."""

    folder: Path
    overlay: float | None
    raw: bool
    depth_unit: str


@dataclass
class Written:
    """What a run has written so far: files by what they are, and their bytes."""

    files: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    taken: set[Path] = field(default_factory=set)

    def line(self, of: str, folder: Path) -> str:
        """Such as "3 photos: 9 maps, 3 arrays in predictions, 1.20 MB"."""
        parts = ", ".join(counted(count, what) for what, count in self.files.items())
        return f"{of}: {parts} in {folder}, {byte_size(self.bytes)}" if parts else f"{of}: nothing written"

    def place(self, folder: Path, name: str) -> Path:
        """A path that no earlier file of this run has: photo a of task b-c would else be photo a-b of task c."""
        path, number = folder / name, 2
        while path in self.taken:
            path, number = (folder / name).with_stem(f"{Path(name).stem}-{number}"), number + 1
        self.taken.add(path)
        return path

    def write(self, what: str, path: Path, writer: Callable[[Path], object]) -> Path:
        """Have `writer` write a file under a temporary name, which then becomes `path`."""
        with Unfinished(path, "--out") as file:
            with file.writing():
                writer(file.path)
            self.add(what, file)
        return path

    def add(self, what: str, file: Unfinished) -> None:
        """Give a file that is written its name, and count it."""
        self.bytes += file.path.stat().st_size
        file.finish()
        self.files[what] += 1


def write_photo(
    wanted: Wanted,
    written: Written,
    name: str,
    photo_path: Path,
    photo: NDArray[np.uint8],
    tasks: Sequence[Task],
    prediction: Prediction,
) -> list[Path]:
    """NAME-TASK.png for each dense task, NAME-attributes.png for the others, and the overlay and arrays as wanted."""
    pictures: list[tuple[str, str, Picture]] = []
    for task in tasks:
        if task.dense:
            predicted = prediction.maps[task.name]
            pictures.append(("map", f"{name}-{task.name}", map_picture(task, predicted, wanted.depth_unit)))
            if task.kind == "segmentation" and wanted.overlay is not None:
                over = overlay_picture(task, photo, predicted, wanted.overlay)
                pictures.append(("overlay", f"{name}-{task.name}-overlay", over))
    if prediction.probabilities:
        drawn = attributes_picture(photo, prediction.probabilities)
        pictures.append(("attribute picture", f"{name}-attributes", drawn))
    paths = []
    for what, stem, picture in pictures:
        save = partial(Image.fromarray(picture).save, format="png", compress_level=EFFORT)
        paths.append(written.write(what, written.place(wanted.folder, f"{stem}.png"), save))
    if wanted.raw:
        paths.append(write_raw(wanted, written, wanted.folder, name, tasks, prediction, {"photo": photo_path.name}))
    return paths


def write_raw(
    wanted: Wanted,
    written: Written,
    folder: Path,
    name: str,
    tasks: Sequence[Task],
    prediction: Prediction,
    of: Mapping[str, object],
) -> Path:
    """NAME.npz with all the arrays of a prediction. of: what its about.json says of the photo or frame."""
    normals = [prediction.maps[task.name] for task in tasks if task.kind == "normals"]
    about = about_arrays(tasks, of, wanted.depth_unit, faces_viewer(normals))
    path = written.place(folder, f"{name}.npz")
    return written.write("array file", path, lambda p: write_arrays(p, arrays_of(tasks, prediction), about))


def probability_lines(prediction: Prediction) -> list[str]:
    """A line for each task of the whole image: its likeliest classes, or how likely a yes is."""
    lines = []
    for task, shares in prediction.probabilities.items():
        likeliest = sorted(shares.items(), key=lambda item: -item[1])[:SHOWN]
        lines.append(f"{task}: " + ", ".join(f"{name} {percent(share)}" for name, share in likeliest))
    return lines


def number_lines(prediction: Prediction, tasks: Sequence[Task]) -> list[str]:
    """A line for each regression: its numbers by name, with their unit."""
    unit = {task.name: f" {task.unit}" if task.unit else "" for task in tasks}
    lines = []
    for task, numbers in prediction.numbers.items():
        shown = ", ".join(f"{name} {number:.4g}".strip() for name, number in numbers.items())
        lines.append(f"{task}: {shown}{unit[task]}")
    return lines
