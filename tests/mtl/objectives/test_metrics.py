"""Losses and metrics against values worked out by hand, with unlabelled pixels that must count nowhere."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtl.objectives.constant_predictor import constant_predictor
from mtl.objectives.metrics import METRICS, TaskMetrics, metric_infos, primary_metric
from mtl.tasks import IGNORE, Task
from tests.support.small import TASKS, arrays

SEGMENTATION, DEPTH, NORMALS, LIGHT, MALE = TASKS


def logits(classes: torch.Tensor, channels: int) -> torch.Tensor:
    """(N, H, W) classes -> (N, channels, H, W) scores that say them."""
    return 10.0 * F.one_hot(classes.long(), channels).movedim(-1, 1).float()


def test_segmentation_metrics_by_hand() -> None:
    task = Task("s", "segmentation", ("a", "b", "c", "never"))
    truth = torch.tensor([[[0, 0, 1, 1], [2, 2, IGNORE, IGNORE]]], dtype=torch.uint8)
    said = torch.tensor([[[0, 1, 1, 1], [2, 0, 3, 0]]])
    metrics = TaskMetrics(task, "standard")
    metrics.update(logits(said, 4), truth)
    values = metrics.compute()
    # a: 1 of {3}, b: 2 of {3}, c: 1 of {2}; the fourth class neither occurs nor is said on a labelled pixel
    assert values["s_miou"] == pytest.approx((1 / 3 + 2 / 3 + 1 / 2) / 3)
    assert values["s_iou_micro"] == pytest.approx(4 / 8)
    assert values["s_pixel_accuracy"] == pytest.approx(4 / 6)


def test_metrics_accumulate_over_the_split_not_over_batches() -> None:
    rng = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 6, (12, 4, 4), generator=rng).to(torch.uint8)
    truth[0] = IGNORE
    scores = torch.randn(12, 6, 4, 4, generator=rng)
    depth_truth, depth_said = torch.rand(12, 4, 4, generator=rng), torch.rand(12, 1, 4, 4, generator=rng)
    depth_truth[3:5] = 0
    for task, prediction, target in ((SEGMENTATION, scores, truth), (DEPTH, depth_said, depth_truth)):
        whole, parts = TaskMetrics(task, "standard"), TaskMetrics(task, "standard")
        whole.update(prediction, target)
        for sizes in (slice(0, 1), slice(1, 4), slice(4, 12)):
            parts.update(prediction[sizes], target[sizes])
        assert parts.compute() == pytest.approx(whole.compute())


def test_paper_protocol_averages_micro_iou_over_images() -> None:
    task = Task("s", "segmentation", ("a", "b"))
    truth = torch.tensor([[[0, 0]], [[0, 1]]], dtype=torch.uint8)
    said = torch.tensor([[[0, 0]], [[1, 1]]])
    metrics = TaskMetrics(task, "paper")
    metrics.update(logits(said, 2), truth)
    assert metrics.compute()["s_iou_micro"] == pytest.approx((1 + 1 / 3) / 2)


def test_depth_metrics_by_hand() -> None:
    metrics = TaskMetrics(DEPTH, "standard")
    metrics.update(torch.tensor([[[[1.0, 3.0, 9.0]]]]), torch.tensor([[[2.0, 3.0, 0.0]]]))
    values = metrics.compute()
    assert values["depth_mae"] == pytest.approx(0.5)
    assert values["depth_rmse"] == pytest.approx(math.sqrt(0.5))
    assert values["depth_abs_rel"] == pytest.approx(0.25)
    assert values["depth_delta1"] == pytest.approx(0.5)


def test_normals_metrics_by_hand() -> None:
    angles = torch.tensor([0.0, 10.0, 20.0, 60.0]).deg2rad()
    said = 3 * torch.stack([angles.sin(), torch.zeros(4), angles.cos()]).view(1, 3, 1, 4)  # length does not matter
    truth = torch.tensor([0.0, 0.0, 1.0]).expand(1, 1, 4, 3).clone()
    metrics = TaskMetrics(NORMALS, "standard")
    metrics.update(said, truth)
    metrics.update(torch.ones(1, 3, 1, 4), torch.zeros(1, 1, 4, 3))  # unlabelled
    values = metrics.compute()
    assert values["normals_mean_angle"] == pytest.approx(22.5, abs=0.05)
    assert values["normals_cos"] == pytest.approx(float(angles.cos().mean()), abs=1e-6)
    assert (values["normals_within_11"], values["normals_within_22"], values["normals_within_30"]) == (0.5, 0.75, 0.75)


def test_binary_metrics_by_hand() -> None:
    metrics = TaskMetrics(MALE, "standard")
    metrics.update(torch.tensor([[2.0], [-1.0], [1.0], [5.0]]), torch.tensor([1, 1, 0, IGNORE], dtype=torch.uint8))
    assert metrics.compute() == {"male_accuracy": pytest.approx(1 / 3), "male_f1": pytest.approx(0.5)}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_a_split_without_labels_is_nan(task: Task) -> None:
    labels = torch.from_numpy(arrays()["val"][task.name])
    target = torch.full_like(labels, 0 if task.kind in ("depth", "normals") else IGNORE)
    metrics = TaskMetrics(task, "standard")
    metrics.update(torch.randn(len(target), task.channels, *((32, 48) if task.dense else ())), target)
    values = metrics.compute()
    assert set(values) == set(metric_infos(task, "standard")) == {f"{task.name}_{name}" for name in METRICS[task.kind]}
    assert all(math.isnan(value) for value in values.values())


@pytest.mark.parametrize("protocol", ["standard", "paper"])
def test_constant_predictor_is_the_best_constant(protocol: str) -> None:
    """No other class, depth or label does better on the split that the constant was read from."""
    split = arrays(train=40)["train"]
    found = constant_predictor({"train": split, "val": split, "test": split}, TASKS, protocol)
    assert found["val"] == found["test"]
    values = found["test"]
    labels = split["segmentation"][split["segmentation"] != IGNORE]
    if protocol == "standard":
        assert values["segmentation_pixel_accuracy"] == pytest.approx(np.bincount(labels).max() / len(labels))
        depth = split["depth"][split["depth"] > 0]
        assert values["depth_mae"] == pytest.approx(np.abs(depth - np.median(depth)).mean(), rel=1e-3)
    assert values["male_accuracy"] == pytest.approx(max(split["male"].mean(), 1 - split["male"].mean()))
    assert values["normals_cos"] > 0.8


def test_mtans_protocol_reports_its_nine_and_keeps_the_first_of_each_task() -> None:
    tasks = [task for task in TASKS if task.dense]
    infos = {name: info for task in tasks for name, info in metric_infos(task, "mtan").items()}
    assert list(infos) == [
        *("segmentation_miou", "segmentation_pixel_accuracy", "depth_mae", "depth_abs_rel"),
        *("normals_mean_angle", "normals_median_angle", "normals_within_11", "normals_within_22", "normals_within_30"),
    ]
    assert all(next(iter(metric_infos(task, "mtan"))) == primary_metric(task) for task in TASKS)
    assert infos["depth_mae"].unit == "m"
    # A label that the protocol says nothing of is measured as ever.
    assert metric_infos(TASKS[3], "mtan") == metric_infos(TASKS[3], "standard")
