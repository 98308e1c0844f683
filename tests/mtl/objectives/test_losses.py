"""Losses by hand and by their definitions, with unlabelled pixels that must cost nothing."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mtl.config import TrialSettings
from mtl.objectives.depth_losses import DEPTH_LOSSES, FLOOR, log_depth
from mtl.objectives.losses import LossSettings, align, enlarge, loss_settings, task_loss
from mtl.tasks import IGNORE, Task
from tests.support.small import TASKS, arrays

SEGMENTATION, DEPTH, NORMALS, LIGHT, MALE = TASKS
SETTINGS = [
    *((DEPTH, LossSettings(depth=name)) for name in DEPTH_LOSSES),
    *((task, LossSettings(label_smoothing=share)) for task in TASKS if task is not DEPTH for share in (0.0, 0.1)),
]
every_loss = pytest.mark.parametrize(
    ("task", "settings"),
    SETTINGS,
    ids=[f"{t.kind}-{s.depth if t is DEPTH else s.label_smoothing}" for t, s in SETTINGS],
)


def unlabelled(task: Task, count: int = 2) -> torch.Tensor:
    """(count, ...) targets of which nothing is labelled."""
    if task.kind in ("depth", "normals"):
        return torch.zeros(count, 4, 4, *([3] if task.kind == "normals" else []))
    return torch.full((count, 4, 4) if task.dense else (count,), IGNORE, dtype=torch.uint8)


@every_loss
def test_without_a_label_loss_and_gradient_are_0(task: Task, settings: LossSettings) -> None:
    prediction = torch.randn(2, task.channels, *((4, 4) if task.dense else ()), requires_grad=True)
    loss = task_loss(task, prediction, unlabelled(task), settings)
    loss.backward()
    assert loss.item() == 0
    assert (prediction.grad == 0).all()


@every_loss
def test_loss_ignores_what_is_predicted_where_nothing_is_labelled(task: Task, settings: LossSettings) -> None:
    labelled = torch.from_numpy(arrays()["val"][task.name]).clone()
    if not task.dense:
        labelled[:3] = IGNORE
    prediction = torch.randn(len(labelled), task.channels, *((32, 48) if task.dense else ()))
    other = prediction.clone()
    if task.dense:
        other[:, :, :3, :7] += 100.0
    else:
        other[:3] += 100.0
    assert task_loss(task, prediction, labelled, settings) == task_loss(task, other, labelled, settings)


@every_loss
def test_an_image_without_a_label_changes_nothing(task: Task, settings: LossSettings) -> None:
    target = torch.from_numpy(arrays()["val"][task.name])
    prediction = torch.randn(len(target), task.channels, *((32, 48) if task.dense else ()))
    more = torch.cat([target, target[:1] * 0 if task.kind in ("depth", "normals") else target[:1] * 0 + IGNORE])
    loss = task_loss(task, torch.cat([prediction, prediction[:1]]), more, settings)
    torch.testing.assert_close(loss, task_loss(task, prediction, target, settings))


@pytest.mark.parametrize("kind", ["segmentation", "classification"])
def test_cross_entropy_by_hand(kind: str) -> None:
    task = Task("s", kind, ("a", "b"))
    shape = (1, 1, 1) if task.dense else (1,)
    scores = torch.tensor([1.0, 0.0]).view(1, 2, *shape[1:])
    truth = torch.zeros(shape, dtype=torch.uint8)
    p = math.e / (math.e + 1)
    assert float(task_loss(task, scores, truth, LossSettings())) == pytest.approx(-math.log(p))
    smoothed = -(0.95 * math.log(p) + 0.05 * math.log(1 - p))
    assert float(task_loss(task, scores, truth, LossSettings(label_smoothing=0.1))) == pytest.approx(smoothed)


def test_a_binary_label_is_not_smoothed() -> None:
    scores, truth = torch.tensor([[1.0]]), torch.tensor([1], dtype=torch.uint8)
    expected = -math.log(math.e / (math.e + 1))
    assert float(task_loss(MALE, scores, truth, LossSettings(label_smoothing=0.5))) == pytest.approx(expected)


def test_depth_losses_are_their_definitions() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.uniform(0.1, 10, (3, 5, 7)), rng.uniform(0.1, 10, (3, 5, 7))
    truth[0, :2] = 0  # images with unlike numbers of valid pixels, so that means over pixels and images differ
    truth[1, 1:] = 0
    valid = [image > 0 for image in truth]
    error = np.concatenate([s[v] - t[v] for s, t, v in zip(said, truth, valid, strict=True)])
    logs = [np.log(s[v]) - np.log(t[v]) for s, t, v in zip(said, truth, valid, strict=True)]
    expected = {
        "l1": np.abs(error).mean(),
        "mse": (error**2).mean(),
        "log_rmse": np.mean([np.sqrt((d**2).mean()) for d in logs]),
        "scale_invariant": np.mean([(d**2).mean() - 0.5 * d.mean() ** 2 for d in logs]),
    }
    assert set(expected) == set(DEPTH_LOSSES)
    for name, value in expected.items():
        loss = task_loss(
            DEPTH, torch.from_numpy(said)[:, None].float(), torch.from_numpy(truth).float(), LossSettings(name)
        )
        assert float(loss) == pytest.approx(value, rel=1e-5)


def test_a_factor_common_to_an_image_counts_half() -> None:
    truth = torch.rand(2, 4, 5) + 1
    said = truth * torch.tensor([2.0, 0.5]).view(2, 1, 1)  # opposite factors: they must not cancel over the batch
    loss = task_loss(DEPTH, said[:, None], truth, LossSettings("scale_invariant"))
    assert float(loss) == pytest.approx(0.5 * math.log(2) ** 2, rel=1e-5)
    assert float(task_loss(DEPTH, said[:, None], truth, LossSettings("log_rmse"))) == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", DEPTH_LOSSES)
@pytest.mark.parametrize("said", [-1e4, -1.0, 0.0, 1e-30, FLOOR / 2, FLOOR, 2.0, 1e4])
@pytest.mark.parametrize("true", [1e-30, 1e-3, FLOOR, 2.0])
def test_every_depth_has_a_finite_loss_and_a_gradient_towards_the_truth(name: str, said: float, true: float) -> None:
    prediction = torch.full((1, 1, 2, 2), said, requires_grad=True)
    loss = task_loss(DEPTH, prediction, torch.full((1, 2, 2), true), LossSettings(name))
    loss.backward()
    assert loss.isfinite()
    assert prediction.grad.isfinite().all()
    if abs(said - true) > 1e-20:
        assert (prediction.grad * (said - true) > 0).all()


@pytest.mark.parametrize("name", DEPTH_LOSSES)
def test_a_depth_learnt_from_below_0_is_the_true_one(name: str) -> None:
    truth = torch.tensor([[[0.01, 0.04, 1.0, 8.0]]])  # two of them below the floor
    depth = torch.full((1, 1, 1, 4), -3.0, requires_grad=True)
    optimizer = torch.optim.Rprop([depth], lr=0.1, step_sizes=(1e-9, 1.0))  # looks at signs alone
    for _ in range(500):
        optimizer.zero_grad()
        task_loss(DEPTH, depth, truth, LossSettings(name)).backward()
        optimizer.step()
    torch.testing.assert_close(depth[:, 0], truth, atol=1e-3, rtol=1e-3)


def test_log_depth_is_the_logarithm_from_the_floor_on_and_smooth_there() -> None:
    depth = torch.tensor([FLOOR, 0.1, 3.0, 80.0])
    torch.testing.assert_close(log_depth(depth), depth.log())
    around = torch.tensor([FLOOR - 1e-4, FLOOR + 1e-4], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(log_depth(around).sum(), around)
    torch.testing.assert_close(slope, torch.full_like(slope, 1 / FLOOR), rtol=1e-2, atol=0)
    line = log_depth(torch.linspace(-5, 5, 1001))
    assert (line.diff() > 0).all()


def test_the_protocol_decides_what_is_not_chosen() -> None:
    assert loss_settings("standard") == LossSettings("l1", 0.0)
    assert loss_settings("mtan") == loss_settings("standard")
    assert loss_settings("paper") == LossSettings("mse", 0.1)
    assert loss_settings("paper", "log_rmse") == LossSettings("log_rmse", 0.1)
    assert loss_settings("paper", label_smoothing=0.0) == LossSettings("mse", 0.0)
    assert loss_settings("standard", "scale_invariant", 0.2) == LossSettings("scale_invariant", 0.2)


def test_recipes_name_every_depth_loss() -> None:
    choices, _ = get_args(TrialSettings.model_fields["depth_loss"].annotation)
    assert get_args(choices) == tuple(DEPTH_LOSSES)


def test_paper_protocol_compares_at_the_heads_resolution_in_fractions_of_the_largest_depth() -> None:
    depth = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).repeat_interleave(8, 0).repeat_interleave(8, 1)[None]
    prediction, target = align(DEPTH, torch.zeros(1, 1, 2, 2), depth, "paper")
    assert prediction.shape == (1, 1, 2, 2)
    torch.testing.assert_close(target, torch.tensor([[[0.25, 0.5], [0.75, 1.0]]]))
    prediction, target = align(DEPTH, torch.zeros(1, 1, 2, 2), depth, "standard")
    assert prediction.shape == (1, 1, 16, 16)
    assert torch.equal(target, depth)


@pytest.mark.parametrize("size", [(4, 6), (32, 48), (9, 13), (5, 6)])
def test_enlarge_is_torchs_bilinear_interpolation(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
    weights = torch.randn(2, 3, *size, dtype=torch.float64)
    results = []
    for enlarged in (enlarge(x, size), F.interpolate(x, size=size, mode="bilinear", align_corners=False)):
        (gradient,) = torch.autograd.grad((enlarged * weights).sum(), x)
        results.append((enlarged.detach(), gradient))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("protocol", ["standard", "paper", "mtan"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_a_stride_keeps_some_of_the_very_same_pixels(protocol: str, stride: int, task: Task) -> None:
    target = torch.from_numpy(arrays()["val"][task.name])
    prediction = torch.randn(len(target), task.channels, *((4, 6) if task.dense else ()))
    whole = align(task, prediction, target, protocol)
    part = align(task, prediction, target, protocol, stride)
    kept = (slice(None), slice(stride // 2, None, stride), slice(stride // 2, None, stride)) if task.dense else ()
    torch.testing.assert_close(part[0], whole[0].movedim(1, -1)[kept].movedim(-1, 1) if task.dense else whole[0])
    assert torch.equal(part[1], whole[1][kept] if task.dense else whole[1])
