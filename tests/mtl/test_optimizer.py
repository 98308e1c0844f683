"""ProximalAdamW against torch's AdamW, against the formulas, and on problems with known solutions."""

import io
import math
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtl.errors import BadInput, TrialFailed
from mtl.optimizer import ProximalAdamW
from mtl.penalties import L1, GroupLasso, GroupMCP, Penalty, SparseGroupLasso


def conv_net(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten(), nn.Linear(16, 2)).to(dtype)


def steps(net: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        dtype = next(net.parameters()).dtype
        x = torch.randn(5, 3, 6, 6, generator=generator).to(dtype)
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("metric", ["adaptive", "euclidean"])
def test_strength_zero_is_torchs_adamw_to_the_bit(dtype: torch.dtype, metric: str) -> None:
    ours, theirs = conv_net(dtype), conv_net(dtype)
    optimizer = ProximalAdamW(
        [{"params": [ours[0].weight, ours[2].weight], "penalty": GroupLasso(0.0)},
         {"params": [p for n, p in ours.named_parameters() if n not in ("0.weight", "2.weight")]}],
        lr=1e-2, weight_decay=0.1, metric=metric,
    )  # fmt: skip
    steps(ours, optimizer, 100)
    steps(theirs, torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=0.1, fused=True), 100)
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, reference)


@pytest.mark.parametrize("metric", ["adaptive", "euclidean"])
def test_one_step_is_adamw_then_the_prox(metric: str) -> None:
    """Two steps, computed by hand: the metric has its bias corrected, the threshold has sqrt(n) and the step size."""
    lr, beta1, beta2, eps, decay, strength = 0.1, 0.9, 0.99, 1e-3, 0.05, 0.02
    torch.manual_seed(3)
    weight = nn.Parameter(torch.randn(4, 3, 2, 2, dtype=torch.float64))
    optimizer = ProximalAdamW(
        [{"params": [weight], "penalty": GroupLasso(strength)}],
        lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay, metric=metric,
    )  # fmt: skip
    w = weight.detach().clone()
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t in (1, 2):
        gradient = torch.randn_like(w)
        weight.grad = gradient.clone()
        optimizer.step()
        m, v = beta1 * m + (1 - beta1) * gradient, beta2 * v + (1 - beta2) * gradient**2
        d = (v / (1 - beta2**t)).sqrt() + eps
        x = w * (1 - lr * decay) - lr * (m / (1 - beta1**t)) / d
        metric_of_prox = d if metric == "adaptive" else torch.ones_like(d)
        z = weight.detach()
        for c in range(3):
            norm = z[:, c].norm()
            assert norm > 0
            # Stationarity of the prox at z: the solution of a strictly convex problem has no other zero.
            residual = metric_of_prox[:, c] * (z[:, c] - x[:, c]) + lr * strength * math.sqrt(16) * z[:, c] / norm
            assert residual.norm() < 1e-9
        w = z.clone()


def test_large_strength_zeroes_exactly_and_only_what_it_is_on() -> None:
    net = conv_net()
    optimizer = ProximalAdamW(
        [{"params": [net[0].weight], "penalty": GroupLasso(1e3)}, {"params": [net[2].weight, net[4].weight]}], lr=1e-2
    )
    steps(net, optimizer, 3)
    assert (net[0].weight == 0).all()
    assert (net[2].weight != 0).any()


@pytest.mark.parametrize("metric", ["adaptive", "euclidean"])
def test_l1_zeroes_single_weights(metric: str) -> None:
    net = conv_net()
    optimizer = ProximalAdamW([{"params": [net[2].weight], "penalty": L1(0.5)}], lr=1e-2, metric=metric)
    steps(net, optimizer, 20)
    share = float((net[2].weight == 0).float().mean())
    assert 0.05 < share < 1
    assert not (net[2].weight == 0).flatten(2).all(dim=2).all()


@pytest.mark.parametrize("make", [GroupLasso, SparseGroupLasso])
def test_converges_to_what_a_convex_solver_finds(make: Callable[[float], Penalty]) -> None:
    """Regression with correlated features: min 1/2 |X W' - Y|^2 / n + penalty(W), groups the columns of W."""
    cvxpy = pytest.importorskip("cvxpy")
    generator = np.random.default_rng(0)
    samples, features, outputs, strength = 60, 8, 3, 0.25
    x = generator.normal(size=(samples, features)) @ (np.eye(features) + 0.4 * generator.normal(size=(features,) * 2))
    truth = generator.normal(size=(outputs, features)) * np.array([2, 1, 1, 0.5, 0, 0, 0, 0])
    y = x @ truth.T + 0.5 * generator.normal(size=(samples, outputs))

    unknown = cvxpy.Variable((outputs, features))
    groups, elements = (1.0, 0.0) if make is GroupLasso else (0.5, 0.5)
    omega = groups * math.sqrt(outputs) * cvxpy.sum(cvxpy.norm(unknown, axis=0)) + elements * cvxpy.sum(
        cvxpy.abs(unknown)
    )
    loss = cvxpy.sum_squares(x @ unknown.T - y) / (2 * samples)
    cvxpy.Problem(cvxpy.Minimize(loss + strength * omega)).solve(solver=cvxpy.CLARABEL)

    features_, targets = torch.tensor(x), torch.tensor(y)
    weight = nn.Parameter(torch.zeros(outputs, features, dtype=torch.float64))
    penalty = make(strength)
    optimizer = ProximalAdamW([{"params": [weight], "penalty": penalty}], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    for _ in range(1500):
        weight.grad = ((features_ @ weight.T - targets).T @ features_ / samples).detach()
        optimizer.step()
        schedule.step()
    solution = weight.detach()
    expected = torch.tensor(unknown.value)
    assert 1 <= (solution == 0).all(dim=0).sum() < features
    assert ((solution == 0).all(dim=0) == (expected.abs() < 1e-5).all(dim=0)).all()
    torch.testing.assert_close(solution, expected, rtol=0, atol=1e-4)
    gradient = (features_ @ solution.T - targets).T @ features_ / samples
    assert penalty.violation([solution], [gradient]) < 1e-3


def test_metric_is_adams_own() -> None:
    """The adaptive prox removes first the channel whose gradients are small: D x, not x, meets the threshold."""
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = ProximalAdamW([{"params": [weight], "penalty": GroupLasso(1.0)}], lr=1e-3, metric="adaptive")
    weight.grad = torch.tensor([[1.0, 1e-4], [1.0, 1e-4]])
    optimizer.step()
    assert (weight[:, 1] == 0).all()
    assert (weight[:, 0] > 0.99).all()


@pytest.mark.parametrize("metric", ["adaptive", "euclidean"])
def test_state_dict_round_trip_goes_on_to_the_same_numbers(metric: str) -> None:
    def fresh() -> tuple[nn.Module, ProximalAdamW]:
        net = conv_net()
        groups = [{"params": [net[0].weight], "penalty": GroupLasso(0.1)}, {"params": [net[2].weight], "penalty": None}]
        return net, ProximalAdamW(groups, lr=1e-2, metric=metric)

    whole, whole_optimizer = fresh()
    steps(whole, whole_optimizer, 4)
    whole_optimizer.param_groups[0]["penalty"].strength = 0.3
    buffer = io.BytesIO()
    torch.save({"net": whole.state_dict(), "optimizer": whole_optimizer.state_dict()}, buffer)
    steps(whole, whole_optimizer, 4)

    resumed, resumed_optimizer = fresh()
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    resumed.load_state_dict(state["net"])
    resumed_optimizer.load_state_dict(state["optimizer"])
    assert resumed_optimizer.param_groups[0]["penalty"].strength == 0.3
    steps(resumed, resumed_optimizer, 4)
    for mine, reference in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, reference)


def test_empty_and_channels_last_weights() -> None:
    torch.manual_seed(5)
    plain = nn.Parameter(torch.randn(4, 6, 3, 3))
    last = nn.Parameter(plain.detach().clone(memory_format=torch.channels_last))
    empty = nn.Parameter(torch.zeros(0, 6, 3, 3))
    gradient = torch.randn(4, 6, 3, 3)
    for weights in ([plain, empty], [last]):
        for weight in weights:
            weight.grad = gradient[: weight.shape[0]].clone()
        ProximalAdamW([{"params": weights, "penalty": GroupLasso(0.05)}], lr=0.1).step()
    torch.testing.assert_close(plain.detach(), last.detach(), rtol=1e-6, atol=1e-7)
    assert last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("metric", ["adaptive", "euclidean"])
def test_fast_and_plain_path_agree_over_steps(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nets = []
    strength = 0.05 if metric == "adaptive" else 0.5
    for kernels in ("1", "0"):
        monkeypatch.setenv("PARSIMONY_KERNELS", kernels)
        net = conv_net()
        groups = [{"params": [net[0].weight, net[2].weight], "penalty": GroupLasso(strength)}]
        steps(net, ProximalAdamW(groups, lr=1e-2, metric=metric), 20)
        nets.append(net)
    for fast, plain in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-6)
    assert 0 < (nets[0][2].weight == 0).float().mean() < 1


@pytest.mark.parametrize("scale", [1e-20, 1e15])
@pytest.mark.parametrize("make", [GroupLasso, GroupMCP, L1, SparseGroupLasso])
def test_gradients_of_extreme_scales(make: Callable[[float], Penalty], scale: float) -> None:
    weights = [nn.Parameter(torch.ones(4, 6)), nn.Parameter(torch.ones(4, 1)), nn.Parameter(torch.zeros(3, 3, 2, 2))]
    optimizer = ProximalAdamW([{"params": weights, "penalty": make(1e-3)}], lr=1e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        for weight in weights:
            weight.grad = scale * torch.randn(weight.shape, generator=generator)
        optimizer.step()
    assert all(weight.isfinite().all() for weight in weights)
    # The metric is the gradients' scale: against it the threshold is everything or nothing; the MCP's cost is bounded.
    assert bool((weights[0] == 0).all()) == (scale < 1 and make is not GroupMCP)


def test_strength_may_be_warmed_up() -> None:
    net = conv_net()
    penalty = GroupLasso(0.0)
    optimizer = ProximalAdamW([{"params": [net[2].weight], "penalty": penalty}], lr=1e-2)
    for strength, zeros in ((0.0, False), (1e3, True)):
        penalty.strength = strength
        steps(net, optimizer, 2)
        assert bool((net[2].weight == 0).any()) == zeros


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("check", ["auto", "later"])
def test_bad_gradients_are_refused_by_name_and_change_nothing(value: float, check: str) -> None:
    net = conv_net()
    groups = [
        {"params": [("first.weight", net[0].weight)], "penalty": GroupLasso(0.05)},
        {"params": [("second.weight", net[2].weight)], "penalty": GroupMCP(0.05)},
        {"params": [("last.weight", net[4].weight)]},
    ]
    optimizer = ProximalAdamW(groups, lr=1e-2, check=check)

    def everything() -> list[Tensor]:
        state = [value for p in net.parameters() for value in optimizer.state.get(p, {}).values()]
        return [tensor.detach().clone() for tensor in (*net.parameters(), *state)]

    for steps_before in (0, 3):
        steps(net, optimizer, steps_before)
        before = everything()
        net(torch.ones(2, 3, 6, 6)).square().sum().backward()
        net[2].weight.grad[1, 2, 0, 0] = value
        if check == "later":
            optimizer.step()
            with pytest.raises(TrialFailed, match=r"the gradient of second\.weight was not finite in 1 steps"):
                optimizer.raise_refused()
            optimizer.raise_refused()
        else:
            with pytest.raises(TrialFailed, match=r"the gradient of second\.weight is not finite"):
                optimizer.step()
        after = everything()
        assert len(after) == len(before) or steps_before == 0
        for a, b in zip(after, before, strict=False):
            assert torch.equal(a, b)
    steps(net, optimizer, 1)
    assert not torch.equal(net[2].weight, before[2])


def test_a_bad_gradient_without_names_is_told_by_place_and_shape() -> None:
    weights = [nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(4))]
    for weight in weights:
        weight.grad = torch.full_like(weight, math.nan if weight.ndim == 1 else 1.0)
    with pytest.raises(TrialFailed, match=r"parameter 1 of group 0, \(4,\)"):
        ProximalAdamW(weights).step()


def test_large_gradients_are_not_taken_for_infinite_ones() -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.full_like(weight, 3e38)  # whose sum overflows
    ProximalAdamW([weight]).step()


def half_precision_distance(optimizer_of: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> float:
    """Of bfloat16 weights from the minimum of a parabola, after small steps towards it."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(16, 16, generator=generator)
    weight = nn.Parameter((target + 0.2).bfloat16())
    optimizer = optimizer_of([weight])
    for _ in range(400):
        weight.grad = weight.detach() - target.bfloat16()
        optimizer.step()
    return float((weight.detach().float() - target).abs().mean())


def test_bfloat16_weights_take_steps_smaller_than_their_rounding() -> None:
    ours = half_precision_distance(lambda p: ProximalAdamW(p, lr=1e-3))
    theirs = half_precision_distance(lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.0))
    assert ours < 0.01
    assert theirs > 3 * ours


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_state_is_float32_and_survives_a_round_trip(dtype: torch.dtype) -> None:
    def fresh() -> tuple[nn.Module, ProximalAdamW]:
        net = conv_net().to(dtype)
        return net, ProximalAdamW([{"params": [net[2].weight], "penalty": GroupLasso(0.05)}], lr=1e-2)

    whole, whole_optimizer = fresh()
    steps(whole, whole_optimizer, 3)
    state = whole_optimizer.state[whole[2].weight]
    assert {value.dtype for value in state.values()} == {torch.float32}
    buffer = io.BytesIO()
    torch.save({"net": whole.state_dict(), "optimizer": whole_optimizer.state_dict()}, buffer)
    steps(whole, whole_optimizer, 3)
    resumed, resumed_optimizer = fresh()
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    resumed.load_state_dict(saved["net"])
    resumed_optimizer.load_state_dict(saved["optimizer"])
    steps(resumed, resumed_optimizer, 3)
    assert torch.equal(resumed[2].weight, whole[2].weight)
    # Weights that are changed from outside win over the copy.
    with torch.no_grad():
        whole[2].weight[:, :3] = 0
    whole[2].weight.grad.zero_()
    for group in whole_optimizer.param_groups:
        group["lr"] = 0.0
    whole_optimizer.step()
    assert (whole[2].weight[:, :3] == 0).all()


def test_state_in_another_layout_goes_on_to_the_same_numbers() -> None:
    """A state saved from contiguous weights, loaded for channels_last ones."""
    nets = [conv_net(), conv_net(), conv_net().to(memory_format=torch.channels_last)]
    made = [ProximalAdamW([{"params": [net[2].weight], "penalty": GroupLasso(0.05)}], lr=1e-2) for net in nets]
    steps(nets[0], made[0], 3)
    for net, optimizer in zip(nets[1:], made[1:], strict=True):
        net.load_state_dict(nets[0].state_dict())
        optimizer.load_state_dict(made[0].state_dict())
        steps(net, optimizer, 3)
    torch.testing.assert_close(nets[1][2].weight, nets[2][2].weight, rtol=1e-4, atol=1e-6)


def test_copies_keep_everything() -> None:
    net = conv_net()
    optimizer = ProximalAdamW([{"params": [net[2].weight], "penalty": GroupLasso(0.05)}], metric="euclidean")
    steps(net, optimizer, 2)
    copy = deepcopy(optimizer)
    assert copy.metric == "euclidean"
    assert copy.param_groups[0]["penalty"].strength == 0.05
    copy.step()


def test_bad_input_names_the_thing() -> None:
    weight = nn.Parameter(torch.ones(3))
    with pytest.raises(BadInput, match="shape \\(3,\\)"):
        ProximalAdamW([{"params": [weight], "penalty": GroupLasso(1.0)}])
    with pytest.raises(BadInput, match="metric 'adam'"):
        ProximalAdamW([weight], metric="adam")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"mean: groups 'input_channels' of shape \(3,\)"):
        ProximalAdamW([{"params": [("mean", weight)], "penalty": GroupLasso(1.0)}])
    for setting in ({"lr": -1.0}, {"betas": (0.9, 1.0)}, {"eps": 0.0}, {"weight_decay": -0.1}, {"check": "never"}):
        with pytest.raises(BadInput, match=f"{next(iter(setting))} .*; allowed"):
            ProximalAdamW([weight], **setting)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="penalty"):
        ProximalAdamW([{"params": [weight], "penalty": 1e-5}])
