"""Each kind of task's loss, and the resolution and units in which a protocol compares predictions with targets.

Predictions are float32; targets are as `mtl.tasks` fixes them, batched: (N, H, W), (N, H, W, 3) for normals, (N,).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.tasks import IGNORE, Task

# The paper's protocol smooths the labels of the segmentation by this much.
PAPER_LABEL_SMOOTHING = 0.1


def align(task: Task, prediction: Tensor, target: Tensor, protocol: str) -> tuple[Tensor, Tensor]:
    """Bring a head's output and its target to one resolution and one unit.

    standard: predictions are enlarged (bilinear) to the target's resolution; depth is in metres.
    paper: targets are reduced (nearest) to the head's resolution; depth is divided by each image's largest.
    """
    if not task.dense:
        return prediction, target
    if protocol == "standard":
        return F.interpolate(prediction, size=target.shape[1:3], mode="bilinear", align_corners=False), target
    rows = _nearest(target.shape[1], prediction.shape[2], target.device)
    columns = _nearest(target.shape[2], prediction.shape[3], target.device)
    target = target[:, rows][:, :, columns]
    if task.kind == "depth":
        target = target / target.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(target.dtype).tiny)
    return prediction, target


def _nearest(source: int, count: int, device: torch.device) -> Tensor:
    """The `count` indices into a side of `source` pixels that lie nearest to the centres of `count` equal cells."""
    return ((torch.arange(count, device=device) + 0.5) * source / count).long().clamp(max=source - 1)


def valid_mask(task: Task, target: Tensor) -> Tensor:
    """Where the target is labelled: (N, H, W), or (N,) for a binary label."""
    if task.kind == "depth":
        return target > 0
    if task.kind == "normals":
        return (target != 0).any(dim=-1)
    return target != IGNORE


def task_loss(task: Task, prediction: Tensor, target: Tensor, protocol: str) -> Tensor:
    """Mean loss over the labelled pixels (or images) of aligned tensors; 0, with a gradient of 0, where none is.

    segmentation: cross-entropy. depth: L1. normals: 1 - cosine. binary: cross-entropy with logits.
    """
    valid = valid_mask(task, target)
    count = valid.sum().clamp(min=1)
    if task.kind == "segmentation":
        logits, classes = prediction, target.long()
        if prediction.is_cuda:
            # One row a pixel: the 4-D form has no deterministic CUDA kernel. On CPU the rows take 6 times as long.
            logits, classes = prediction.permute(0, 2, 3, 1).reshape(-1, prediction.shape[1]), classes.reshape(-1)
        smoothing = PAPER_LABEL_SMOOTHING if protocol == "paper" else 0.0
        total = F.cross_entropy(logits, classes, ignore_index=IGNORE, label_smoothing=smoothing, reduction="sum")
    elif task.kind == "depth":
        total = ((prediction[:, 0] - target).abs() * valid).sum()
    elif task.kind == "normals":
        cosine = F.cosine_similarity(prediction, target.movedim(-1, 1), dim=1)
        total = ((1 - cosine) * valid).sum()
    else:
        labels = torch.where(valid, target, 0).to(prediction.dtype)
        total = (F.binary_cross_entropy_with_logits(prediction[:, 0], labels, reduction="none") * valid).sum()
    return total / count
