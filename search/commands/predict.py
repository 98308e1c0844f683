"""`parsimony predict`: a model's task maps of photos and videos as pictures and arrays, and its classes in words."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from mtl.config import TrialConfig
from mtl.datasets.resize import resize_image
from mtl.errors import BadInput, one_line
from mtl.networks.checkpoint import checkpoint_path, load_checkpoint, read_about
from mtl.networks.dry_run import check_outputs
from mtl.networks.export import SUFFIXES, load_export
from mtl.networks.photos import read_photo
from mtl.networks.prediction import Outputs, full_size, outputs_of
from mtl.networks.video import check_video
from mtl.own_modules import allowed_network
from mtl.paths import user_path
from mtl.tasks import Task
from mtl.vocabulary.units import counted
from search.commands.predict_files import Wanted, Written, number_lines, probability_lines, write_photo
from search.commands.predict_inputs import Input, find_inputs
from search.commands.predict_video import predict_video

MOST_BATCH = 1024
# Of photos that are held at once, so that eight of a large camera's do not fill the memory.
BATCH_PIXELS = 2**25
STRENGTH = 0.5  # of an overlay


@dataclass(frozen=True)
class Model:
    """A network on a device, with what is known of its file."""

    path: Path
    network: nn.Module
    tasks: list[Task]
    config: TrialConfig
    device: str
    batch_size: int

    def outputs(self, images: Sequence[NDArray[np.uint8]]) -> list[Outputs]:
        """Of (H, W, 3) images of any sizes. Raises BadInput where the network does not give what it should."""
        try:
            resized = [resize_image(image, self.config.image_size) for image in images]
            return outputs_of(self.network, self.tasks, resized, self.device)
        except BadInput as error:
            said = str(error)
            raise BadInput(said if said.startswith("model ") else f"model {self.path}: {said}") from error
        except torch.OutOfMemoryError as error:
            raise BadInput(
                f"--batch-size {self.batch_size}: more than the GPU's memory holds; allowed: less, or --device cpu"
            ) from error


def run(options: argparse.Namespace) -> int:
    """Write the files of each photo, photo of a folder, and video, and print their paths and each photo's classes.

    The exit status: 1 where photos of a folder or parts of a video could not be read, each of which is named. Raises
    BadInput, before anything is written, for a model, or for photos named by themselves, that cannot be read; one line
    names all such photos.
    """
    paths = [user_path("input", text) for text in options.inputs]
    path = checkpoint_path(str(user_path("checkpoint", options.model)))
    folder = user_path("--out", options.out)
    overlay = _overlay(options)
    if not 1 <= options.batch_size <= MOST_BATCH:
        raise BadInput(f"--batch-size {options.batch_size}; allowed: 1 to {MOST_BATCH:,}")
    model = _open(path, allowed_network(options.network), options.device, options.batch_size)
    if overlay is not None and all(task.kind != "segmentation" for task in model.tasks):
        names = ", ".join(task.name for task in model.tasks)
        raise BadInput(f"--overlay: model {path} has no segmentation but {names}; allowed: a model that has one")
    inputs = find_inputs(paths)
    for video in inputs.videos:
        check_video(video.path)
    unit = "share of the image's farthest" if model.config.protocol == "paper" else "m"
    wanted, written = Wanted(folder, overlay, options.raw, unit), Written()
    failed = _predict_photos(model, inputs.photos, wanted, written) if inputs.photos else 0
    for video in inputs.videos:
        failed += not predict_video(model, video, wanted, written)
    if inputs.passed_over:
        what = counted(inputs.passed_over, "file")
        say(f"{what} passed over in folders, as by its name it is no photo")
    tried = [(one, what) for one, what in ((inputs.photos, "photo"), (inputs.videos, "video")) if one]
    all_of = " and ".join(counted(len(one), what) for one, what in tried)
    say(written.line(all_of if not failed else f"all but {failed:,} of {all_of}", folder))
    if failed:
        say(f"parsimony: {failed:,} of {all_of} could not be done; each is named above")
    return int(failed > 0)


def _overlay(options: argparse.Namespace) -> float | None:
    if options.strength is None:
        return STRENGTH if options.overlay else None
    if not options.overlay:
        raise BadInput(f"--strength {options.strength:g}: is that of an overlay; allowed: together with --overlay")
    if not 0 <= options.strength <= 1:
        raise BadInput(f"--strength {options.strength:g}; allowed: 0 (the photo alone) to 1 (the colours alone)")
    return float(options.strength)


def _open(path: Path, own: str | None, device: str, batch_size: int) -> Model:
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("--device cuda: this machine has no GPU; allowed: cpu, or auto")
    if path.suffix == SUFFIXES["onnx"] and device == "cuda":
        raise BadInput(f"--device cuda: {path} runs on the CPU; allowed: cpu or auto, or its compact.pt or .pt2")
    if path.suffix in SUFFIXES.values():
        network, about = load_export(path)
        config, tasks = read_about(f"model {path}", about)
    else:
        checkpoint = load_checkpoint(path, own)
        network, config, tasks = checkpoint.model, checkpoint.config, checkpoint.tasks
    if path.suffix == SUFFIXES["torch"]:
        try:
            check_outputs(network, tasks, config.image_size)
        except BadInput as error:
            said = str(error)
            raise BadInput(said if said.startswith("model ") else f"model {path}: {said}") from error
    on_gpu = device != "cpu" and torch.cuda.is_available() and path.suffix != SUFFIXES["onnx"]
    where = "cuda" if on_gpu else "cpu"
    return Model(path, network.to(where), tasks, config, where, batch_size)


def _predict_photos(model: Model, photos: Sequence[Input], wanted: Wanted, written: Written) -> int:
    """Predict and write batch by batch; the number of photos that could not be read."""
    failed = 0
    with tqdm(total=len(photos), unit="photo", disable=not sys.stderr.isatty() or len(photos) == 1) as bar:
        for batch, bad in _batches(photos, model.batch_size):
            for error in bad:
                say(f"parsimony: {one_line(error)}")
            failed += len(bad)
            outputs = model.outputs([image for _, image in batch]) if batch else []
            for (one, image), output in zip(batch, outputs, strict=True):
                prediction = full_size(output, model.tasks, image.shape[:2])
                for path in write_photo(wanted, written, one.name, one.path, image, model.tasks, prediction):
                    tqdm.write(one_line(str(path)), file=sys.stdout)
                for line in [*probability_lines(prediction), *number_lines(prediction, model.tasks)]:
                    tqdm.write(one_line(f"{one.path}: {line}"), file=sys.stdout)
            bar.update(len(batch) + len(bad))
    return failed


def _batches(photos: Sequence[Input], size: int) -> Iterator[tuple[list[tuple[Input, NDArray[np.uint8]]], list[str]]]:
    """Up to `size` photos that were read and held together, and what is wrong with those that could not be."""
    batch: list[tuple[Input, NDArray[np.uint8]]] = []
    bad: list[str] = []
    for one in photos:
        try:
            image = read_photo(one.path)
        except BadInput as error:
            if not one.of_folder:  # it was read before, and has gone since
                raise
            bad.append(str(error))
            continue
        batch.append((one, image))
        if len(batch) == size or sum(image.shape[0] * image.shape[1] for _, image in batch) > BATCH_PIXELS:
            yield batch, bad
            batch, bad = [], []
    if batch or bad:
        yield batch, bad


def say(line: str) -> None:
    """On standard error, above a progress bar."""
    tqdm.write(line, file=sys.stderr)
