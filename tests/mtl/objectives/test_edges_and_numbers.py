"""Losses, metrics and constants of edges and regressions, against other implementations and closed forms."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from sklearn import metrics as sk

from mtl.objectives.constant_predictor import best_constant, constant_predictor
from mtl.objectives.edge_metrics import THRESHOLDS, tolerance
from mtl.objectives.losses import LossSettings, align, task_loss
from mtl.objectives.metrics import TaskMetrics, metric_infos, primary_metric
from mtl.tasks import IGNORE, Task

EDGES = Task("edges", "edges")
AGE = Task("age", "regression", unit="years", scale=10)
EYES = Task("eyes", "regression", values=("left", "right", "height"), unit="px")
fixed = settings(derandomize=True, deadline=None, max_examples=40)


def edge_split(seed: int, size: tuple[int, int] = (12, 16), count: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are well clear of every threshold, and edges with unlabelled pixels."""
    rng = np.random.default_rng(seed)
    target = (rng.random((count, *size)) < 0.15).astype(np.uint8)
    target[rng.random((count, *size)) < 0.1] = IGNORE
    probability = (rng.integers(0, THRESHOLDS, (count, *size)) + 0.5) / THRESHOLDS
    return torch.from_numpy(np.log(probability / (1 - probability))).float()[:, None], torch.from_numpy(target)


def f_by_definition(logits: torch.Tensor, target: torch.Tensor) -> list[tuple[float, float, float]]:
    """Precision, recall and F at each threshold, by dilation of binary maps."""
    probability, labels = logits[:, 0].double().sigmoid().numpy(), target.numpy()
    reach = tolerance(*labels.shape[1:])
    square = np.ones((1, 2 * reach + 1, 2 * reach + 1), bool)
    known, edge = labels != IGNORE, labels == 1
    near_edge = binary_dilation(edge, square)
    values = []
    for k in range(THRESHOLDS):
        said = (probability >= k / THRESHOLDS) & known
        precision = (said & near_edge).sum() / said.sum() if said.any() else 1.0
        recall = (edge & binary_dilation(said, square)).sum() / edge.sum()
        values.append((precision, recall, 2 * precision * recall / (precision + recall) if precision + recall else 0))
    return values


def measure(task: Task, prediction: torch.Tensor, target: torch.Tensor) -> dict[str, float]:
    metrics = TaskMetrics(task, "standard")
    for images, labels in zip(prediction.split((1, 4, 2)), target.split((1, 4, 2)), strict=True):
        metrics.update(images, labels)
    return metrics.compute()


@fixed
@given(st.integers(0, 2**32 - 1))
def test_f_is_that_of_dilated_maps(seed: int) -> None:
    logits, target = edge_split(seed)
    values, expected = measure(EDGES, logits, target), f_by_definition(logits, target)
    assert values["edges_ods_f"] == pytest.approx(max(f for _, _, f in expected))
    recalls = [recall for _, recall, _ in expected] + [0.0]
    area = sum(p * (recalls[k] - recalls[k + 1]) for k, (p, _, _) in enumerate(expected))
    assert values["edges_ap"] == pytest.approx(area)


def test_edges_found_exactly_or_within_the_tolerance_score_1() -> None:
    target = torch.zeros(7, 20, 30, dtype=torch.uint8)
    target[:, 8] = 1
    assert tolerance(20, 30) == 1
    for shift, best in ((0, 1.0), (1, 1.0), (2, 2 / 31)):  # farther, only "everything is an edge" is left
        logits = torch.full((7, 1, 20, 30), -9.0)
        logits[:, :, 8 + shift] = 9.0
        found = measure(EDGES, logits, target)["edges_ods_f"]
        everything = 2 * 0.15 / (1 + 0.15)
        assert found == pytest.approx(best if shift < 2 else everything)


def test_tolerance_is_the_fields_share_of_the_diagonal() -> None:
    assert [tolerance(*size) for size in ((8, 8), (96, 128), (321, 481), (512, 512))] == [1, 1, 4, 5]


def test_no_labels_no_edges_no_metrics() -> None:
    logits = torch.zeros(7, 1, 8, 8)
    for value in (0, IGNORE):
        values = measure(EDGES, logits, torch.full((7, 8, 8), value, dtype=torch.uint8))
        assert all(math.isnan(one) for one in values.values())


@pytest.mark.parametrize("weight", [0.5, 0.95])
def test_edge_loss_is_the_weighted_cross_entropy(weight: float) -> None:
    logits, target = edge_split(3)
    known = target != IGNORE
    truth = (target == 1).float()
    each = F.binary_cross_entropy_with_logits(
        logits[:, 0], truth, weight * truth + (1 - weight) * (1 - truth), reduction="none"
    )
    loss = task_loss(EDGES, logits, target, LossSettings(edge_weight=weight))
    torch.testing.assert_close(loss, each[known].sum() / known.sum())


@pytest.mark.parametrize("task", [EDGES, AGE, EYES], ids=lambda task: task.name)
def test_nothing_labelled_costs_nothing_and_has_no_gradient(task: Task) -> None:
    prediction = torch.randn(3, task.channels, *((4, 4) if task.dense else ()), requires_grad=True)
    target = (
        torch.full((3, 4, 4), IGNORE, dtype=torch.uint8) if task.dense else torch.full((3, task.channels), torch.nan)
    )
    loss = task_loss(task, prediction, target if len(task.values) or task.dense else target[:, 0], LossSettings())
    loss.backward()
    assert loss.item() == 0
    assert prediction.grad is not None
    assert (prediction.grad == 0).all()


def numbers(task: Task, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions (7, values) and targets, a fifth of them unlabelled."""
    rng = np.random.default_rng(seed)
    shape = (7, len(task.values)) if task.values else (7,)
    target = rng.normal(30, 10, shape).astype(np.float32)
    target[rng.random(shape) < 0.2] = np.nan
    return torch.from_numpy(rng.normal(30, 10, (7, task.channels)).astype(np.float32)), torch.from_numpy(target)


def labelled(prediction: torch.Tensor, target: torch.Tensor) -> tuple[NDArray, NDArray]:
    said, truth = prediction.numpy().ravel(), target.numpy().ravel()
    return said[~np.isnan(truth)], truth[~np.isnan(truth)]


@pytest.mark.parametrize("task", [AGE, EYES], ids=lambda task: task.name)
def test_regression_against_scikit_learn(task: Task) -> None:
    prediction, target = numbers(task)
    assert target.isnan().any()
    said, truth = labelled(prediction, target)
    values = measure(task, prediction, target)
    assert values[f"{task.name}_mae"] == pytest.approx(sk.mean_absolute_error(truth, said))
    assert values[f"{task.name}_rmse"] == pytest.approx(math.sqrt(sk.mean_squared_error(truth, said)))
    for name, expected in (
        ("l1", sk.mean_absolute_error(truth, said) / task.scale),
        ("mse", sk.mean_squared_error(truth, said) / task.scale**2),
    ):
        loss = task_loss(task, prediction.requires_grad_(), target, LossSettings(regression=name))
        assert loss.item() == pytest.approx(expected, rel=1e-6)
        (gradient,) = torch.autograd.grad(loss, prediction)
        assert gradient.isfinite().all()
        assert (gradient[target.view_as(gradient).isnan()] == 0).all()
        prediction = prediction.detach()


def train_arrays(**targets: NDArray) -> dict[str, NDArray]:
    return {"image": np.zeros((len(next(iter(targets.values()))), 16, 24, 3), np.uint8), **targets}


def test_constant_of_numbers_is_each_ones_median() -> None:
    target = np.array([[1, 5, np.nan], [2, np.nan, np.nan], [9, 7, np.nan]], np.float32)
    assert best_constant(train_arrays(eyes=target), EYES, "standard").tolist() == [2, 6, 0]
    assert best_constant(train_arrays(age=target[:, 0]), AGE, "standard").tolist() == [2]


@pytest.mark.parametrize("weight", [0.5, 0.95])
def test_constant_of_edges_is_the_best_for_its_loss(weight: float) -> None:
    target = np.zeros((4, 16, 24), np.uint8)
    target[:, 3], target[:, 5] = 1, IGNORE
    constant = best_constant(train_arrays(edges=target), EDGES, "standard", weight)

    def loss(logit: torch.Tensor) -> float:
        prediction = logit.view(1, 1, 1, 1).expand(4, 1, 16, 24)
        return float(task_loss(EDGES, prediction, torch.from_numpy(target), LossSettings(edge_weight=weight)))

    assert all(loss(constant) < loss(constant + step) for step in (-0.1, 0.1))


def test_constant_predictor_of_edges_says_that_everything_is_one() -> None:
    target = np.zeros((4, 16, 24), np.uint8)
    target[:, 3] = 1
    arrays = {split: train_arrays(edges=target) for split in ("train", "val", "test")}
    near = 3 / 16  # rows within a pixel of the edge
    found = constant_predictor(arrays, [EDGES], "standard")["test"]
    assert found["edges_ods_f"] == pytest.approx(2 * near / (1 + near))
    assert found["edges_ap"] == pytest.approx(near)


def test_heads_pixels_keep_thin_edges() -> None:
    target = torch.zeros(1, 32, 32, dtype=torch.uint8)
    target[0, :, 13], target[0, :8] = 1, IGNORE
    _, reduced = align(EDGES, torch.zeros(1, 1, 4, 4), target, "paper")
    assert reduced[0].tolist() == [[IGNORE] * 4, *[[0, 1, 0, 0]] * 3]


def test_units_and_names_of_metrics() -> None:
    infos = metric_infos(AGE, "standard")
    assert {name: (one.label, one.unit, one.direction) for name, one in infos.items()} == {
        "age_mae": ("age MAE", "years", "minimize"),
        "age_rmse": ("age RMSE", "years", "minimize"),
    }
    assert primary_metric(EDGES) == "edges_ods_f"
    assert metric_infos(EDGES, "standard")["edges_ods_f"].label == "edges F at the best threshold"
    parts = metric_infos(Task("human_parts", "segmentation", ("a", "b")), "standard")
    assert parts["human_parts_miou"].label == "human parts mean IoU"
    disparity = metric_infos(Task("stereo", "disparity", unit="px"), "mtan")
    assert {name: (one.label, one.unit) for name, one in disparity.items()} == {
        "stereo_mae": ("stereo MAE", "px"),
        "stereo_abs_rel": ("stereo absolute relative error", ""),
    }
