"""`parsimony predict` of videos: a video of each map with one key for all frames, and the classes in a table."""

import csv
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mtl.datasets.resize import resize_image
from mtl.errors import BadInput, one_line
from mtl.networks.prediction import Prediction, full_size
from mtl.networks.prediction_pictures import Legend, Picture, above, key_strip, legend_of, map_colors, overlay_colors
from mtl.networks.video import SUFFIX, Frame, VideoWriter, frame_rate, read_frames
from mtl.tasks import Task
from search.commands.predict_files import Wanted, Written, write_raw
from search.commands.predict_inputs import Input
from search.store.atomic import Unfinished

if TYPE_CHECKING:
    from search.commands.predict import Model

SAMPLED = 16  # frames that the keys are made from, at least, where a video has as many
# Gives the picture of a frame, without its key.
_Draw = Callable[[NDArray[np.uint8], Prediction], Picture]


class _Damaged(Exception):
    """A video that cannot be read to its end."""


@dataclass(frozen=True)
class _Overview:
    """What the first reading of a video tells. `legends`: by dense task, of the frames that were sampled."""

    frames: int
    legends: Mapping[str, Legend]


def predict_video(model: "Model", one: Input, wanted: Wanted, written: Written) -> bool:
    """Write NAME-TASK.mp4 for each dense task, NAME-attributes.csv for the others, and overlay and arrays as wanted.

    The video is read twice: first for its length, and for the depths and classes of some of its frames, so that all
    frames have one key; then a batch at a time. False, and a line that says why, where it is damaged: then there is no
    video or table of it.
    """
    try:
        overview = _overview(model, one)
        with ExitStack() as stack:
            files = _Files(model, one, overview, wanted, written, stack)
            with tqdm(total=overview.frames, unit="frame", desc=one.name, disable=not sys.stderr.isatty()) as bar:
                for frames in _batches(_frames(one.path), model.batch_size):
                    outputs = model.outputs([frame.pixels for frame in frames])
                    for frame, output in zip(frames, outputs, strict=True):
                        files.add(frame, full_size(output, model.tasks, frame.pixels.shape[:2]))
                    bar.update(len(frames))
            for path in files.finish():
                tqdm.write(one_line(str(path)), file=sys.stdout)
    except _Damaged as error:
        tqdm.write(f"parsimony: {one_line(str(error))}", file=sys.stderr)
        return False
    return True


def _overview(model: "Model", one: Input) -> _Overview:
    frames, stride = 0, 1
    sample: list[NDArray[np.uint8]] = []
    for frame in _frames(one.path):
        if frames % stride == 0:
            sample.append(resize_image(frame.pixels, model.config.image_size))
            if len(sample) == 2 * SAMPLED:
                sample, stride = sample[::2], 2 * stride
        frames += 1
    if not frames:
        raise _Damaged(f"file {one.path}: cannot be read as a video (it has no frames)")
    predictions = [
        full_size(output, model.tasks, model.config.image_size)
        for start in range(0, len(sample), model.batch_size)
        for output in model.outputs(sample[start : start + model.batch_size])
    ]
    dense = [task for task in model.tasks if task.dense]
    return _Overview(frames, {task.name: legend_of(task, [p.maps[task.name] for p in predictions]) for task in dense})


class _Files:
    """The files of a video, under temporary names until `finish`; those of `stack` go away with it otherwise."""

    def __init__(
        self, model: "Model", one: Input, overview: _Overview, wanted: Wanted, written: Written, stack: ExitStack
    ) -> None:
        self._model, self._one, self._wanted, self._written = model, one, wanted, written
        self._rate = frame_rate(one.path)
        self._stack = stack
        self._draws: list[tuple[str, str, Legend, _Draw]] = []
        for task in model.tasks:
            if not task.dense:
                continue
            legend, name = overview.legends[task.name], task.name
            self._draws.append(("map video", name, legend, partial(_map, task, legend)))
            if task.kind == "segmentation" and wanted.overlay is not None:
                draw = partial(_overlay, task.name, legend, wanted.overlay)
                self._draws.append(("overlay video", f"{name}-overlay", legend, draw))
        self._files: list[tuple[str, Unfinished]] = []
        self._writers: list[VideoWriter] = []
        self._strips: list[Picture] = []
        self._rows: list[list[str | int | float]] = []
        self._number = 0

    def add(self, frame: Frame, prediction: Prediction) -> None:
        self._number += 1
        if self._number == 1:
            self._begin(frame.pixels.shape[1], prediction)
        for (_, _, _, draw), writer, strip, (_, file) in zip(
            self._draws, self._writers, self._strips, self._files, strict=False
        ):
            with file.writing():
                writer.add(above(draw(frame.pixels, prediction), strip), frame.at)
        if prediction.probabilities or prediction.numbers:
            parts = (*prediction.probabilities.values(), *prediction.numbers.values())
            shares = [value for one in parts for value in one.values()]
            self._rows.append([self._number, *(round(value, 6) for value in (float(frame.at), *shares))])
        if self._wanted.raw:
            of = {"video": self._one.path.name, "frame": self._number, "seconds": float(frame.at)}
            folder = self._wanted.folder / f"{self._one.name}-raw"
            name = f"{self._number:06d}"
            write_raw(self._wanted, self._written, folder, name, self._model.tasks, prediction, of)

    def finish(self) -> list[Path]:
        """Give all files their names; those names."""
        for writer, (_, file) in zip(self._writers, self._files, strict=False):
            with file.writing():
                writer.close()
        if self._rows:
            self._write_table()
        for what, file in self._files:
            self._written.add(what, file)
        return [file.target for _, file in self._files]

    def _begin(self, width: int, prediction: Prediction) -> None:
        for what, name, legend, _ in self._draws:
            file = self._new(what, f"{self._one.name}-{name}{SUFFIX}")
            with file.writing():
                self._writers.append(self._stack.enter_context(VideoWriter(file.path, self._rate)))
            self._strips.append(key_strip(legend, width, self._wanted.depth_unit))
        self._header = [
            task if name == "yes" and len(shares) == 1 else f"{task}: {name}"
            for task, shares in prediction.probabilities.items()
            for name in shares
        ]
        for task, numbers in prediction.numbers.items():
            self._header += [f"{task}: {name}" if name else task for name in numbers]

    def _write_table(self) -> None:
        """A row for each frame: its number from 1, its time, probabilities of classes or of yes, numbers."""
        table = self._new("table", f"{self._one.name}-attributes.csv")
        with table.writing(), table.path.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["frame", "seconds", *self._header])
            writer.writerows(self._rows)

    def _new(self, what: str, name: str) -> Unfinished:
        file = self._stack.enter_context(Unfinished(self._written.place(self._wanted.folder, name), "--out"))
        self._files.append((what, file))
        return file


def _overlay(task: str, legend: Legend, strength: float, photo: NDArray[np.uint8], prediction: Prediction) -> Picture:
    return overlay_colors(photo, prediction.maps[task], legend, strength)


def _map(task: Task, legend: Legend, photo: NDArray[np.uint8], prediction: Prediction) -> Picture:
    return map_colors(task, prediction.maps[task.name], legend)


def _frames(path: Path) -> Iterator[Frame]:
    try:
        yield from read_frames(path)
    except BadInput as error:
        raise _Damaged(str(error)) from error


def _batches(frames: Iterator[Frame], size: int) -> Iterator[list[Frame]]:
    """itertools.batched, which Python 3.11 does not have."""
    batch: list[Frame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
