"""ProximalAdamW against torch's AdamW, against the formulas, and on problems with known solutions."""

import io
import math

import pytest
import torch
from torch import Tensor, nn

from mtl.errors import BadInput
from mtl.optimizer import ProximalAdamW
from mtl.penalties import L1, GroupLasso


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


def soft(b: Tensor, threshold: float) -> Tensor:
    """The group lasso's solution for orthogonal features: each column of b shrunk by the threshold."""
    norm = b.norm(dim=0, keepdim=True)
    return b * (1 - threshold / norm).clamp(min=0)


def test_converges_to_the_group_lasso_solution() -> None:
    """min 1/2 ||W - B||^2 + strength sqrt(n) sum_c ||W[:, c]|| has a closed form."""
    torch.manual_seed(4)
    b = torch.randn(6, 5, dtype=torch.float64) * torch.tensor([0.05, 0.3, 1.0, 2.0, 3.0], dtype=torch.float64)
    weight = nn.Parameter(torch.randn_like(b))
    strength = 0.2
    optimizer = ProximalAdamW([{"params": [weight], "penalty": GroupLasso(strength)}], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2000)
    for _ in range(2000):
        weight.grad = (weight - b).detach()
        optimizer.step()
        schedule.step()
    expected = soft(b, strength * math.sqrt(6))
    assert ((weight == 0) == (expected == 0)).all()
    torch.testing.assert_close(weight.detach(), expected, rtol=0, atol=1e-3)


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


def test_bad_input_names_the_thing() -> None:
    weight = nn.Parameter(torch.ones(3))
    with pytest.raises(BadInput, match="shape \\(3,\\)"):
        ProximalAdamW([{"params": [weight], "penalty": GroupLasso(1.0)}])
    with pytest.raises(BadInput, match="metric 'adam'"):
        ProximalAdamW([weight], metric="adam")  # type: ignore[arg-type]
    for strength in (-1.0, math.nan, math.inf):
        with pytest.raises(BadInput, match="GroupLasso: strength"):
            GroupLasso(strength)
    with pytest.raises(BadInput, match="penalty"):
        ProximalAdamW([{"params": [weight], "penalty": 1e-5}])


def test_values_by_hand() -> None:
    weight = torch.zeros(2, 3, 1, 1)
    weight[:, 0] = torch.tensor([3.0, 4.0]).view(2, 1, 1)
    weight[:, 1] = torch.tensor([0.0, 2.0]).view(2, 1, 1)
    torch.testing.assert_close(GroupLasso(0.5).value([weight]), torch.tensor(0.5 * math.sqrt(2) * (5 + 2)))
    torch.testing.assert_close(L1(0.5).value([weight]), torch.tensor(0.5 * 9.0))
