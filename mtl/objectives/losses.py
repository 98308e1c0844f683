"""The loss of each kind of task, and the resolution and units in which a protocol compares predictions with targets.

Predictions are float32; targets are as `mtl.tasks` fixes them, batched: (N, H, W), (N, H, W, 3) for normals, (N,), or
(N, values) for a regression of several numbers.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.objectives.depth_losses import DEPTH_LOSSES, PLAIN
from mtl.tasks import IGNORE, Task

# Of the pixels on an edge, as in the code of Maninis et al. 2019 (ASTMT) and Vandenhende et al. 2020 (MTI-Net) for
# PASCAL-Context. In HED (Xie & Tu 2015) it is each image's share of pixels without an edge, which is much the same.
EDGE_WEIGHT = 0.95


@dataclass(frozen=True)
class LossSettings:
    """What a trial may choose about its losses."""

    depth: str = "l1"  # a name in `mtl.objectives.depth_losses.DEPTH_LOSSES`
    # In [0, 1): the share of a segmentation's or classification's label that all classes get alike; not of binary ones.
    label_smoothing: float = 0.0
    regression: str = "l1"  # or mse
    # In (0, 1): the weight of the pixels on an edge; the others have the rest to 1. Few pixels are on an edge.
    edge_weight: float = EDGE_WEIGHT


# arXiv 2308.12114 trains depth with the squared error, and its authors' code smooths labels by 0.1.
PROTOCOL_LOSSES = {
    "standard": LossSettings("l1", 0.0),
    "paper": LossSettings("mse", 0.1),
    "mtan": LossSettings("l1", 0.0),
}


def loss_settings(
    protocol: str,
    depth_loss: str | None = None,
    label_smoothing: float | None = None,
    regression_loss: str = "l1",
    edge_weight: float = EDGE_WEIGHT,
) -> LossSettings:
    """The chosen losses, or those of the protocol where a choice is None."""
    own = PROTOCOL_LOSSES[protocol]
    smoothing = own.label_smoothing if label_smoothing is None else label_smoothing
    return LossSettings(depth_loss or own.depth, smoothing, regression_loss, edge_weight)


def align(task: Task, prediction: Tensor, target: Tensor, protocol: str, stride: int = 1) -> tuple[Tensor, Tensor]:
    """Bring a head's output and its target to one resolution and one unit.

    standard and mtan: predictions are enlarged (bilinear) to the target's resolution; depth is in metres.
    paper: targets are reduced (nearest) to the head's resolution; depth and disparity are divided by each image's
    largest. Edges are thinner than the head's pixels: one of these is on an edge where any pixel that it covers is.
    stride: only every so-many-th pixel of each row and column is kept.
    """
    if not task.dense:
        return prediction, target
    if protocol != "paper":
        return enlarge(prediction, (target.shape[1], target.shape[2]), stride), _every(target, stride)
    if task.kind == "edges":
        target = _reduced_edges(target, (prediction.shape[2], prediction.shape[3]))
    else:
        rows = _nearest(target.shape[1], prediction.shape[2], target.device)
        columns = _nearest(target.shape[2], prediction.shape[3], target.device)
        target = target[:, rows][:, :, columns]
    if task.kind in ("depth", "disparity"):
        target = target / target.amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(target.dtype).tiny)
    return _every(prediction.movedim(1, -1), stride).movedim(-1, 1), _every(target, stride)


def _every(x: Tensor, stride: int) -> Tensor:
    """(N, H, W, ...) at every `stride`-th row and column, starting in the middle of the first cell."""
    return x if stride == 1 else x[:, stride // 2 :: stride, stride // 2 :: stride]


def enlarge(x: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """Bilinear interpolation of (N, C, h, w) to `size`, as F.interpolate(mode="bilinear", align_corners=False).

    With a stride only every so-many-th row and column of the result is computed. Each side is a product with a matrix:
    F.interpolate takes five times as long to differentiate on CPU, and its gradient on CUDA is not deterministic.
    """
    rows = _bilinear(x.shape[2], size[0], x.device, x.dtype)
    columns = _bilinear(x.shape[3], size[1], x.device, x.dtype)
    kept = slice(stride // 2, None, stride)
    return rows[kept] @ x.contiguous() @ columns[kept].T


def enlarged_rows(x: Tensor, size: tuple[int, int], numbers: int) -> Iterator[tuple[slice, Tensor]]:
    """`enlarge` of (N, C, h, w) a few rows at a time, (N, C, rows, W) of at most `numbers`, but one row at least."""
    wide = x.contiguous() @ _bilinear(x.shape[3], size[1], x.device, x.dtype).T
    rows = _bilinear(x.shape[2], size[0], x.device, x.dtype)
    step = max(1, numbers // max(1, x.shape[0] * x.shape[1] * size[1]))
    for start in range(0, size[0], step):
        yield slice(start, start + step), rows[start : start + step] @ wide


@functools.lru_cache(maxsize=32)
def _bilinear(source: int, count: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(count, source): the weights with which `count` equal cells read a line of `source` pixels."""
    # Made in inference mode it could not be saved for a later backward pass.
    with torch.inference_mode(False):
        position = ((torch.arange(count, dtype=torch.float64) + 0.5) * source / count - 0.5).clamp(0, source - 1)
        distance = (position[:, None] - torch.arange(source, dtype=torch.float64)).abs()
        return (1 - distance).clamp(min=0).to(device, dtype)


def _reduced_edges(target: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W) edges at `size`: 1 where one of a cell's pixels is, IGNORE where none has a label."""
    rank = torch.where(target == IGNORE, 0, target.float() + 1)
    reduced = F.adaptive_max_pool2d(rank[:, None], size)[:, 0]
    return torch.where(reduced == 0, IGNORE, reduced - 1).to(target.dtype)


def _nearest(source: int, count: int, device: torch.device) -> Tensor:
    """The `count` indices into a side of `source` pixels that lie nearest to the centres of `count` equal cells."""
    return ((torch.arange(count, device=device) + 0.5) * source / count).long().clamp(max=source - 1)


def cosine_to_unit(prediction: Tensor, target: Tensor) -> Tensor:
    """(N, H, W): cosines between predictions (N, 3, H, W) of any length and unit targets (N, H, W, 3)."""
    # Written out, as torch's norm over a dimension that is not the last takes ten times as long on CPU.
    x, y, z = prediction.unbind(dim=1)
    dot = x * target[..., 0] + y * target[..., 1] + z * target[..., 2]
    return dot * (x * x + y * y + z * z + 1e-12).rsqrt()


def valid_mask(task: Task, target: Tensor) -> Tensor:
    """Where the target is labelled: (N, H, W), (N,) where the task is not dense, (N, values) for several numbers."""
    if task.kind in ("depth", "disparity"):
        return target > 0
    if task.kind == "regression":
        return ~target.isnan()
    if task.kind == "normals":
        return (target != 0).any(dim=-1)
    return target != IGNORE


def task_loss(task: Task, prediction: Tensor, target: Tensor, settings: LossSettings) -> Tensor:
    """Mean loss over the labelled pixels (or images) of aligned tensors; 0, with a gradient of 0, where none is.

    segmentation and classification: cross-entropy, with label smoothing. depth: see `mtl.objectives.depth_losses`.
    disparity: absolute error, or squared where depth is. normals: 1 - cosine. binary: cross-entropy with logits. edges:
    the same with each pixel's weight, `edge_weight` on an edge and the rest to 1 elsewhere. regression: absolute or
    squared error over the task's scale, a mean over all labelled numbers.
    """
    valid = valid_mask(task, target)
    count = valid.sum().clamp(min=1)
    if task.kind == "disparity":
        return DEPTH_LOSSES[settings.depth if settings.depth in PLAIN else "l1"](prediction[:, 0], target, valid)
    if task.kind == "regression":
        error = torch.where(valid.view_as(prediction), prediction - target.view_as(prediction), 0) / task.scale
        return (error.square() if settings.regression == "mse" else error.abs()).sum() / count
    if task.kind == "depth":
        return DEPTH_LOSSES[settings.depth](prediction[:, 0], target, valid)
    if task.kind in ("segmentation", "classification"):
        logits, classes = prediction, target.long()
        if task.dense and prediction.is_cuda:
            # One row a pixel: the 4-D form has no deterministic CUDA kernel. On CPU the rows take 6 times as long.
            logits, classes = prediction.permute(0, 2, 3, 1).reshape(-1, prediction.shape[1]), classes.reshape(-1)
        total = F.cross_entropy(
            logits, classes, ignore_index=IGNORE, label_smoothing=settings.label_smoothing, reduction="sum"
        )
    elif task.kind == "edges":
        on_edge = (target == 1).to(prediction.dtype)
        weight = (on_edge * settings.edge_weight + (1 - on_edge) * (1 - settings.edge_weight)) * valid
        total = (F.binary_cross_entropy_with_logits(prediction[:, 0], on_edge, reduction="none") * weight).sum()
    elif task.kind == "normals":
        total = ((1 - cosine_to_unit(prediction, target)) * valid).sum()
    else:
        labels = torch.where(valid, target, 0).to(prediction.dtype)
        total = (F.binary_cross_entropy_with_logits(prediction[:, 0], labels, reduction="none") * valid).sum()
    return total / count
