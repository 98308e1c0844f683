"""Task weightings: closed forms, what each promises, and the combined gradient against a computation of its own."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from mtl.config import TrialConfig
from mtl.networks.model import MultiTaskModel, build_model
from mtl.task_weighting.base import TaskWeighting
from mtl.task_weighting.nash import NashBargaining
from mtl.task_weighting.registry import TASK_WEIGHTINGS
from mtl.tasks import Task
from mtl.training import make_optimizer
from search.recipe_file import load_recipe
from tests.support.small import TASKS, config

AGGREGATIONS = ("pcgrad", "cagrad", "nash_mtl", "mgda", "aligned_mtl")


class Plane(nn.Module):
    """Two shared numbers as the features, and for each task a head of one number, which is 1."""

    def __init__(self, tasks: int) -> None:
        super().__init__()
        self.backbone = nn.Linear(2, 1, bias=False)
        self.heads = nn.ModuleDict({str(i): nn.Linear(1, 1, bias=False) for i in range(tasks)})
        for head in self.heads.values():
            nn.init.ones_(head.weight)

    def gradient(self, name: str, *rows: tuple[float, float]) -> Tensor:
        """Of the shared numbers, under a weighting, where the tasks' own gradients are `rows`."""
        tasks = [Task(str(i), "depth") for i in range(len(rows))]
        features = self.backbone.weight * 1
        losses = {
            str(i): self.heads[str(i)](features @ torch.tensor(row, dtype=torch.float32)).sum()
            for i, row in enumerate(rows)
        }
        TASK_WEIGHTINGS[name](tasks).backward(losses, features, self)
        return self.backbone.weight.grad[0]


def combined(name: str, *rows: tuple[float, float]) -> Tensor:
    return Plane(len(rows)).gradient(name, *rows)


def close(value: Tensor, *expected: float) -> None:
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-5)


def test_every_weighting_is_a_recipe_value_and_described() -> None:
    field = TrialConfig.model_fields["task_weighting"]
    assert set(get_args(field.annotation)) == set(TASK_WEIGHTINGS)
    assert all(name in (field.description or "") for name in TASK_WEIGHTINGS)


def test_pcgrad_by_hand() -> None:
    """(1, 0) without its part along (-1, 1) is (1/2, 1/2); (-1, 1) without its part along (1, 0) is (0, 1)."""
    close(combined("pcgrad", (1, 0), (-1, 1)), 0.5, 1.5)


def test_pcgrad_leaves_gradients_that_agree() -> None:
    close(combined("pcgrad", (1, 0), (1, 2), (0, 3)), 2, 5)


def test_mgda_by_hand() -> None:
    """The shortest point between (2, 0) and (0, 1) is 1/5 of the way: (0.4, 0.8); twice that for two tasks."""
    close(combined("mgda", (2, 0), (0, 1)), 0.8, 1.6)
    # The shortest is an end where it makes an acute angle with the line.
    close(combined("mgda", (1, 0), (3, 1)), 2, 0)


def test_cagrad_is_best_for_the_worst_off_within_its_ball() -> None:
    rows = ((1.0, 0.0), (-0.8, 0.3))
    mean = np.mean(rows, axis=0)
    angles = np.linspace(0, 2 * math.pi, 100_001)
    ball = mean + 0.4 * np.linalg.norm(mean) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    best = ball[np.argmax((ball @ np.array(rows).T).min(axis=1))]
    torch.testing.assert_close(
        combined("cagrad", *rows), torch.tensor(2 * best, dtype=torch.float32), rtol=1e-3, atol=1e-4
    )


def test_nash_by_hand() -> None:
    """Orthogonal gradients of any length are made equally long; the length of the sum is kept."""
    close(combined("nash_mtl", (3, 0), (0, 4)), 5 / math.sqrt(2), 5 / math.sqrt(2))


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_nash_solves_its_equation(tasks: int) -> None:
    generator = torch.Generator().manual_seed(tasks)
    for _ in range(50):
        scales = 10.0 ** torch.randint(-3, 4, (tasks, 1), generator=generator)
        rows = torch.randn(tasks, 6, generator=generator, dtype=torch.float64) * scales
        gramian = rows @ rows.T
        weights = NashBargaining()(gramian)
        products = weights * (gramian @ weights)
        assert (weights > 0).all()
        torch.testing.assert_close(products, products.mean().expand(tasks), rtol=5e-3, atol=0)
        torch.testing.assert_close((weights @ rows).norm(), rows.norm(), rtol=5e-3, atol=0)


def test_nash_of_many_tasks_that_nearly_cancel() -> None:
    """Whole Newton steps would leave the region of positive weights in one of these."""
    generator = torch.Generator().manual_seed(0)
    for draw in range(1000):
        rows = torch.randn(6, 2 + draw % 5, generator=generator, dtype=torch.float64)
        assert (NashBargaining()(rows @ rows.T) > 0).all()


def test_nash_where_gradients_cancel_or_vanish() -> None:
    assert combined("nash_mtl", (1, 0), (-1, 0)).isfinite().all()
    close(combined("nash_mtl", (0, 0), (0, 2)), 0, 2)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_gradients_that_all_but_cancel(name: str) -> None:
    """Of as many numbers as float32 loses digits on."""
    generator = torch.Generator().manual_seed(0)
    for noise in (0.0, 1e-7, 1e-5, 1e-3):
        first = torch.randn(100_000, generator=generator)
        second = -3 * first + noise * torch.randn(100_000, generator=generator)
        rows = torch.stack([first, second, first + second])
        weighting = TASK_WEIGHTINGS[name](TASKS[:3])
        assert weighting._aggregator(rows).isfinite().all()


@pytest.mark.parametrize("name", AGGREGATIONS)
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_a_loss_in_other_units_has_its_gradient_in_other_units(name: str, unit: float) -> None:
    rows = ((1.0, 0.2), (-0.7, 0.9))
    scaled = combined(name, *[(unit * x, unit * y) for x, y in rows])
    torch.testing.assert_close(scaled / unit, combined(name, *rows), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_gradients_that_are_all_zero_stay_zero(name: str) -> None:
    close(combined(name, (0, 0), (0, 0)), 0, 0)


def test_aligned_by_hand() -> None:
    """Orthogonal gradients become as long as the shorter; those along one line stay, as does their sum."""
    close(combined("aligned_mtl", (3, 0), (0, 4)), 3, 3)
    close(combined("aligned_mtl", (1, 0), (3, 0)), 4, 0)


def test_dwa_by_its_formula() -> None:
    weighting = TASK_WEIGHTINGS["dwa"](TASKS[:2])
    losses = {"segmentation": torch.tensor(1.0), "depth": torch.tensor(10.0)}
    weighting.epoch_ended({"segmentation": 4.0, "depth": 1.0})
    assert weighting(losses) == 11  # the first two epochs: equal weights
    weighting.epoch_ended({"segmentation": 2.0, "depth": 0.9})
    first, second = math.exp(0.5 / 2), math.exp(0.9 / 2)
    expected = 2 * (first * 1 + second * 10) / (first + second)
    assert weighting(losses).item() == pytest.approx(expected, rel=1e-6)
    weighting.epoch_ended({"segmentation": 2.0, "depth": 0.9})
    assert weighting(losses).item() == pytest.approx(11, rel=1e-6)


def test_log_variances_of_losses_that_stay_come_to_the_closed_form_within_ten_epochs_of_nyuv2() -> None:
    """49 steps an epoch, at the recipe's own rates; exp(-s) L + s, halved or not, is smallest at s = log L."""
    tasks = TASKS[:3]
    model, _ = small_model(tasks, 0)
    weighting = TASK_WEIGHTINGS["uncertainty"](tasks)
    recipe = load_recipe("nyuv2")
    optimizer = make_optimizer(model, weighting, config(lr=recipe.lr, weighting_lr=recipe.weighting_lr))
    losses = {"segmentation": torch.tensor(3.7), "depth": torch.tensor(0.02), "normals": torch.tensor(0.2)}
    for _ in range(10 * 49):
        optimizer.zero_grad()
        weighting(losses).backward()
        optimizer.step()
    for name, loss in losses.items():
        assert weighting.log_variances[name].item() == pytest.approx(math.log(loss), abs=0.02)
    at_optimum = 1 + math.log(3.7) + (1 + math.log(0.02)) / 2 + (1 + math.log(0.2)) / 2
    assert weighting(losses).item() == pytest.approx(at_optimum, abs=1e-3)


def batch_losses(model: MultiTaskModel, tasks: list[Task], features: Tensor) -> dict[str, Tensor]:
    """Losses of scales of their own, on random targets; the same dropout each time."""
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(7)
    outputs = model.decode(features)
    return {
        task.name: (index + 1) ** 2
        * (outputs[task.name] - torch.randn(outputs[task.name].shape, generator=generator)).square().mean()
        for index, task in enumerate(tasks)
    }


def small_model(tasks: list[Task], seed: int) -> tuple[MultiTaskModel, Tensor]:
    torch.manual_seed(seed)
    return build_model(config(), tasks).to(memory_format=torch.channels_last), torch.randn(4, 3, 32, 48)


def gradients_by_task(model: MultiTaskModel, tasks: list[Task], images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """A full pass for each task: (tasks, parameters of the backbone), and each head's own, flat."""
    rows, heads = [], {}
    for task in tasks:
        model.zero_grad()
        batch_losses(model, tasks, model.backbone(images))[task.name].backward()
        rows.append(torch.cat([p.grad.flatten() for p in model.backbone.parameters()]))
        heads[task.name] = torch.cat([p.grad.flatten() for p in model.heads[task.name].parameters()])
    model.zero_grad()
    return torch.stack(rows), heads


def expected_gradient(name: str, rows: Tensor) -> Tensor:
    """For two tasks, from the papers' equations in numpy."""
    first, second = rows.double().numpy()
    if name == "pcgrad":
        product = min(0.0, first @ second)
        total = first + second - product / (second @ second) * second - product / (first @ first) * first
    elif name == "mgda":
        share = np.clip((second - first) @ second / ((first - second) @ (first - second)), 0, 1)
        total = 2 * (share * first + (1 - share) * second)
    elif name == "aligned_mtl":
        # The nearest rows that are orthogonal and of one length: the polar factor, times the smallest singular value.
        u, sigma, v = np.linalg.svd(np.stack([first, second]), full_matrices=False)
        total = sigma[-1] * (u @ v).sum(axis=0)
    elif name == "nash_mtl":
        # For two unit vectors the equation is solved by equal shares: they add up along their bisector.
        bisector = first / np.linalg.norm(first) + second / np.linalg.norm(second)
        total = bisector / np.linalg.norm(bisector) * np.hypot(np.linalg.norm(first), np.linalg.norm(second))
    else:
        mean = (first + second) / 2
        radius = 0.4 * np.linalg.norm(mean)

        def dual(w: float) -> float:
            direction = w * first + (1 - w) * second
            return float(direction @ mean + radius * np.linalg.norm(direction))

        w = minimize(lambda x: dual(x[0]) / dual(0.5), [0.5], bounds=[(0, 1)], tol=1e-14).x[0]
        direction = w * first + (1 - w) * second
        total = 2 * (mean + radius * direction / np.linalg.norm(direction))
    return torch.tensor(total, dtype=torch.float32)


@pytest.mark.parametrize("name", AGGREGATIONS)
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("chosen", [(0, 2), (1, 3)])
def test_the_backbones_gradient_is_the_papers_and_each_heads_its_own(
    name: str, seed: int, chosen: tuple[int, int]
) -> None:
    tasks = [TASKS[index] for index in chosen]
    model, images = small_model(tasks, seed)
    rows, heads = gradients_by_task(model, tasks, images)
    features = model.backbone(images)
    TASK_WEIGHTINGS[name](tasks).backward(batch_losses(model, tasks, features), features, model)
    found = torch.cat([p.grad.flatten() for p in model.backbone.parameters()])
    expected = expected_gradient(name, rows)
    assert (found - expected).norm() < 1e-3 * expected.norm()
    for task in tasks:
        own = torch.cat([p.grad.flatten() for p in model.heads[task.name].parameters()])
        torch.testing.assert_close(own, heads[task.name], rtol=1e-4, atol=1e-6)


def test_mgda_of_many_tasks_is_the_shortest() -> None:
    """The shortest point d of a convex hull has g.d >= d.d for every corner g."""
    for seed in range(20):
        torch.manual_seed(seed)
        rows = torch.randn(3, 2) + torch.tensor([2.0, 0.0])
        d = combined("mgda", *[tuple(row.tolist()) for row in rows]) / 3
        assert (rows @ d).min() >= d @ d - 0.02 * d.norm() * rows.norm(dim=1).max()


def test_pcgrads_order_is_of_torchs_generator() -> None:
    rows = ((1.0, 0.0), (-1.0, 1.0), (-0.5, -2.0))

    def drawn(seed: int) -> list[float]:
        torch.manual_seed(seed)
        return combined("pcgrad", *rows).tolist()

    assert drawn(3) == drawn(3)
    assert len({tuple(drawn(seed)) for seed in range(20)}) > 1


def gradnorm(tasks: list[Task]) -> TaskWeighting:
    return TASK_WEIGHTINGS["gradnorm"](tasks)


def test_gradnorm_balances_norms_where_all_train_at_one_rate() -> None:
    """Losses that stay what they were: the fixed point is w_t in inverse proportion to the norms, w = 2 (4/5, 1/5)."""
    weighting = gradnorm(TASKS[:2])
    for _ in range(200):
        weighting._balance(torch.tensor([3.0, 5.0]), torch.tensor([1.0, 4.0]))
        assert weighting.weights.sum().item() == pytest.approx(2)
    torch.testing.assert_close(weighting.weights, torch.tensor([1.6, 0.4]), rtol=0.05, atol=0)


def test_gradnorm_gives_more_to_the_task_that_has_come_less_far() -> None:
    """At the fixed point G is in proportion to r^1.5: losses at 1/2 and at 1/8 of their first, so 8 to 1."""
    weighting = gradnorm(TASKS[:2])
    weighting._balance(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.0]))
    for _ in range(300):
        weighting._balance(torch.tensor([1 / 2, 1 / 8]), torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(weighting.weights, torch.tensor([16 / 9, 2 / 9]), rtol=0.05, atol=0)


def test_gradnorm_of_three_tasks_comes_to_its_targets() -> None:
    weighting = gradnorm(TASKS[:3])
    norms, losses = torch.tensor([0.1, 5.0, 1.0]), torch.tensor([0.9, 0.5, 0.7])
    weighting._balance(torch.ones(3), norms)
    for _ in range(1000):
        weighting._balance(losses, norms)
    targets = losses**1.5 / norms
    torch.testing.assert_close(weighting.weights, 3 * targets / targets.sum(), rtol=0.1, atol=0)


def test_gradnorms_gradients_are_those_of_the_weighted_sum_and_its_norms_those_of_the_last_convolution() -> None:
    tasks = TASKS[:3]
    model, images = small_model(tasks, 0)
    weighting = gradnorm(tasks)
    weighting.weights.copy_(torch.tensor([0.5, 2.0, 0.5]))
    losses = batch_losses(model, tasks, model.backbone(images))
    sum(w * loss for w, loss in zip(weighting.weights, losses.values(), strict=True)).backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    last = model.backbone.layer4[-1].conv2.weight
    norms = [
        torch.autograd.grad(loss, last)[0].norm()
        for name in losses
        for loss in [batch_losses(model, tasks, model.backbone(images))[name]]
    ]
    seen: list[Tensor] = []
    weighting._balance = lambda losses, norms: seen.append(norms)
    features = model.backbone(images)
    weighting.backward(batch_losses(model, tasks, features), features, model)
    torch.testing.assert_close(seen[0], torch.stack(norms), rtol=1e-4, atol=1e-7)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TASK_WEIGHTINGS)
def test_one_pass_of_the_backbone_forward_and_a_gradient_for_every_parameter(name: str) -> None:
    model, images = small_model(TASKS, 0)
    calls: list[int] = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    weighting = TASK_WEIGHTINGS[name](TASKS)
    features = model.backbone(images)
    weighting.backward(batch_losses(model, TASKS, features), features, model)
    assert calls == [1]
    assert all(p.grad is not None and p.grad.shape == p.shape for p in model.parameters())
    assert all(p.grad is not None for p in weighting.parameters())
    assert not any(hasattr(p, "jac") for p in model.parameters())


def test_the_last_convolution_is_the_last_of_the_residual_branch() -> None:
    for backbone, name in (("resnet18", "conv2"), ("resnet50", "conv3")):
        model = build_model(config(backbone=backbone), TASKS)
        assert model.backbone.last_convolution is getattr(model.backbone.layer4[-1], name)
