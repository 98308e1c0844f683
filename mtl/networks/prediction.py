"""A model's predictions for an image: maps at the image's own resolution, and probabilities of its classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl.datasets.batches.load import evaluation_batches
from mtl.datasets.resize import resize_image, unit_normals
from mtl.errors import BadInput
from mtl.networks.dry_run import check_shapes
from mtl.objectives.losses import enlarge
from mtl.tasks import Task

# (N, 3, H, W) normalised images -> {task: (N, channels, H / 8, W / 8) or, if not dense, (N, channels)}
Network = Callable[[Tensor], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Prediction:
    """`maps`: of each dense task, in the form of its targets (`mtl.tasks`); every pixel is labelled, and a depth may be
    0 or less; of edges they are the probabilities of one, float32. `probabilities`: of each other task, by class; of a
    binary task, of yes. `numbers`: of a regression, by the names of its values, "" for a single one.
    """

    maps: Mapping[str, NDArray]
    probabilities: Mapping[str, Mapping[str, float]]
    numbers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@torch.inference_mode()
def predict(
    network: Network, tasks: Sequence[Task], image: NDArray[np.uint8], image_size: tuple[int, int]
) -> Prediction:
    """Run a network on one (H, W, 3) RGB image, resized as in training to the (height, width) that it was trained at.

    The heads' outputs are enlarged bilinearly to H x W, as the standard protocol does. Raises BadInput, whose line the
    caller begins, for a network that does not give the tasks' outputs, or that gives values that are not finite.
    """
    resized = resize_image(image, image_size)
    ((images, _),) = evaluation_batches({"image": resized[None]}, [], 1)
    outputs = network(images)
    check_shapes(outputs, tasks)
    for task in tasks:
        if not outputs[task.name].isfinite().all():
            raise BadInput(f"its {task.name} of an image is not finite; allowed: weights that give numbers")
    maps: dict[str, NDArray] = {}
    probabilities: dict[str, dict[str, float]] = {}
    numbers: dict[str, dict[str, float]] = {}
    for task in tasks:
        output = outputs[task.name].float()
        match task.kind:
            case "segmentation":
                maps[task.name] = _enlarged(output, image).argmax(dim=0).to(torch.uint8).numpy()
            case "edges":
                maps[task.name] = _enlarged(output, image)[0].sigmoid().numpy()
            case "regression":
                numbers[task.name] = dict(zip(task.values or ("",), output[0].tolist(), strict=True))
            case "depth" | "disparity":
                maps[task.name] = _enlarged(output, image)[0].numpy()
            case "normals":
                maps[task.name] = unit_normals(_enlarged(output, image).permute(1, 2, 0).numpy())
            case "classification":
                shares = output[0].softmax(dim=0).tolist()
                probabilities[task.name] = dict(zip(task.classes, shares, strict=True))
            case "binary":
                probabilities[task.name] = {"yes": float(output[0, 0].sigmoid())}
    return Prediction(maps, probabilities, numbers)


def _enlarged(output: Tensor, image: NDArray[np.uint8]) -> Tensor:
    """(1, C, h, w) -> (C, H, W) on the CPU."""
    return enlarge(output, (image.shape[0], image.shape[1]))[0].cpu()
