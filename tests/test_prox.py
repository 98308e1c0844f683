"""The proximal operators against their closed forms, their optimality conditions and an independent root finder."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtl.prox import group_soft_threshold, row_norm, soft_threshold, weighted_group_soft_threshold

DTYPES = [torch.float32, torch.float64]
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-13}


def problem(seed: int, groups: int, elements: int, decades: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Random rows and metrics whose entries spread over so many powers of ten."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(groups, elements, generator=generator, dtype=torch.float64)
    exponents = decades * (torch.rand(groups, elements, generator=generator, dtype=torch.float64) - 0.5)
    return x.to(dtype), (10**exponents).to(dtype)


def bisected(x: np.ndarray, d: np.ndarray, threshold: float) -> np.ndarray:
    """The weighted operator on one row by bisection on phi(theta) = 1 in float64: slow, and written on its own."""
    y = d * x
    if math.sqrt(float(y @ y)) <= threshold:
        return np.zeros_like(x)
    low, high = 0.0, (math.sqrt(float(y @ y)) - threshold) / d.min()
    for _ in range(200):
        theta = (low + high) / 2
        if (y**2 / (d * theta + threshold) ** 2).sum() > 1:
            low = theta
        else:
            high = theta
    theta = (low + high) / 2
    return x * d * theta / (d * theta + threshold)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("decades", [0.0, 2.0, 8.0])
@pytest.mark.parametrize("elements", [1, 2, 9, 200])
def test_agrees_with_bisection(dtype: torch.dtype, decades: float, elements: int) -> None:
    x, d = problem(1, 16, elements, decades, dtype)
    norms = row_norm(d * x)
    for fraction in (1e-6, 0.1, 0.9, 0.999, 1.1):
        threshold = fraction * norms
        z = weighted_group_soft_threshold(x, d, threshold)
        for row in range(len(x)):
            expected = bisected(x[row].double().numpy(), d[row].double().numpy(), float(threshold[row]))
            scale = np.abs(x[row].double().numpy()).max()
            np.testing.assert_allclose(z[row].double().numpy(), expected, rtol=0, atol=20 * TOLERANCE[dtype] * scale)


@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_metric_is_the_closed_form(dtype: torch.dtype) -> None:
    x, _ = problem(2, 8, 30, 0, dtype)
    for d, threshold in ((1.0, 2.0), (0.01, 0.03), (300.0, 1e3)):
        expected = group_soft_threshold(x, threshold / d)
        z = weighted_group_soft_threshold(x, torch.full_like(x, d), threshold)
        torch.testing.assert_close(z, expected, rtol=20 * TOLERANCE[dtype], atol=20 * TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_element_is_the_soft_threshold(dtype: torch.dtype) -> None:
    x, d = problem(3, 50, 1, 6, dtype)
    z = weighted_group_soft_threshold(x, d, 0.3)
    torch.testing.assert_close(z, soft_threshold(x, 0.3 / d), rtol=20 * TOLERANCE[dtype], atol=20 * TOLERANCE[dtype])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    elements=st.integers(1, 40),
    decades=st.floats(0, 10),
    fraction=st.floats(1e-4, 0.999),
)
def test_stationarity(seed: int, elements: int, decades: float, fraction: float) -> None:
    """D (z - x) + threshold z / ||z|| = 0 wherever z is not zero."""
    x, d = problem(seed, 4, elements, decades, torch.float64)
    threshold = fraction * row_norm(d * x)
    z = weighted_group_soft_threshold(x, d, threshold)
    assert (row_norm(z) > 0).all()
    residual = d * (z - x) + threshold * z / row_norm(z)
    assert (row_norm(residual) <= 1e-10 * row_norm(d * x)).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(-6, 6))
def test_scaling_metric_and_threshold_together_changes_nothing(seed: int, scale: float) -> None:
    x, d = problem(seed, 4, 12, 3, torch.float64)
    threshold = 0.5 * row_norm(d * x)
    expected = weighted_group_soft_threshold(x, d, threshold)
    torch.testing.assert_close(weighted_group_soft_threshold(x, 10**scale * d, 10**scale * threshold), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_threshold_is_sharp(dtype: torch.dtype) -> None:
    x = torch.tensor([[3.0, 4.0]], dtype=dtype)
    d = torch.ones_like(x)
    assert (weighted_group_soft_threshold(x, d, 5.0) == 0).all()
    assert (weighted_group_soft_threshold(x, d, 5.0 * (1 + 1e-5)) == 0).all()
    assert (weighted_group_soft_threshold(x, d, 5.0 * (1 - 1e-5)) != 0).all()
    assert (group_soft_threshold(x, 5.0) == 0).all()


def test_prox_beats_its_neighbours() -> None:
    """The objective at the result is below that at 1,000 points around it."""
    x, d = problem(5, 1, 6, 2, torch.float64)
    threshold = 0.4 * float(row_norm(d * x))

    def objective(z: Tensor) -> Tensor:
        return 0.5 * (d * (z - x) ** 2).sum(dim=1) + threshold * z.norm(dim=1)

    z = weighted_group_soft_threshold(x, d, threshold)
    steps = torch.randn(1000, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    around = z + steps * 10 ** torch.linspace(-6, 0, 1000, dtype=torch.float64)[:, None]
    assert (objective(around) >= objective(z)).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
def test_extreme_scales(dtype: torch.dtype, scale: float) -> None:
    """Rows and threshold scaled together give the same result scaled: no square under- or overflows."""
    x, d = problem(6, 8, 20, 1, dtype)
    threshold = 0.3 * row_norm(d * x)
    expected = weighted_group_soft_threshold(x, d, threshold)
    z = weighted_group_soft_threshold(scale * x, d, scale * threshold)
    torch.testing.assert_close(z / scale, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges(dtype: torch.dtype) -> None:
    zeros = torch.zeros(3, 4, dtype=dtype)
    ones = torch.ones(3, 4, dtype=dtype)
    assert (weighted_group_soft_threshold(zeros, ones, 0.1) == 0).all()
    assert (group_soft_threshold(zeros, 0.1) == 0).all()
    assert weighted_group_soft_threshold(torch.zeros(0, 4, dtype=dtype), torch.zeros(0, 4, dtype=dtype), 1.0).shape == (
        0,
        4,
    )
    x, d = problem(7, 3, 4, 2, dtype)
    torch.testing.assert_close(weighted_group_soft_threshold(x, d, torch.zeros(3, 1, dtype=dtype)), x, rtol=0, atol=0)
    mixed = torch.cat([x[:1], zeros[:1], 1e-30 * x[1:2]])
    result = weighted_group_soft_threshold(mixed, d, 1e-3)
    assert result.isfinite().all()
    assert (result[1:] == 0).all()
    assert (result[0] != 0).all()
