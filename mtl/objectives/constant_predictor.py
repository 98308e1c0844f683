"""The best prediction without looking at an image: where a head starts, and what a trained model must beat."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mtl.datasets.base import Split
from mtl.datasets.batches.load import evaluation_batches
from mtl.objectives.losses import EDGE_WEIGHT, align, valid_mask
from mtl.objectives.metrics import TaskMetrics
from mtl.tasks import OUTPUT_STRIDE, Task

BATCH = 64
# A median over this many pixels of each batch is as good as one over all, and fits into memory.
PIXELS_A_BATCH = 4096


def best_constant(
    train: Mapping[str, np.ndarray], task: Task, protocol: str, edge_weight: float = EDGE_WEIGHT
) -> Tensor:
    """(channels,): log class frequencies, the median depth, disparity or number, the mean normal, or the log odds of a
    binary label or of an edge.

    Classes that never occur count half a pixel, so that every logarithm is finite. edge_weight: as the loss of edges
    has it.
    """
    if task.kind == "regression":
        numbers = np.asarray(train[task.name]).reshape(len(train[task.name]), -1)
        medians = [np.median(known) if (known := one[~np.isnan(one)]).size else 0 for one in numbers.T]
        return torch.tensor(medians, dtype=torch.float32)
    height, width = train["image"].shape[1:3]
    head = torch.zeros(1, 1, -(-height // OUTPUT_STRIDE), -(-width // OUTPUT_STRIDE))
    counts = torch.zeros(256, dtype=torch.float64)
    normal = torch.zeros(3, dtype=torch.float64)
    depths: list[Tensor] = []
    for _, targets in evaluation_batches(train, [task], BATCH):
        _, target = align(task, head.expand(len(targets[task.name]), -1, -1, -1), targets[task.name], protocol)
        labelled = target[valid_mask(task, target)]
        if task.kind in ("depth", "disparity"):
            depths.append(labelled[:: max(1, len(labelled) // PIXELS_A_BATCH)])
        elif task.kind == "normals":
            normal += labelled.double().sum(dim=0)
        else:
            counts += torch.bincount(labelled.long(), minlength=256)
    if task.kind in ("depth", "disparity"):
        return torch.cat(depths).median().view(1) if sum(map(len, depths)) else torch.zeros(1)
    if task.kind == "normals":
        return torch.nn.functional.normalize(normal, dim=0).float()
    log_counts = counts[: max(2, task.channels)].clamp(min=0.5).log()
    if task.kind == "edges":
        return (log_counts[1] - log_counts[0]).float().view(1) + math.log(edge_weight / (1 - edge_weight))
    if task.kind == "binary":
        return (log_counts[1] - log_counts[0]).float().view(1)
    return log_counts.log_softmax(dim=0).float()


def constant_predictor(
    arrays: Mapping[Split, Mapping[str, np.ndarray]], tasks: Sequence[Task], protocol: str
) -> dict[Split, dict[str, float]]:
    """Metrics on val and on test of the majority class, median depth, mean normal, majority label and median number of
    train."""
    values: dict[Split, dict[str, float]] = {"val": {}, "test": {}}
    height, width = (-(-side // OUTPUT_STRIDE) for side in arrays["train"]["image"].shape[1:3])
    for task in tasks:
        constant = best_constant(arrays["train"], task, protocol)
        for split, found in values.items():
            metrics = TaskMetrics(task, protocol)
            for _, targets in evaluation_batches(arrays[split], [task], BATCH):
                target = targets[task.name]
                shape = (len(target), task.channels, *((height, width) if task.dense else ()))
                prediction = constant.view(1, -1, *[1] * (len(shape) - 2)).expand(shape)
                metrics.update(*align(task, prediction, target, protocol))
            found |= metrics.compute()
    return values
