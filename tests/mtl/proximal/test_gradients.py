"""Gradients that are not finite: the compiled search and the one by sums find the same."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mtl.proximal import gradients as searches
from mtl.proximal.gradients import find_not_finite

SIZES = (1, 3, 64, 127, 128, 129, 1000, 70_000, 140_001)  # of registers, of several at once, and of more than a chunk


def by_sums(gradients: list[Tensor]) -> int | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARSIMONY_KERNELS", "0")
        return find_not_finite(gradients)


@pytest.fixture(params=[find_not_finite, by_sums], ids=["compiled", "by sums"])
def search(request: pytest.FixtureRequest) -> Callable[[list[Tensor]], int | None]:
    if request.param is find_not_finite and searches.load() is None:
        pytest.skip("nothing is compiled here")
    return request.param


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_finds_one_wherever_it_is(search: Callable[[list[Tensor]], int | None], bad: float) -> None:
    gradients = [torch.randn(size) for size in SIZES]
    for index, gradient in enumerate(gradients):
        for place in {0, len(gradient) // 2, len(gradient) - 1}:
            value = gradient[place].clone()
            gradient[place] = bad
            assert search(gradients) == index
            gradient[place] = value
    assert search(gradients) is None


def test_finds_the_first(search: Callable[[list[Tensor]], int | None]) -> None:
    gradients = [torch.zeros(200_000) for _ in range(4)]
    gradients[3][0] = gradients[1][-1] = math.nan
    assert search(gradients) == 1


def test_large_numbers_are_finite(search: Callable[[list[Tensor]], int | None]) -> None:
    largest = torch.finfo(torch.float32).max
    assert search([torch.full((1000,), largest), torch.full((1000,), -largest), torch.full((9,), 1e-45)]) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_other_orders_and_types(search: Callable[[list[Tensor]], int | None], dtype: torch.dtype) -> None:
    whole = torch.zeros(4, 6, 3, 3, dtype=dtype)
    for view in (whole.to(memory_format=torch.channels_last), whole[:, ::2], whole[:1].expand(4, 6, 3, 3)):
        gradients = [torch.zeros(5, dtype=dtype), view]
        assert search(gradients) is None
        view[0, 2, 1, 1] = math.inf
        assert search(gradients) == 1
        view[0, 2, 1, 1] = 0
    assert search([]) is None
    between = torch.zeros(8, dtype=dtype)
    between[1] = math.nan
    assert search([between[::2]]) is None


@given(st.lists(st.lists(st.floats(width=32), min_size=1, max_size=300), max_size=5))
def test_agrees_with_isfinite(rows: list[list[float]]) -> None:
    gradients = [torch.tensor(row, dtype=torch.float32) for row in rows]
    expected = next((i for i, gradient in enumerate(gradients) if not gradient.isfinite().all()), None)
    assert find_not_finite(gradients) == expected
    assert by_sums(gradients) == expected
