"""Penalties: values by hand, the distance to optimality, groups of every kind, and the prox over lists of weights."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mtl.errors import BadInput
from mtl.penalties import L1, PENALTIES, GroupLasso, GroupMCP, Penalty, SparseGroupLasso
from mtl.proximal import blocks
from mtl.proximal.blocks import AdamMetric
from mtl.proximal.groups import GROUP_KINDS, group_size, group_view
from mtl.proximal.prox import soft_threshold

ALL = [L1, GroupLasso, GroupMCP, SparseGroupLasso]


@pytest.fixture(params=["kernel", "plain"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setenv("PARSIMONY_KERNELS", "0")
    return str(request.param)


def weights_and_metrics(dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], list[AdamMetric]]:
    """Convolutions in both layouts, some alike, a matrix, one that has gaps, and empty ones."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 5, 3, 3), (6, 5, 3, 3), (6, 7, 3, 3), (8, 4, 1, 1), (4, 9), (6, 5, 2), (0, 5, 3, 3), (5, 0)]
    weights = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    weights[1] = weights[1].to(memory_format=torch.channels_last)
    weights[3][:, 0] *= 1e-3
    weights.append(torch.randn(6, 10, 3, 3, generator=generator, dtype=torch.float64).to(dtype)[:, ::2])
    moments = [torch.rand(w.shape, generator=generator, dtype=torch.float64).to(dtype) for w in weights]
    return weights, [AdamMetric(v, 0.3, 1e-3) for v in moments]


def rows(weight: Tensor, kind: str) -> Tensor:
    """(groups, elements), written on its own."""
    if kind == "elements":
        return weight.reshape(-1, 1)
    if kind == "layer":
        return weight.reshape(1, -1)
    return weight.transpose(0, 1).flatten(1) if kind == "input_channels" else weight.flatten(1)


def test_values_by_hand() -> None:
    weight = torch.zeros(2, 3, 1, 1)
    weight[:, 0] = torch.tensor([3.0, 4.0]).view(2, 1, 1)
    weight[:, 1] = torch.tensor([0.0, 2.0]).view(2, 1, 1)
    root = math.sqrt(2)
    torch.testing.assert_close(GroupLasso(0.5).value([weight]), torch.tensor(0.5 * root * (5 + 2)))
    torch.testing.assert_close(L1(0.5).value([weight]), torch.tensor(0.5 * 9))
    sparse = SparseGroupLasso(0.5, element_share=0.25).value([weight])
    torch.testing.assert_close(sparse, torch.tensor(0.5 * (0.75 * root * 7 + 0.25 * 9)))
    # gamma * strength = 3 sqrt(2) < 5: the first group is beyond it, the second below.
    s = root
    expected = 3 * s**2 / 2 + (2 * s - 4 / 6)
    torch.testing.assert_close(GroupMCP(1.0, gamma=3.0).value([weight]), torch.tensor(expected))
    for penalty in (kind(1.0) for kind in ALL):
        assert penalty.value([]) == 0
        assert penalty.value([torch.zeros(0, 3)]) == 0


@pytest.mark.parametrize("kind", GROUP_KINDS)
def test_groups_are_those_that_the_name_says(kind: str) -> None:
    for weight in weights_and_metrics()[0]:
        if not weight.numel():
            continue
        expected = rows(weight, kind)
        view = group_view(weight, kind)
        if kind != "elements":  # whose order is of no account
            torch.testing.assert_close(view.square().sum((0, 2)), expected.square().sum(1))
        assert view.shape[1] == len(expected)
        assert group_size(weight, kind) == expected.shape[1]
        value = GroupLasso(0.1, groups=kind).value([weight])
        torch.testing.assert_close(value, 0.1 * math.sqrt(expected.shape[1]) * expected.norm(dim=1).sum())


@pytest.mark.parametrize("kind", GROUP_KINDS)
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("make", [GroupLasso, GroupMCP, SparseGroupLasso])
def test_a_prox_of_many_weights_is_that_of_each_group(
    make: Callable[..., Penalty], adaptive: bool, kind: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks, layouts, gaps and company change nothing: each group alone, as a layer of its own, gives the same."""
    monkeypatch.setattr(blocks, "CPU_BLOCK", 200)
    weights, metrics = weights_and_metrics()
    expected = []
    for weight, metric in zip(weights, metrics, strict=True):
        groups = rows(weight, kind).double() if weight.numel() else []
        moments = rows(metric.second_moment, kind).double() if weight.numel() else []
        alone = []
        for group, moment in zip(groups, moments, strict=True):
            x = group.clone()
            make(0.4, groups="layer").prox_([x], 0.5, [AdamMetric(moment.clone(), 0.3, 1e-3)] if adaptive else None)
            alone.append(x)
        expected.append(torch.stack(alone) if alone else None)
    make(0.4, groups=kind).prox_(weights, 0.5, metrics if adaptive else None)
    for weight, reference in zip(weights, expected, strict=True):
        if reference is not None:
            torch.testing.assert_close(rows(weight, kind).double(), reference, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("make", ALL)
def test_prox_is_optimal_for_its_penalty(make: Callable[..., Penalty], adaptive: bool) -> None:
    """z = prox(x) iff D (x - z) / step is in the subdifferential at z: its distance, `violation`, is 0 there alone."""
    weights, metrics = weights_and_metrics(torch.float64)
    penalty = make(0.3)
    step = 0.2
    before = [w.clone() for w in weights]
    penalty.prox_(weights, step, metrics if adaptive else None)
    diagonals = [m.diagonal(m.second_moment) if adaptive else torch.ones_like(m.second_moment) for m in metrics]
    gradients = [d * (z - x) / step for d, z, x in zip(diagonals, weights, before, strict=True)]
    assert penalty.violation(weights, gradients) < 1e-12
    assert any((z == 0).any() for z in weights)
    assert any((z != 0).any() for z in weights)
    for i in (0, 1, 3, 4, 8):  # of some layouts
        moved = [g.clone() for g in gradients]
        moved[i] += 1
        assert penalty.violation(weights, moved) > 0.1
    assert penalty.violation([], []) == 0


@pytest.mark.parametrize("make", ALL)
def test_violation_by_hand_at_zero(make: Callable[..., Penalty]) -> None:
    weight, gradient = torch.zeros(2, 1), torch.tensor([[3.0], [4.0]])
    expected = {
        L1: 4 - 0.5,
        GroupLasso: 5 - 0.5 * math.sqrt(2),
        GroupMCP: 5 - 0.5 * math.sqrt(2),
        SparseGroupLasso: math.hypot(2.75, 3.75) - 0.25 * math.sqrt(2),
    }[make]
    assert make(0.5).violation([weight], [gradient]).item() == pytest.approx(expected)
    assert make(100.0).violation([weight], [gradient]) == 0


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_sparse_group_prox_beats_brute_force_in_two_dimensions(share: float) -> None:
    generator = torch.Generator().manual_seed(2)
    axis = torch.linspace(-1.1, 1.1, 601, dtype=torch.float64)
    step, strength = 0.7, 0.8
    for _ in range(20):
        x = 2 * torch.randn(2, 1, generator=generator, dtype=torch.float64)
        moment = torch.rand(2, 1, generator=generator, dtype=torch.float64)
        metric = AdamMetric(moment, 1.0, 0.1)
        d = metric.diagonal(moment)
        z = x.clone()
        SparseGroupLasso(strength, element_share=share).prox_([z], step, [metric])

        def objective(a: Tensor, b: Tensor, x: Tensor = x, d: Tensor = d) -> Tensor:
            distance = 0.5 * (d[0] * (a - x[0]) ** 2 + d[1] * (b - x[1]) ** 2)
            sizes = (1 - share) * math.sqrt(2) * torch.hypot(a, b) + share * (a.abs() + b.abs())
            return distance + step * strength * sizes

        reach = x.abs().max()
        a, b = torch.meshgrid(reach * axis, reach * axis, indexing="ij")
        nearby = objective(z[0] + 1e-3 * a, z[1] + 1e-3 * b)
        assert objective(z[0], z[1]) <= min(objective(a, b).min(), nearby.min()) + 1e-12


def test_sparse_group_lasso_between_its_ends(path: str) -> None:
    for share, other in ((0.0, GroupLasso(0.3)), (1.0, L1(0.3))):
        first, metrics = weights_and_metrics()
        second, _ = weights_and_metrics()
        SparseGroupLasso(0.3, element_share=share).prox_(first, 0.5, metrics)
        other.prox_(second, 0.5, metrics)
        for a, b in zip(first, second, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_groups_of_single_elements_are_the_l1_penalty() -> None:
    first, metrics = weights_and_metrics(torch.float64)
    second, _ = weights_and_metrics(torch.float64)
    GroupLasso(0.3, groups="elements").prox_(first, 0.5, metrics)
    L1(0.3).prox_(second, 0.5, metrics)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b)
    weight = torch.tensor([1.0, -0.1, 0.0])  # of one dimension: a bias
    L1(0.3).prox_([weight], 1.0, None)
    torch.testing.assert_close(weight, soft_threshold(torch.tensor([1.0, -0.1, 0.0]), 0.3))


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("make", ALL)
def test_strength_may_be_a_tensor(make: Callable[..., Penalty], adaptive: bool, path: str) -> None:
    """As in a CUDA graph; 0 then is the identity to the bit, though it is not looked at."""
    for strength in (0.3, 0.0):
        first, metrics = weights_and_metrics()
        second, _ = weights_and_metrics()
        penalty = make(1.0)
        penalty.strength = torch.tensor(strength)
        penalty.prox_(first, torch.tensor(0.5), metrics if adaptive else None)
        make(strength).prox_(second, 0.5, metrics if adaptive else None)
        for a, b in zip(first, second, strict=True):
            torch.testing.assert_close(a, b, rtol=0 if strength == 0 else 1e-5, atol=0 if strength == 0 else 1e-6)


@pytest.mark.parametrize("adaptive", [False, True])
def test_bfloat16_is_computed_in_float32(adaptive: bool) -> None:
    weights, metrics = weights_and_metrics()
    narrow = [w.bfloat16() for w in weights]
    wide = [w.float() for w in narrow]
    GroupLasso(0.3).prox_(narrow, 0.5, metrics if adaptive else None)
    GroupLasso(0.3).prox_(wide, 0.5, metrics if adaptive else None)
    for a, b in zip(narrow, wide, strict=True):
        torch.testing.assert_close(a, b.bfloat16(), rtol=1e-2, atol=0)


def test_bad_input_names_the_thing() -> None:
    for make in ALL:
        for strength in (-1.0, math.nan, math.inf):
            with pytest.raises(BadInput, match=f"{make.__name__}: strength"):
                make(strength)
    with pytest.raises(BadInput, match="groups 'channels'; allowed: input_channels, filters"):
        GroupLasso(1.0, groups="channels")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="gamma 1; allowed"):
        GroupMCP(1.0, gamma=1)
    with pytest.raises(BadInput, match=r"element_share 1\.5; allowed"):
        SparseGroupLasso(1.0, element_share=1.5)
    assert set(PENALTIES) == {"group_lasso", "group_mcp", "l1"}
    assert repr(GroupMCP(1e-5)) == "GroupMCP(strength=1e-05)"


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize(
    "make", [*ALL, lambda s: SparseGroupLasso(s, element_share=1), lambda s: GroupMCP(s, gamma=1.1)]
)
def test_a_group_vanishes_at_the_smallest_strength_that_is_given(
    make: Callable[..., Penalty], scale: float, adaptive: bool
) -> None:
    weights, metrics = weights_and_metrics(torch.float64)
    weights = [w * scale for w, metric in zip(weights, metrics, strict=True)]
    given = metrics if adaptive else None
    found = make(1.0).vanishing(weights, 0.5, given)
    assert make(1.0).lambda_max(weights, 0.5, given) == max(float(one.max()) for one in found if len(one))
    for i in (0, 1, 3, 4, 8):
        kind = make(1.0).groups
        for group, strength in list(enumerate(found[i].tolist()))[:5]:
            zero = []
            for factor in (1 - 1e-6, 1 + 1e-6):
                w = weights[i].clone()
                make(strength * factor).prox_([w], 0.5, [metrics[i]] if adaptive else None)
                row = group_view(w, kind)[:, group] if kind == "elements" else rows(w, kind)[group]
                zero.append(not row.any())
            assert zero == [False, True]


@pytest.mark.parametrize("make", ALL)
def test_all_vanishes_at_lambda_max_and_zeros_at_no_strength(make: Callable[..., Penalty]) -> None:
    weights, metrics = weights_and_metrics(torch.float64)
    largest = make(1.0).lambda_max(weights, 0.5, metrics)
    make(largest * (1 + 1e-9)).prox_(weights, 0.5, metrics)
    assert not any(w.any() for w in weights)
    assert make(1.0).lambda_max(weights, 0.5, metrics) == 0
    assert make(1.0).lambda_max([], 0.5, None) == 0
