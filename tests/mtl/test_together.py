"""The steps of several optimizers at once: each is what it is by itself, in fewer calls."""

from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mtl.errors import TrialFailed
from mtl.optimizer import ProximalAdamW
from mtl.penalties import L1, GroupLasso, GroupMCP, Penalty, SparseGroupLasso
from mtl.proximal import triton_kernel
from mtl.proximal.groups import Layout
from mtl.together import step_together

SHAPES = ((6, 4, 3, 3), (5, 6, 3, 3), (4, 5), (8, 1, 3, 3), (7,))


def optimizers(
    penalties: Sequence[Penalty],
    rates: Sequence[float] = (0.03, 0.01, 0.02),
    decays: Sequence[float] = (0.0, 0.1, 0.1),
    dtype: torch.dtype = torch.float64,
    **fields: Any,
) -> list[ProximalAdamW]:
    """One for each penalty, of weights in both orders in memory and of a depthwise layer."""
    made = []
    for number, (penalty, rate, decay) in enumerate(zip(penalties, rates, decays, strict=True)):
        generator = torch.Generator().manual_seed(number)
        weights = [
            nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)) for shape in SHAPES
        ]
        weights[1].data = weights[1].data.to(memory_format=torch.channels_last)
        groups = [
            {"params": [(f"layer {i}", weights[i]) for i in (0, 1, 2)], "penalty": penalty, "weight_decay": decay},
            {"params": [("depthwise", weights[3])], "penalty": deepcopy(penalty), "layouts": Layout(groups=8)},
            {"params": [("bias", weights[4])], "lr": 0.1},
        ]
        made.append(ProximalAdamW(groups, lr=rate, **fields))
    return made


def set_gradients(made: Sequence[ProximalAdamW], step: int) -> None:
    """One optimizer has none for one of its weights at one step."""
    for number, optimizer in enumerate(made):
        generator = torch.Generator().manual_seed(100 * number + step)
        for i, p in enumerate(weights_of(optimizer)):
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)
            if (number, step, i) == (1, 1, 2):
                p.grad = None


def weights_of(optimizer: ProximalAdamW) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def taken_both_ways(some: Sequence[ProximalAdamW], others: Sequence[ProximalAdamW], steps: int = 3) -> None:
    """Steps of the first list together, and of the second one by one."""
    for step in range(steps):
        for made in (some, others):
            set_gradients(made, step)
        assert step_together(some) == [None] * len(some)
        for optimizer in others:
            optimizer.step()


def assert_equal(one: ProximalAdamW, other: ProximalAdamW, tolerance: float) -> None:
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
        for name, value in one.state[a].items():
            torch.testing.assert_close(value, other.state[b][name], rtol=tolerance, atol=tolerance)
        assert torch.equal(a == 0, b == 0)


MIXED = (GroupLasso(15.0), GroupMCP(3.0), L1(0.3))
SAME_KIND = {
    "group lasso": [GroupLasso(s) for s in (15.0, 3.0, 0.0)],
    "filters": [GroupLasso(s, groups="filters") for s in (15.0, 3.0, 0.1)],
    "sparse": [SparseGroupLasso(s) for s in (15.0, 3.0, 0.1)],
    "mcp": [GroupMCP(s) for s in (15.0, 3.0, 0.1)],
    "l1": [L1(s) for s in (0.2, 0.05, 0.1)],
    "two shares": [SparseGroupLasso(0.2, element_share=0.2), SparseGroupLasso(0.1), GroupLasso(0.1)],
    "mixed": MIXED,
}


@pytest.mark.parametrize("check", ["now", "later"])
@pytest.mark.parametrize("metric", ["adaptive", "euclidean"])
@pytest.mark.parametrize("penalties", SAME_KIND.values(), ids=SAME_KIND)
def test_each_is_what_it_is_by_itself(penalties: Sequence[Penalty], metric: str, check: str) -> None:
    some, others = (optimizers(deepcopy(penalties), metric=metric, check=check) for _ in range(2))
    taken_both_ways(some, others)
    for one, other in zip(some, others, strict=True):
        assert_equal(one, other, 1e-12)
    assert any((w == 0).any() for w in weights_of(some[0]))


def test_in_float32_by_the_kernel_in_c_too() -> None:
    some, others = (optimizers([GroupLasso(s) for s in (0.3, 0.05, 0.1)], dtype=torch.float32) for _ in range(2))
    taken_both_ways(some, others)
    for one, other in zip(some, others, strict=True):
        assert_equal(one, other, 1e-6)


def test_masters_of_weights_in_half_precision_are_copied_back() -> None:
    some, others = (optimizers(deepcopy(MIXED), dtype=torch.bfloat16) for _ in range(2))
    taken_both_ways(some, others)
    for one, other in zip(some, others, strict=True):
        for a, b in zip(weights_of(one), weights_of(other), strict=True):
            assert torch.equal(a, b)
            assert torch.equal(a, one.state[a]["master"].bfloat16())


def test_optimizers_of_other_metrics_and_tensors_as_rates_step_beside_each_other() -> None:
    def made() -> list[ProximalAdamW]:
        first = optimizers([GroupLasso(0.3)] * 3, metric="euclidean")[0]
        second, third = optimizers([GroupLasso(0.2), GroupLasso(0.1), GroupLasso(0.3)])[1:]
        second.param_groups[0]["lr"] = torch.tensor(0.02, dtype=torch.float64)
        third.param_groups[0]["penalty"].strength = torch.tensor(0.25, dtype=torch.float64)
        third.param_groups[1]["betas"] = (0.8, 0.99)
        return [first, second, third]

    some, others = made(), made()
    taken_both_ways(some, others)
    for one, other in zip(some, others, strict=True):
        assert_equal(one, other, 1e-12)


@pytest.mark.parametrize("penalties", [SAME_KIND["mcp"], [GroupLasso(0.3), GroupLasso(0.2), GroupLasso(0.1)]])
@pytest.mark.parametrize("check", ["now", "later"])
def test_a_bad_gradient_stops_its_own_optimizer_alone(check: str, penalties: Sequence[Penalty]) -> None:
    some, others = (optimizers(deepcopy(penalties), check=check) for _ in range(2))
    taken_both_ways(some, others, steps=2)
    before = deepcopy((weights_of(some[1]), [dict(some[1].state[p]) for p in weights_of(some[1])]))
    for made in (some, others):
        set_gradients(made, 3)
    gradient = weights_of(some[1])[3].grad
    assert gradient is not None
    gradient[2] = float("nan")
    failures = step_together(some)
    message = "the gradient of depthwise "
    if check == "now":
        assert failures[0] is failures[2] is None
        assert str(failures[1]) == f"{message}is not finite; the step was not taken"
    else:
        assert failures == [None, None, None]
        with pytest.raises(TrialFailed, match=f"{message}was not finite in 1 steps, which were not taken"):
            some[1].raise_refused()
        some[0].raise_refused()
        some[2].raise_refused()
    for p, weight, state in zip(weights_of(some[1]), *before, strict=True):
        assert torch.equal(p, weight)
        assert all(torch.equal(some[1].state[p][name], value) for name, value in state.items())
    for number in (0, 2):
        others[number].step()
        assert_equal(some[number], others[number], 1e-12)


class Calls(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func._schema.name] += 1
        return func(*args, **(kwargs or {}))


def calls(made: Sequence[ProximalAdamW]) -> int:
    """Of all operations, in the second step."""
    for step in range(2):
        set_gradients(made, step)
        with Calls() as found:
            step_together(made)
    return found.counts.total()


@pytest.mark.parametrize("make", [GroupLasso, GroupMCP])
def test_ten_take_few_more_calls_than_one(make: type[Penalty]) -> None:
    def alike(count: int) -> list[ProximalAdamW]:
        return optimizers([make(0.01 * (i + 1)) for i in range(count)], [0.01] * count, [0.1] * count, check="later")

    # A penalty that converges to its root at a step of its own takes as many steps as the slowest.
    one, ten = calls(alike(1)), calls(alike(10))
    assert ten < 3 * one


def test_where_nothing_is_refused_later_adamw_is_one_call_for_all_of_one_rate() -> None:
    for check, expected in (("now", 3), ("later", 3 * 4)):
        made = optimizers([GroupLasso(0.1)] * 4, [0.01] * 4, [0.1] * 4, check=check)
        set_gradients(made, 0)
        with Calls() as found:
            step_together(made)
        assert found.counts["aten::_fused_adamw_"] == expected


def test_on_cuda_the_layers_of_all_are_one_launch_for_each_kind_of_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[int] = []

    class Kernel:
        def __getitem__(self, grid: tuple[int]) -> Any:
            return lambda *_, **__: launched.append(grid[0])

    for name, value in {"serves": lambda _: True, "interpreted": lambda: True, "_kernel": lambda _: Kernel()}.items():
        monkeypatch.setattr(triton_kernel, name, value)
    for count in (1, 3):
        made = optimizers(
            [GroupLasso(0.1 * (i + 1)) for i in range(count)], [0.01] * count, [0.1] * count, dtype=torch.float32
        )
        set_gradients(made, 0)
        launched.clear()
        step_together(made)
        launched.clear()
        step_together(made)
        # Alone there are two groups with a penalty, each of which has launches of its own.
        assert len(launched) <= 4
