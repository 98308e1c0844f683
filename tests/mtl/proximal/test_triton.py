"""The proximal step in Triton: on CUDA, or with TRITON_INTERPRET=1 in Triton's interpreter, on CPU.

Triton is one or the other for a whole process: `test_triton_interpreter` runs this file in one of its own.
"""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from mtl.optimizer import ProximalAdamW, penalised_parameters
from mtl.penalties import GroupLasso, Penalty, SparseGroupLasso
from mtl.proximal import triton_kernel
from mtl.proximal.blocks import AdamMetric
from mtl.proximal.groups import PLAIN, GroupKind, Layout, group_size, group_view
from mtl.proximal.prox import group_norm

pytest.importorskip("triton")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

# One shape at least for every kind of tile; the fifth and the last are passed over in chunks.
SHAPES = [(64, 20, 3, 3), (300, 9), (2, 5), (1100, 3, 1, 1), (2100, 3), (17, 5, 7, 7), (400, 2, 3, 3), (950, 2, 3, 3)]
LAYOUTS = [
    ((6, 2, 3, 3), Layout(groups=3)),
    ((9, 2, 1, 1), Layout(groups=3)),
    ((8, 1, 3, 3), Layout(groups=8)),
    ((6, 4, 2, 2), Layout(transposed=True)),
    ((5, 12), Layout(block=4)),
]


DEVICES = ["cpu"] if triton_kernel.interpreted() else [pytest.param("cuda", marks=[pytest.mark.gpu, needs_gpu])]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


def problem(
    shape: tuple[int, ...], device: torch.device, scale: float = 1.0, decades: float = 3, last: bool = False
) -> tuple[Tensor, AdamMetric]:
    generator = torch.Generator().manual_seed(math.prod(shape))
    weight = scale * torch.randn(shape, generator=generator)
    if shape[1] > 1:
        weight[:, 1] = 0
    moment = 1e-6 * torch.randn(shape, generator=generator).square()
    moment *= 10 ** (decades * (torch.rand(shape, generator=generator) - 0.5))
    weight, moment = weight.to(device), moment.to(device)
    if last and len(shape) == 4:
        weight, moment = (a.to(memory_format=torch.channels_last) for a in (weight, moment))
    return weight, AdamMetric(moment, 0.01, 1e-8)


def by_the_plain_path(
    weight: Tensor, metric: AdamMetric | None, penalty: Penalty, layout: Layout = PLAIN, step_size: float = 1.0
) -> Tensor:
    """In float64, which the kernel does not take."""
    wide = weight.double()
    metrics = None if metric is None else [AdamMetric(metric.second_moment.double(), 0.01, metric.eps)]
    penalty.prox_([wide], step_size, metrics, [layout])
    return wide


def check(
    weight: Tensor, before: Tensor, expected: Tensor, layout: Layout = PLAIN, kind: GroupKind = "input_channels"
) -> None:
    errors = group_norm(group_view(weight - expected, kind, layout))
    assert (errors <= 5e-7 * group_norm(group_view(before.double(), kind, layout))).all()
    assert torch.equal(weight == 0, expected == 0)
    assert not torch.signbit(weight[weight == 0]).any()


def middle_strength(weight: Tensor, metric: AdamMetric | None, layout: Layout, kind: GroupKind) -> float:
    """One that about half of the groups do not survive."""
    d = metric.diagonal(metric.second_moment) if metric else torch.ones_like(weight)
    norms = group_norm(group_view(weight * d, kind, layout))
    return 0.97 * float(norms.median()) / math.sqrt(group_size(weight, kind, layout))


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_plain_path(shape: tuple[int, ...], last: bool, adaptive: bool, device: torch.device) -> None:
    weight, metric = problem(shape, device, last=last)
    given = metric if adaptive else None
    strength = middle_strength(weight, given, PLAIN, "input_channels")
    before, expected = weight.clone(), by_the_plain_path(weight, given, GroupLasso(strength))
    assert triton_kernel.group_prox_([weight], strength, 0.0, [metric] if adaptive else None, "input_channels") == []
    check(weight, before, expected)


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("scale", [1e-19, 1e-10, 1e15])
@pytest.mark.parametrize("share", [1e-6, 0.5, 2.0])
def test_extreme_scales(scale: float, share: float, adaptive: bool, device: torch.device) -> None:
    for shape, decades in (((40, 9, 1, 1), 8), ((12, 5, 3, 3), 0)):
        weight, metric = problem(shape, device, scale, decades)
        given = metric if adaptive else None
        strength = share * middle_strength(weight, given, PLAIN, "input_channels")
        before, expected = weight.clone(), by_the_plain_path(weight, given, GroupLasso(strength))
        assert (
            triton_kernel.group_prox_([weight], strength, 0.0, [metric] if adaptive else None, "input_channels") == []
        )
        check(weight, before, expected)


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize(("shape", "layout"), LAYOUTS)
def test_groups_of_every_layer(shape: tuple[int, ...], layout: Layout, adaptive: bool, device: torch.device) -> None:
    for kind in ("input_channels", "filters") if layout == PLAIN else ("input_channels",):
        for last in (False, True):
            weight, metric = problem(shape, device, last=last)
            given = metric if adaptive else None
            strength = middle_strength(weight, given, layout, kind)
            before, expected = weight.clone(), by_the_plain_path(weight, given, GroupLasso(strength, kind), layout)
            metrics = [metric] if adaptive else None
            assert triton_kernel.group_prox_([weight], strength, 0.0, metrics, kind, [layout]) == []
            check(weight, before, expected, layout, kind)


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("kind", ["input_channels", "filters"])
def test_sparse_groups_and_filters(kind: GroupKind, adaptive: bool, device: torch.device) -> None:
    for shape in ((40, 9, 1, 1), (12, 5, 3, 3), (2100, 2) if kind == "input_channels" else (2, 2100)):
        weight, metric = problem(shape, device)
        given = metric if adaptive else None
        penalty = SparseGroupLasso(middle_strength(weight, given, PLAIN, kind), kind, element_share=0.4)
        before, expected = weight.clone(), by_the_plain_path(weight, given, penalty)
        penalty.prox_([weight], 1.0, [metric] if adaptive else None)
        check(weight, before, expected, kind=kind)


def test_many_layers_at_once_and_again_to_the_same_bits(device: torch.device) -> None:
    problems = [problem(shape, device, last=last) for shape in SHAPES[:4] for last in (False, True)]
    weights, metrics = [w for w, _ in problems], [m for _, m in problems]
    expected = [by_the_plain_path(w, m, GroupLasso(1e-5)) for w, m in problems]
    twice = [weight.clone() for weight in weights]
    for some in (weights, twice):
        assert triton_kernel.group_prox_(some, 1e-5, 0.0, metrics, "input_channels") == []
    for one, other, reference in zip(weights, twice, expected, strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one.double(), reference, rtol=1e-5, atol=1e-6)


def test_nan_stays_nan_and_strength_0_changes_nothing(device: torch.device) -> None:
    weight, metric = problem((32, 16, 3, 3), device)
    weight[3, 5, 1, 1] = math.nan
    weight[2, 2, 0, 0] = -0.0
    before = weight.clone()
    strength = torch.zeros((), device=device)
    for _ in range(2):
        triton_kernel.group_prox_([weight], strength, 0.0, [metric], "input_channels")
        assert torch.equal(weight.view(torch.int32), before.view(torch.int32))
    strength += 1e-4
    triton_kernel.group_prox_([weight], strength, 0.0, [metric], "input_channels")
    assert weight[3, 5, 1, 1].isnan()
    assert weight[:, 6:].isfinite().all()
    assert not torch.equal(weight[:, 6:], before[:, 6:])


def test_leaves_what_it_cannot_do(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    weight, metric = problem((8, 8, 3, 3), device)
    others = [
        (weight.double(), AdamMetric(metric.second_moment.double(), 0.01, 1e-8)),
        (weight.bfloat16(), metric),
        (weight.clone()[:, ::2], AdamMetric(metric.second_moment[:, ::2], 0.01, 1e-8)),
        (weight.clone(), AdamMetric(metric.second_moment.to(memory_format=torch.channels_last), 0.01, 1e-8)),
        (torch.zeros(0, 4, device=device), AdamMetric(torch.zeros(0, 4, device=device), 0.01, 1e-8)),
    ]
    weights, metrics = [weight, *(w for w, _ in others)], [metric, *(m for _, m in others)]
    before = [w.clone() for w in weights]
    assert triton_kernel.group_prox_(weights, 1e-5, 0.0, metrics, "input_channels") == [1, 2, 3, 4, 5]
    assert all(torch.equal(w, b) for w, b in zip(weights[1:], before[1:], strict=True))
    assert not torch.equal(weight, before[0])
    assert triton_kernel.group_prox_([weight], 1e-5, 0.0, [metric], "layer") == [0]
    monkeypatch.setenv("PARSIMONY_KERNELS", "0")
    assert triton_kernel.why_unavailable(device) == "PARSIMONY_KERNELS=0"
    assert triton_kernel.group_prox_([weight], 1e-5, 0.0, [metric], "input_channels") == [0]


def test_weights_that_move_are_found_again(device: torch.device) -> None:
    """The tables of the last step hold addresses."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)).to(device)
    optimizer = ProximalAdamW(penalised_parameters(net, GroupLasso(1e3)), lr=1e-2)
    for step in range(2):
        for p in net.parameters():
            p.grad = torch.ones_like(p)
        optimizer.step()
        assert all((layer.weight == 0).all() for layer in net)
        assert [plan.left for plan in triton_kernel._plans[net[0].weight].values()] == [[]] * (step + 1)
        with torch.no_grad():
            for layer in net:
                layer.weight.data = torch.ones_like(layer.weight)


@pytest.mark.gpu
@needs_gpu
def test_a_captured_step_waits_for_nothing_and_reads_the_strength_at_each_replay() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(16, 32, 3), nn.Conv2d(32, 8, 1)).cuda()
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    penalty = GroupLasso(0.0)
    penalty.strength = torch.zeros((), device="cuda")
    optimizer = ProximalAdamW(penalised_parameters(net, penalty), lr=1e-3)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            optimizer.step()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    graph.replay()
    assert not any((p == 0).any() for p in (net[0].weight, net[1].weight))
    reference, its_optimizer = copy.deepcopy((net, optimizer))
    penalty.strength.fill_(1e3)
    graph.replay()
    assert all((layer.weight == 0).all() for layer in net)
    its_optimizer.param_groups[0]["penalty"].strength = 1e3
    for p, q in zip(reference.parameters(), net.parameters(), strict=True):
        p.grad = q.grad.clone()
    its_optimizer.step()
    for p, q in zip(reference.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(p, q)
