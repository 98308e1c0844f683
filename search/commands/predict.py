"""`parsimony predict`: a model's task maps of images as pictures, and the probabilities of its classes in words."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from mtl.config import TrialConfig
from mtl.datasets.reading import read_image
from mtl.errors import BadInput
from mtl.networks.checkpoint import checkpoint_path, load_checkpoint, read_about
from mtl.networks.export import SUFFIXES, load_onnx
from mtl.networks.prediction import Network, Prediction, predict
from mtl.networks.prediction_pictures import map_picture
from mtl.own_modules import allowed_network
from mtl.paths import user_path
from mtl.tasks import Task
from search.store.atomic import Unfinished

SHOWN = 5


def run(options: argparse.Namespace) -> int:
    """Write OUT/IMAGE-TASK.png for each image and dense task, and print their paths and each image's classes.

    The exit status. Raises BadInput, before anything is written, for a model or images that cannot be read; one line
    names all such images.
    """
    paths = [user_path("image", image) for image in options.images]
    path = checkpoint_path(str(user_path("checkpoint", options.model)))
    folder = user_path("--out", options.out)
    network, tasks, config = _open(path, allowed_network(options.network))
    _check(paths)
    unit = "share of the image's farthest" if config.protocol == "paper" else "m"
    for image_path, name in zip(paths, _names(paths), strict=True):
        image = read_image(image_path)
        try:
            prediction = predict(network, tasks, image, config.image_size)
        except BadInput as error:
            raise BadInput(f"model {path}: {error}") from error
        for task in tasks:
            if task.dense:
                written = folder / f"{name}-{task.name}.png"
                picture = Image.fromarray(map_picture(task, prediction.maps[task.name], unit))
                with Unfinished(written, "--out") as file, file.writing():
                    picture.save(file.path, format="png")
                    file.finish()
                print(written)
        for line in [*probability_lines(prediction), *number_lines(prediction, tasks)]:
            print(f"{image_path}: {line}")
    return 0


def probability_lines(prediction: Prediction) -> list[str]:
    """A line for each task of the whole image: its likeliest classes, or how likely a yes is."""
    lines = []
    for task, shares in prediction.probabilities.items():
        likeliest = sorted(shares.items(), key=lambda item: -item[1])[:SHOWN]
        lines.append(f"{task}: " + ", ".join(f"{name} {share:.3f}" for name, share in likeliest))
    return lines


def number_lines(prediction: Prediction, tasks: Sequence[Task]) -> list[str]:
    """A line for each regression: its numbers by name, with their unit."""
    unit = {task.name: f" {task.unit}" if task.unit else "" for task in tasks}
    lines = []
    for task, numbers in prediction.numbers.items():
        shown = ", ".join(f"{name} {number:.4g}".strip() for name, number in numbers.items())
        lines.append(f"{task}: {shown}{unit[task]}")
    return lines


def _open(path: Path, own: str | None) -> tuple[Network, list[Task], TrialConfig]:
    if path.suffix == SUFFIXES["onnx"]:
        network, about = load_onnx(path)
        config, tasks = read_about(f"model {path}", about)
        return network, tasks, config
    checkpoint = load_checkpoint(path, own)
    return checkpoint.model, checkpoint.tasks, checkpoint.config


def _check(paths: Sequence[Path]) -> None:
    bad = []
    for path in paths:
        try:
            read_image(path)
        except BadInput as error:
            bad.append(str(error))
    if bad:
        raise BadInput("; ".join(bad))


def _names(paths: Sequence[Path]) -> list[str]:
    """What the pictures of each image are named after: its own name, numbered where several images share it."""
    names: list[str] = []
    for path in paths:
        count = [other.stem for other in paths].count(path.stem)
        earlier = sum(name == path.stem or name.startswith(f"{path.stem}-") for name in names)
        names.append(path.stem if count == 1 else f"{path.stem}-{earlier + 1}")
    return names
