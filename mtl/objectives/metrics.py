"""Metrics of each kind of task, accumulated over a whole split, never averaged over batches.

The metrics of labels are computed from a confusion matrix, those of depth, normals and regressions from sums, and those
of edges from counts at many thresholds.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mtl.objectives.edge_metrics import EdgeCounts
from mtl.objectives.losses import cosine_to_unit, valid_mask
from mtl.tasks import Kind, Task


@dataclass(frozen=True)
class MetricInfo:
    """How a metric is read. `unit` is empty for a fraction."""

    label: str
    direction: Literal["maximize", "minimize"]
    unit: str = ""


# A predicted depth of 0 or less has no logarithm: it counts as this many metres, or this share of the largest.
LEAST_DEPTH = 1e-3
# The median over a whole split is read off a histogram of so many bins from 0 to 180°, each 0.01° wide.
ANGLE_BINS = 18_000
# The first of each kind is the one that delta_m and the fronts are made of.
METRICS: dict[Kind, dict[str, MetricInfo]] = {
    "segmentation": {
        "miou": MetricInfo("mean IoU", "maximize"),
        "iou_micro": MetricInfo("micro IoU", "maximize"),
        "pixel_accuracy": MetricInfo("pixel accuracy", "maximize"),
    },
    "depth": {
        "mae": MetricInfo("depth MAE", "minimize", "m"),
        "rmse": MetricInfo("depth RMSE", "minimize", "m"),
        "abs_rel": MetricInfo("depth absolute relative error", "minimize"),
        "log10": MetricInfo("depth log10 error", "minimize"),
        "delta1": MetricInfo("depth within a factor 1.25", "maximize"),
        "delta2": MetricInfo("depth within a factor 1.25²", "maximize"),
        "delta3": MetricInfo("depth within a factor 1.25³", "maximize"),
    },
    "normals": {
        # The angle and not its cosine: 2.4 % of a cosine of 0.84 are 10 % of the angle. Vandenhende et al. 2022 have
        # it for Δm, too.
        "mean_angle": MetricInfo("normals mean angle", "minimize", "°"),
        "cos": MetricInfo("normals cosine similarity", "maximize"),
        "median_angle": MetricInfo("normals median angle", "minimize", "°"),
        "within_11": MetricInfo("normals within 11.25°", "maximize"),
        "within_22": MetricInfo("normals within 22.5°", "maximize"),
        "within_30": MetricInfo("normals within 30°", "maximize"),
    },
    # The first two errors are those that MTAN and LibMTL report on Cityscapes. The unit is the task's.
    "disparity": {
        "mae": MetricInfo("disparity MAE", "minimize"),
        "abs_rel": MetricInfo("disparity absolute relative error", "minimize"),
        "rmse": MetricInfo("disparity RMSE", "minimize"),
    },
    "edges": {
        "ods_f": MetricInfo("edges F at the best threshold", "maximize"),
        "ap": MetricInfo("edges average precision", "maximize"),
    },
    # No R²: it is near 0 for a poor reference, and a relative change from there would drown all else in Δm.
    "regression": {
        "mae": MetricInfo("MAE", "minimize"),
        "rmse": MetricInfo("RMSE", "minimize"),
    },
    "classification": {
        "accuracy": MetricInfo("accuracy", "maximize"),
        "f1": MetricInfo("macro F1", "maximize"),
    },
    "binary": {
        "accuracy": MetricInfo("accuracy", "maximize"),
        "f1": MetricInfo("F1", "maximize"),
    },
}


# What a protocol reports of a kind where it does not report all: MTAN's nine (Liu, Johns, Davison 2019, arXiv
# 1803.10704), over which LibMTL and those after it take Δm. They are computed over the whole split, as LibMTL does.
# MTAN's code takes means over images and batches, of the median angle too.
REPORTED: dict[str, dict[Kind, tuple[str, ...]]] = {
    "mtan": {
        "segmentation": ("miou", "pixel_accuracy"),
        "depth": ("mae", "abs_rel"),
        "disparity": ("mae", "abs_rel"),
        "normals": ("mean_angle", "median_angle", "within_11", "within_22", "within_30"),
    }
}


def reported(kind: Kind, protocol: str) -> dict[str, MetricInfo]:
    """The metrics of a kind that a protocol reports; the first is that of `METRICS`."""
    names = REPORTED.get(protocol, {}).get(kind, tuple(METRICS[kind]))
    return {name: METRICS[kind][name] for name in names}


def primary_metric(task: Task) -> str:
    """The full name of a task's first metric, such as segmentation_miou."""
    return f"{task.name}_{next(iter(METRICS[task.kind]))}"


def metric_infos(task: Task, protocol: str) -> dict[str, MetricInfo]:
    """Every metric of a task that the protocol reports, under its full name.

    The paper's protocol has depth and disparity in fractions of an image's largest.
    The label begins with the task's name where it would not say otherwise which task it is of.
    """
    infos = {f"{task.name}_{name}": info for name, info in reported(task.kind, protocol).items()}
    if task.unit:
        errors = {f"{task.name}_mae", f"{task.name}_rmse"}
        infos = {k: MetricInfo(v.label, v.direction, task.unit if k in errors else v.unit) for k, v in infos.items()}
    if task.name != task.kind:  # else a mean IoU, say, is that of the only segmentation
        name = task.name.replace("_", " ")
        labels = {k: f"{name} {v.label.removeprefix(f'{task.kind} ')}" for k, v in infos.items()}
        infos = {k: MetricInfo(labels[k], v.direction, v.unit) for k, v in infos.items()}
    if protocol == "paper" and task.kind in ("depth", "disparity"):
        return {k: MetricInfo(v.label, v.direction, "of image maximum" if v.unit else "") for k, v in infos.items()}
    return infos


class TaskMetrics:
    """Accumulates one task's metrics over batches of aligned predictions and targets (see `losses.align`)."""

    def __init__(self, task: Task, protocol: str, device: torch.device | str = "cpu") -> None:
        self.task, self.protocol = task, protocol
        # Rows are the truth. A binary label's one number stands for two classes.
        classes = max(2, task.channels)
        self._confusion = torch.zeros(classes, classes, dtype=torch.int64, device=device)
        # In float64: a split has up to 1e9 pixels, past what sums in float32 can count.
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._angles = torch.zeros(ANGLE_BINS if task.kind == "normals" else 0, dtype=torch.int64, device=device)
        self._edges = EdgeCounts(device)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch. Unlabelled pixels and images count nowhere."""
        prediction = prediction.float()
        valid = valid_mask(self.task, target)
        match self.task.kind:
            case "segmentation" | "classification" | "binary":
                # torchmetrics' BinaryAccuracy would take a batch of logits that all lie in [0, 1] for probabilities.
                classes = (prediction[:, 0] > 0).long() if self.task.kind == "binary" else prediction.argmax(dim=1)
                # With deterministic algorithms torchmetrics compares every pixel with every cell, 100 times slower
                # than bincount; counts of integers are the same in any order.
                cells = target[valid].long() * len(self._confusion) + classes[valid]
                self._confusion += torch.bincount(cells, minlength=self._confusion.numel()).view_as(self._confusion)
                if self.protocol == "paper" and self.task.kind == "segmentation":
                    self._add("iou_micro", _micro_iou_per_image(classes, target, valid), valid.flatten(1).any(dim=1))
            case "depth":
                predicted, true = prediction[:, 0][valid], target[valid]
                error = predicted - true
                self._add_errors(error)
                self._add("abs_rel", error.abs() / true)
                self._add("log10", (predicted.clamp(min=LEAST_DEPTH).log10() - true.log10()).abs())
                for power in (1, 2, 3):
                    factor = 1.25**power
                    within = (predicted < factor * true) & (true < factor * predicted)
                    self._add(f"delta{power}", within.float())
            case "disparity":
                error, true = (prediction[:, 0] - target)[valid], target[valid]
                self._add_errors(error)
                self._add("abs_rel", error.abs() / true)
            case "regression":
                self._add_errors((prediction.view_as(target) - target)[valid])
            case "edges":
                self._edges.add(prediction[:, 0], target, valid)
            case "normals":
                cosine = cosine_to_unit(prediction, target)[valid].clamp(-1, 1)
                angle = torch.rad2deg(torch.acos(cosine))
                self._add("cos", cosine)
                self._add("mean_angle", angle)
                bins = (angle * (ANGLE_BINS / 180)).long().clamp(max=ANGLE_BINS - 1)
                self._angles += torch.bincount(bins, minlength=ANGLE_BINS)
                for name, degrees in (("within_11", 11.25), ("within_22", 22.5), ("within_30", 30.0)):
                    self._add(name, (angle < degrees).float())

    def compute(self) -> dict[str, float]:
        """Full metric names to values; NaN where the split has no label for the task."""
        values = self._edges.compute() if self.task.kind == "edges" else {}
        values |= _from_confusion(self._confusion.double(), self.task.kind)
        values |= {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        if "mse" in values:
            values["rmse"] = values.pop("mse") ** 0.5
        if self._angles.any():
            values["median_angle"] = _median(self._angles.double()) * 180 / ANGLE_BINS
        names = reported(self.task.kind, self.protocol)
        return {f"{self.task.name}_{name}": values.get(name, float("nan")) for name in names}

    def _add_errors(self, error: Tensor) -> None:
        self._add("mae", error.abs())
        self._add("mse", error.square())

    def _add(self, name: str, values: Tensor, keep: Tensor | None = None) -> None:
        if keep is not None:
            values = values[keep]
        if values.numel():
            # torchmetrics.MeanMetric does the same, but imports SciPy and more: 240 MB and seconds in every process.
            self._sums[name] = self._sums.get(name, 0) + values.double().sum()
            self._counts[name] = self._counts.get(name, 0) + values.numel()


def _from_confusion(matrix: Tensor, kind: Kind) -> dict[str, float]:
    """matrix: (classes, classes), rows the truth. A mean over classes leaves out those neither present nor predicted.

    The F1 of a binary label is that of class 1, and 0 where it is neither present nor predicted.
    """
    hit, total = matrix.diagonal(), matrix.sum()
    union = matrix.sum(dim=0) + matrix.sum(dim=1) - hit
    accuracy = float(hit.sum() / total)
    match kind:
        case "segmentation":
            iou = float((hit / union)[union > 0].mean())
            return {"miou": iou, "iou_micro": float(hit.sum() / union.sum()), "pixel_accuracy": accuracy}
        case "classification":
            f1 = 2 * hit / (union + hit)
            return {"accuracy": accuracy, "f1": float(f1[union > 0].mean())}
        case "binary":
            f1 = 2 * hit[1] / (union + hit)[1].clamp(min=1)
            return {"accuracy": accuracy, "f1": float(f1) if total else float("nan")}
        case _:
            return {}


def _median(histogram: Tensor) -> float:
    """Of values in bins of width 1 from 0, exact to half a bin."""
    below = histogram.cumsum(dim=0)
    half = below[-1] / 2
    # Where exactly half lies below the end of a bin, the median lies between this bin and the next that is not empty.
    first, second = ((below >= half).nonzero()[0], (below > half).nonzero()[0])
    return (float(first) + float(second)) / 2 + 0.5


def _micro_iou_per_image(classes: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """(N,): intersections over unions summed over all classes, which is hits / (2 pixels - hits)."""
    hits = ((classes == target) & valid).flatten(1).sum(dim=1)
    pixels = valid.flatten(1).sum(dim=1)
    return hits / (2 * pixels - hits).clamp(min=1)
