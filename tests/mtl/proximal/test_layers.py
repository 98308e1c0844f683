"""Groups of every layer: what the real modules read, against every use of groups, in both memory formats."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mtl.errors import BadInput
from mtl.optimizer import ProximalAdamW, penalised_parameters
from mtl.penalties import L1, GroupLasso, GroupMCP, Penalty, SparseGroupLasso
from mtl.proximal import kernel
from mtl.proximal.blocks import AdamMetric
from mtl.proximal.groups import Layout, group_count, group_size, group_view, set_groups_, zero_groups_
from mtl.proximal.layers import GroupedLayer, grouped_layers
from mtl.proximal.prox import group_soft_threshold, weighted_group_soft_threshold
from mtl.selection.penalised import BackboneGroups
from mtl.selection.target import PenaltyToTarget
from mtl.sparsity import measure_sparsity, surviving_groups

timm_attention = pytest.importorskip("timm.layers.attention")

SIZE = 7  # the side of images
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: nn.Conv2d(6, 4, 3),
    "1 x 1": lambda: nn.Conv2d(6, 4, 1),
    "grouped": lambda: nn.Conv2d(6, 4, 3, groups=2),
    "grouped 1 x 1": lambda: nn.Conv2d(6, 9, 1, groups=3),
    "one filter a group": lambda: nn.Conv2d(6, 2, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(6, 6, 3, groups=6),
    "depthwise, multiplied": lambda: nn.Conv2d(6, 12, 5, groups=6),
    "transposed": lambda: nn.ConvTranspose2d(6, 4, 3, stride=2),
    "transposed, grouped": lambda: nn.ConvTranspose2d(6, 4, 3, groups=2),
    "transposed, depthwise": lambda: nn.ConvTranspose2d(6, 6, 2, groups=6),
    "large patches": lambda: nn.ConvTranspose2d(3, 8, 7),
    "linear": lambda: nn.Linear(6, 4),
    "patches": lambda: nn.Conv2d(3, 5, 7),
}


def made(name: str, memory_format: torch.memory_format = torch.contiguous_format) -> nn.Module:
    torch.manual_seed(0)
    module = LAYERS[name]().double()
    return module.to(memory_format=memory_format) if module.weight.ndim == 4 else module


def groups_by_hand(module: nn.Module) -> list[Tensor]:
    """For each input channel a mask of the weights that the module multiplies it with: those that change its output."""
    masks = []
    channels = module.in_features if isinstance(module, nn.Linear) else module.in_channels
    for c in range(channels):
        shape = (2, channels) if isinstance(module, nn.Linear) else (2, channels, SIZE, SIZE)
        images = torch.zeros(shape, dtype=torch.float64)
        images[:, c] = torch.rand(images[:, c].shape, dtype=torch.float64) + 1
        module.zero_grad()
        module(images).sum().backward()
        masks.append(module.weight.grad != 0)
    return masks


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", LAYERS)
def test_a_group_is_what_reads_one_channel(name: str, memory_format: torch.memory_format) -> None:
    module = made(name, memory_format)
    ((_, weight, layout),) = grouped_layers(module)
    masks = groups_by_hand(module)
    assert torch.stack(masks).sum(0).eq(1).all()  # each weight is in one group
    assert group_count(weight, "input_channels", layout) == len(masks) == measure_sparsity(module).layers[0].groups
    for c, mask in enumerate(masks):
        numbers = mask.to(torch.float64).contiguous(memory_format=memory_format) if weight.ndim == 4 else mask.double()
        view = group_view(numbers, "input_channels", layout)
        assert view[:, c].all()
        assert view.sum() == view[:, c].numel() == group_size(weight, "input_channels", layout)
        with torch.no_grad():
            before = weight.clone()
            zero_groups_(weight, torch.arange(len(masks)) == c, layout)
            assert torch.equal(weight, torch.where(mask, 0, before))
            assert surviving_groups(module)[""].tolist() == [i != c for i in range(len(masks))]
            sparsity = measure_sparsity(module)
            assert sparsity.layers[0].zero_groups == 1
            assert sparsity.layers[0].weights_in_zero_groups == int(mask.sum())
            weight.copy_(before)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("make", [GroupLasso, GroupMCP, SparseGroupLasso, L1])
@pytest.mark.parametrize("name", LAYERS)
def test_penalties_treat_each_group_as_a_layer_of_its_own(
    name: str, make: Callable[[float], Penalty], adaptive: bool, memory_format: torch.memory_format
) -> None:
    module = made(name, memory_format)
    ((_, parameter, layout),) = grouped_layers(module)
    masks, weight = groups_by_hand(module), parameter.detach()
    generator = torch.Generator().manual_seed(1)
    moment = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
    gradient = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
    penalty, metric = make(0.05), AdamMetric(moment, 0.3, 1e-3)
    metrics = [metric] if adaptive else None
    alone = make(0.05)
    alone.groups = "layer" if make is not L1 else "elements"
    value, distance, expected, vanishing = 0.0, 0.0, torch.zeros_like(weight), []
    for mask in masks:
        x, own = weight[mask], [AdamMetric(moment[mask], 0.3, 1e-3)] if adaptive else None
        value += float(alone.value([x]))
        distance = max(distance, float(alone.violation([x], [gradient[mask]])))
        vanishing.append(float(alone.vanishing([x], 0.5, own)[0].max()))
        alone.prox_([x], 0.5, own)
        expected[mask] = x
    assert float(penalty.value([weight], [layout])) == pytest.approx(value)
    assert float(penalty.violation([weight], [gradient], [layout])) == pytest.approx(distance)
    found = penalty.vanishing([weight], 0.5, metrics, [layout])[0]
    if make is not L1:
        assert found.tolist() == pytest.approx(vanishing)
    assert penalty.lambda_max([weight], 0.5, metrics, [layout]) == pytest.approx(max(vanishing))
    penalty.prox_([weight], 0.5, metrics, [layout])
    torch.testing.assert_close(weight, expected)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Tensor, Tensor, Layout]:
    """A weight in float32 with its second moment, and one of the layouts that fit it."""
    kind = draw(st.sampled_from(["grouped", "depthwise", "transposed", "heads", "plain"]))
    groups, reads, writes = draw(st.integers(1, 5)), draw(st.integers(1, 20)), draw(st.integers(1, 20))
    kernel = draw(st.sampled_from([1, 2, 3, 7, 9]))
    layout, shape = {
        "plain": (Layout(), (writes, reads, kernel, kernel)),
        "grouped": (Layout(groups=groups), (groups * writes, reads, kernel, kernel)),
        "depthwise": (Layout(groups=groups * reads), (groups * reads * draw(st.integers(1, 3)), 1, kernel, kernel)),
        "transposed": (Layout(groups=groups, transposed=True), (groups * reads, writes, kernel, kernel)),
        "heads": (Layout(block=kernel), (writes, reads * kernel)),
    }[kind]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    weight, moment = torch.randn(shape, generator=generator), torch.rand(shape, generator=generator)
    if len(shape) == 4 and draw(st.booleans()):
        weight, moment = (one.contiguous(memory_format=torch.channels_last) for one in (weight, moment))
    return weight, moment, layout


@settings(max_examples=200, deadline=None)
@given(problems(), st.booleans(), st.sampled_from([1e-6, 0.3, 1.0, 3.0]))
def test_the_kernel_agrees_with_the_operators_in_float64(
    problem: tuple[Tensor, Tensor, Layout], adaptive: bool, level: float
) -> None:
    weight, moment, layout = problem
    metric = AdamMetric(moment, 0.3, 1e-3)
    wide = group_view(weight.double(), "input_channels", layout)
    threshold = level * math.sqrt(group_size(weight, "input_channels", layout))
    d = metric.diagonal(group_view(moment.double(), "input_channels", layout))
    z = weighted_group_soft_threshold(wide, d, threshold) if adaptive else group_soft_threshold(wide, threshold)
    expected = weight.double()
    set_groups_(expected, z, "input_channels", layout)
    left = kernel.group_prox_([weight], [threshold], [metric] if adaptive else None, "input_channels", [layout])
    if left:
        assert kernel.why_unavailable() or (layout == Layout() and weight.shape[0] == 1)
        GroupLasso(level).prox_([weight], 1.0, [metric] if adaptive else None, [layout])
    torch.testing.assert_close(weight.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(weight == 0, expected == 0)


def attention(kind: str) -> nn.Module:
    torch.manual_seed(0)
    if kind == "timm":
        return timm_attention.Attention(12, num_heads=3, qkv_bias=True).eval()
    return nn.MultiheadAttention(12, 3, batch_first=True).eval()


@pytest.mark.parametrize("kind", ["timm", "torch"])
def test_a_group_of_an_attention_is_a_head(kind: str) -> None:
    module = attention(kind)
    layers = {name: (weight, layout) for name, weight, layout in grouped_layers(module)}
    assert {name: group_count(w, "input_channels", o) for name, (w, o) in layers.items()} == (
        {"qkv": 12, "proj": 3} if kind == "timm" else {"in_proj": 12, "out_proj": 3}
    )
    weight, layout = layers["proj" if kind == "timm" else "out_proj"]
    matrix = module.qkv.weight if kind == "timm" else module.in_proj_weight
    tokens = torch.randn(2, 5, 12)

    def output() -> Tensor:
        return module(tokens) if kind == "timm" else module(tokens, tokens, tokens)[0]

    with torch.no_grad():
        before = output()
        matrix.view(3, 3, 4, 12)[:, 1] += 1  # the queries, keys and values of head 1
        assert not torch.allclose(output(), before)
        matrix.view(3, 3, 4, 12)[:, 1] -= 1
        zero_groups_(weight, torch.tensor([False, True, False]), layout)
        without = output()
        matrix.view(3, 3, 4, 12)[:, 1] += 1
        torch.testing.assert_close(output(), without)
        matrix.view(3, 3, 4, 12)[:, 0] += 1
        assert not torch.allclose(output(), without)
    assert [layer.zero_groups for layer in measure_sparsity(module).layers] == [0, 1]


def network() -> nn.Module:
    """All layouts in one network."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 16, 1, groups=2),
        nn.ConvTranspose2d(16, 4, 2),
        nn.Flatten(2),
        nn.Linear(36, 12),
        timm_attention.Attention(12, num_heads=3),
    ).to(memory_format=torch.channels_last)


def train(model: nn.Module, optimizer: ProximalAdamW, steps: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        images = torch.randn(2, 3, 9, 9, generator=generator)
        optimizer.zero_grad()
        model(images).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("metric", ["adaptive", "euclidean"])
@pytest.mark.parametrize("kernels", ["0", "1"])
def test_whole_networks_become_sparse_in_their_groups_and_go_on_where_they_were(
    metric: str, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARSIMONY_KERNELS", kernels)
    strength = 2.0 if metric == "euclidean" else 3e-3

    def start() -> tuple[nn.Module, ProximalAdamW]:
        model = network()
        return model, ProximalAdamW(penalised_parameters(model, GroupLasso(strength)), lr=1e-2, metric=metric)  # type: ignore[arg-type]

    one, optimizer = start()
    train(one, optimizer, 8, seed=0)
    sparsity = measure_sparsity(one)
    assert 0 < sparsity.group_sparsity < 1
    # No weight is zero but in a group of zeros: the penalty's groups are those that are measured.
    assert all(layer.zero_weights == layer.weights_in_zero_groups for layer in sparsity.layers)
    saved = (one.state_dict(), optimizer.state_dict())
    other, resumed = start()
    other.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    for model, its in ((one, optimizer), (other, resumed)):
        train(model, its, 3, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_target_on_group_sparsity_holds_for_all_layouts() -> None:
    model = network()
    layers = list(grouped_layers(model))
    optimizer = ProximalAdamW(model.parameters(), lr=1e-2)
    groups = BackboneGroups(layers, [1.0] * len(layers), optimizer)
    penalty = PenaltyToTarget(groups, GroupLasso(0.0), 0.5, (0, 6))
    generator = torch.Generator().manual_seed(0)
    for _ in range(8):
        optimizer.zero_grad()
        model(torch.randn(2, 3, 9, 9, generator=generator)).square().mean().backward()
        optimizer.step()
        penalty.apply()
    sparsity = measure_sparsity(model)
    assert sparsity.group_sparsity == pytest.approx(0.5, abs=0.02)
    assert sparsity.group_sparsity == pytest.approx(1 - penalty.left)
    assert all(layer.zero_weights == layer.weights_in_zero_groups for layer in sparsity.layers)


def test_plain_weights_need_no_layout_and_a_layout_that_does_not_fit_is_refused() -> None:
    weight = nn.Parameter(torch.randn(6, 4, 3, 3))
    for layouts, found in (
        (Layout(groups=4), "layout with groups = 4 of shape (6, 4, 3, 3); allowed: divisors of 6"),
        (Layout(block=2), "layout with block = 2 of shape (6, 4, 3, 3); allowed: a linear layer's"),
        ([Layout(), Layout()], "layouts [Layout("),
        ("depthwise", "layouts 'depthwise'; allowed: a Layout, or one for each of 1 parameters"),
    ):
        with pytest.raises(BadInput) as caught:
            ProximalAdamW([{"params": [weight], "penalty": GroupLasso(1.0), "layouts": layouts}])
        assert found in str(caught.value)
    matrix = nn.Parameter(torch.randn(6, 4))
    with pytest.raises(BadInput, match=r"block = 3 of shape .*; allowed: divisors of 4"):
        ProximalAdamW([{"params": [matrix], "penalty": GroupLasso(1.0), "layouts": Layout(block=3)}])
    groups = ProximalAdamW([{"params": [weight], "penalty": GroupLasso(1.0)}]).param_groups
    assert groups[0]["layouts"] == [Layout()]
    assert GroupedLayer("", weight, Layout()).layout == Layout(1, False, 1)
