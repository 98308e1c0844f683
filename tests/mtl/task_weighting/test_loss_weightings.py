"""RLW, IMTL-L and FAMO: closed forms, and FAMO against TorchJD's and against its formulas in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchjd.scalarization import FAMO

from mtl.task_weighting.again import SamePass
from mtl.task_weighting.famo import FastAdaptiveOptimization
from mtl.task_weighting.registry import TASK_WEIGHTINGS
from mtl.tasks import Task
from mtl.training import make_optimizer
from tests.support.small import TASKS, config

NAMES = ("segmentation", "depth", "normals")
POSITIVE = st.floats(1e-4, 1e3)


def named(values: Tensor) -> dict[str, Tensor]:
    return dict(zip(NAMES, values, strict=True))


def slopes(name: str, values: list[float]) -> Tensor:
    """Of the weighted sum by each loss: the weights."""
    losses = torch.tensor(values, requires_grad=True)
    TASK_WEIGHTINGS[name](TASKS[:3])(named(losses)).backward()
    assert losses.grad is not None
    return losses.grad


def test_random_weights_are_positive_sum_to_the_tasks_number_and_are_one_each_on_average() -> None:
    torch.manual_seed(0)
    drawn = torch.stack([slopes("rlw", [1.0, 2.0, 3.0]) for _ in range(4000)])
    assert (drawn > 0).all()
    torch.testing.assert_close(drawn.sum(dim=1), torch.full((4000,), 3.0))
    torch.testing.assert_close(drawn.mean(dim=0), torch.ones(3), rtol=0, atol=0.05)
    # The log ratio of two shares of a softmax of normal numbers is normal with a variance of 2.
    assert (drawn[:, 0] / drawn[:, 1]).log().var().item() == pytest.approx(2, rel=0.1)


def test_random_weights_are_of_torchs_generator() -> None:
    torch.manual_seed(3)
    first = slopes("rlw", [1.0, 1.0, 1.0])
    assert not torch.equal(slopes("rlw", [1.0, 1.0, 1.0]), first)
    torch.manual_seed(3)
    assert torch.equal(slopes("rlw", [1.0, 1.0, 1.0]), first)


def test_imtl_l_starts_as_the_plain_sum_and_ends_where_all_weighted_losses_are_one() -> None:
    """exp(s) L - s is smallest at s = -log L, where the weight is 1 / L."""
    weighting = TASK_WEIGHTINGS["imtl_l"](TASKS[:3])
    losses = named(torch.tensor([3.7, 0.02, 0.2]))
    assert weighting(losses).item() == pytest.approx(3.92)
    optimizer = make_optimizer(nn.Linear(1, 1), weighting, config())
    for _ in range(500):
        optimizer.zero_grad()
        weighting(losses).backward()
        optimizer.step()
    scales = weighting.scalarizer.log_scale.exp()
    torch.testing.assert_close(scales * torch.stack(list(losses.values())), torch.ones(3), rtol=0.02, atol=0)


@settings(max_examples=60, deadline=None)
@given(st.lists(POSITIVE, min_size=3, max_size=3), st.lists(st.floats(-5, 5), min_size=3, max_size=3))
def test_famo_weights_gradients_by_the_share_over_the_loss(values: list[float], logits: list[float]) -> None:
    weighting = FastAdaptiveOptimization(TASKS[:3]).double()
    weighting.logits.copy_(torch.tensor(logits, dtype=torch.float64))
    losses = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    weighting(named(losses)).backward()
    shares = np.exp(logits) / np.exp(logits).sum() / np.array(values)
    np.testing.assert_allclose(losses.grad, 3 * shares / shares.sum(), rtol=2e-4)
    assert losses.grad is not None
    assert losses.grad.sum().item() == pytest.approx(3)


def test_famo_is_torchjds() -> None:
    """Weights and their 300 steps, from losses of three scales that fall unevenly."""
    ours, theirs = FastAdaptiveOptimization(TASKS[:3]).double(), FAMO(3, weight_decay=1e-3).double()
    generator = torch.Generator().manual_seed(0)
    before = torch.tensor([2.0, 0.3, 40.0], dtype=torch.float64)
    for _ in range(300):
        grads = []
        for loss in (lambda x: ours(named(x)), theirs):
            values = before.clone().requires_grad_()
            loss(values).backward()
            grads.append(values.grad)
        torch.testing.assert_close(grads[0], 3 * grads[1], rtol=1e-9, atol=0)
        drift = torch.tensor([0.02, 0.001, -0.01], dtype=torch.float64)
        after = before * torch.exp(-drift + 0.01 * torch.randn(3, generator=generator, dtype=torch.float64))
        ours.stepped(named(after))
        theirs.update(after)
        before = 0.99 * after + 0.1
    assert ours.logits.abs().max() > 0.5
    torch.testing.assert_close(ours.logits, theirs._w.detach(), rtol=1e-9, atol=1e-12)


def test_famos_steps_by_the_formulas_of_adam_in_float64() -> None:
    weighting = FastAdaptiveOptimization(TASKS[:3]).double()
    w, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
    random = np.random.default_rng(0)
    for step in range(1, 50):
        before, after = random.uniform(0.1, 5, 3), random.uniform(0.1, 5, 3)
        z = np.exp(w) / np.exp(w).sum()
        jacobian = np.diag(z) - np.outer(z, z)
        slope = jacobian @ (np.log(before + 1e-8) - np.log(after + 1e-8)) + 1e-3 * w
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        w = w - 0.025 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        weighting(named(torch.tensor(before)))
        weighting.stepped(named(torch.tensor(after)))
        np.testing.assert_allclose(weighting.logits, w, rtol=1e-9)


def test_famo_gives_more_to_what_falls_less() -> None:
    weighting = FastAdaptiveOptimization(TASKS[:3])
    for _ in range(20):
        weighting(named(torch.tensor([1.0, 1.0, 1.0])))
        weighting.stepped(named(torch.tensor([0.5, 0.9, 1.1])))
    first, second, third = torch.softmax(weighting.logits, dim=0).tolist()
    assert first < second < third


@pytest.mark.parametrize("value", [0.0, -1e-9, 1e-30])
def test_famo_of_a_loss_that_is_all_but_zero_stays_finite(value: float) -> None:
    weighting = FastAdaptiveOptimization(TASKS[:3])
    losses = torch.tensor([1.0, value, 2.0], requires_grad=True)
    weighting(named(losses)).backward()
    weighting.stepped(named(torch.tensor([0.9, 0.0, 2.0])))
    assert losses.grad is not None
    assert losses.grad.isfinite().all()
    assert weighting.logits.isfinite().all()


def test_famo_goes_on_to_the_bit_from_its_state() -> None:
    whole, first = FastAdaptiveOptimization(TASKS[:3]), FastAdaptiveOptimization(TASKS[:3])
    random = torch.Generator().manual_seed(0)
    pairs = torch.rand(20, 2, 3, generator=random) + 0.1
    for index, (before, after) in enumerate(pairs):
        if index == 10:
            again = FastAdaptiveOptimization(TASKS[:3])
            again.load_state_dict(first.state_dict())
            first = again
        for one in (whole, first):
            one(named(before))
            one.stepped(named(after))
    assert torch.equal(whole.logits, first.logits)


def test_only_famo_looks_again_and_only_with_several_tasks() -> None:
    looking = {name for name, make in TASK_WEIGHTINGS.items() if make(TASKS[:2]).looks_again}
    assert looking == {"famo"}
    assert not TASK_WEIGHTINGS["famo"]([Task("depth", "depth")]).looks_again


def test_a_repeated_pass_is_the_same_and_leaves_no_trace() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
    images = torch.randn(16, 8)
    same = SamePass(torch.device("cpu"))
    outputs = model(images)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    state = torch.get_rng_state()
    repeated = same.repeat(model, lambda: model(images))
    torch.testing.assert_close(repeated, outputs, rtol=0, atol=0)
    assert not repeated.requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert math.isfinite(outputs.sum().item())
