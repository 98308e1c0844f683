"""The predictor that has seen the labels but no image: what a trained model must beat."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.datasets.batches import evaluation_batches
from mtl.losses import align, valid_mask
from mtl.metrics import TaskMetrics
from mtl.tasks import Task

BATCH = 64


def constant_predictor(
    train: Mapping[str, np.ndarray], test: Mapping[str, np.ndarray], tasks: Sequence[Task], protocol: str
) -> dict[str, float]:
    """Metrics on `test` of the majority class, median depth, mean normal and majority label of `train`."""
    values: dict[str, float] = {}
    for task in tasks:
        constant = _constant(train, task, protocol)
        metrics = TaskMetrics(task, protocol)
        for _, targets in evaluation_batches(test, [task], BATCH):
            target = targets[task.name]
            prediction = constant.expand(len(target), *constant.shape[1:])
            metrics.update(*align(task, prediction, target, protocol))
        values |= metrics.compute()
    return values


def _constant(train: Mapping[str, np.ndarray], task: Task, protocol: str) -> Tensor:
    """The best constant as a head's output: (1, channels, h, w), or (1, 1) for a binary label."""
    counts = torch.zeros(256)
    depths: list[Tensor] = []
    normal = torch.zeros(3)
    size = (1,) if not task.dense else tuple(-(-side // 8) for side in train["image"].shape[1:3])
    for _, targets in evaluation_batches(train, [task], BATCH):
        target = targets[task.name]
        if task.dense:
            _, target = align(task, torch.zeros(len(target), 1, *size), target, protocol)
        labelled = target[valid_mask(task, target)]
        if task.kind == "depth":
            # A thousandth part of a median's precision is given away here, and a split's worth of memory saved.
            depths.append(labelled[:: max(1, len(labelled) // 4096)])
        elif task.kind == "normals":
            normal += labelled.sum(dim=0)
        else:
            counts += torch.bincount(labelled.flatten().long(), minlength=256).float()
    if task.kind == "binary":
        return torch.tensor([[1.0 if counts[1] > counts[0] else -1.0]])
    if task.kind == "segmentation":
        constant = F.one_hot(counts[: task.channels].argmax(), task.channels).float()
    elif task.kind == "depth":
        constant = torch.cat(depths).median().view(1)
    else:
        constant = F.normalize(normal, dim=0)
    return constant.view(1, -1, 1, 1).expand(1, -1, *size)
