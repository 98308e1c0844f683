"""A model's predictions for photos: maps at each photo's own resolution, and probabilities of its classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtl.datasets.batches.load import evaluation_batches
from mtl.datasets.resize import Size, resize_image, unit_normals
from mtl.errors import BadInput
from mtl.networks.dry_run import check_shapes
from mtl.objectives.losses import enlarged_rows
from mtl.tasks import Task

# (N, 3, H, W) normalised images -> {task: (N, channels, H / 8, W / 8) or, if not dense, (N, channels)}
Network = Callable[[Tensor], Mapping[str, Tensor]]
# Of one image, on the CPU: {task: (1, channels, h, w) or (1, channels)} in float32.
Outputs = Mapping[str, Tensor]

# Of an output that is enlarged at once: 40 classes of 12 million pixels are 2 GB, of which only the best class is kept.
MOST_NUMBERS = 2**24


@dataclass(frozen=True)
class Prediction:
    """`maps`: of each dense task, in the form of its targets (`mtl.tasks`); every pixel is labelled, and a depth may be
    0 or less; of edges they are the probabilities of one, float32. `probabilities`: of each other task, by class; of a
    binary task, of yes. `numbers`: of a regression, by the names of its values, "" for a single one.
    """

    maps: Mapping[str, NDArray]
    probabilities: Mapping[str, Mapping[str, float]]
    numbers: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def predict(network: Network, tasks: Sequence[Task], image: NDArray[np.uint8], image_size: Size) -> Prediction:
    """A network's prediction for one (H, W, 3) RGB image, as `outputs_of` and `full_size` make it."""
    (outputs,) = outputs_of(network, tasks, [resize_image(image, image_size)])
    return full_size(outputs, tasks, image.shape[:2])


@torch.inference_mode()
def outputs_of(
    network: Network, tasks: Sequence[Task], images: Sequence[NDArray[np.uint8]], device: str = "cpu"
) -> list[Outputs]:
    """What a network on `device` gives for each (h, w, 3) RGB image of the size that it was trained at.

    Raises BadInput, whose line the caller begins, for a network that does not give the tasks' outputs, or that gives
    values that are not finite.
    """
    ((batch, _),) = evaluation_batches({"image": np.stack(images)}, [], len(images))
    outputs = network(batch.to(device))
    if not isinstance(outputs, Mapping) or any(len(value) != len(images) for value in outputs.values()):
        raise BadInput(f"its network does not give {len(images)} outputs of as many images; allowed: one that does")
    check_shapes({name: value[:1] for name, value in outputs.items()}, tasks)
    for task in tasks:
        if not outputs[task.name].isfinite().all():
            raise BadInput(f"its {task.name} of an image is not finite; allowed: weights that give numbers")
    ours = {task.name: outputs[task.name].float().cpu() for task in tasks}
    return [{name: value[k : k + 1] for name, value in ours.items()} for k in range(len(images))]


@torch.inference_mode()
def full_size(outputs: Outputs, tasks: Sequence[Task], size: Size) -> Prediction:
    """The prediction that an image's outputs make at its own (height, width).

    Scores of classes, depths and normals are enlarged bilinearly, as the standard protocol does; then the best class is
    taken, and normals are brought to unit length.
    """
    maps = {task.name: _map(task, outputs[task.name], size) for task in tasks if task.dense}
    probabilities: dict[str, dict[str, float]] = {}
    numbers: dict[str, dict[str, float]] = {}
    for task in tasks:
        output = outputs[task.name]
        match task.kind:
            case "classification":
                shares = output[0].softmax(dim=0).tolist()
                probabilities[task.name] = dict(zip(task.classes, shares, strict=True))
            case "binary":
                probabilities[task.name] = {"yes": float(output[0, 0].sigmoid())}
            case "regression":
                numbers[task.name] = dict(zip(task.values or ("",), output[0].tolist(), strict=True))
    return Prediction(maps, probabilities, numbers)


def _map(task: Task, output: Tensor, size: Size) -> NDArray:
    """(1, C, h, w) -> the task's map, (H, W) or (H, W, 3)."""
    shape = (*size, 3) if task.kind == "normals" else size
    whole: NDArray = np.empty(shape, np.uint8 if task.kind == "segmentation" else np.float32)
    for rows, part in enlarged_rows(output, size, MOST_NUMBERS):
        match task.kind:
            case "segmentation":
                whole[rows] = part[0].argmax(dim=0).numpy()
            case "depth" | "disparity":
                whole[rows] = part[0, 0].numpy()
            case "edges":
                whole[rows] = part[0, 0].sigmoid().numpy()
            case _:
                whole[rows] = unit_normals(part[0].permute(1, 2, 0).numpy())
    return whole
