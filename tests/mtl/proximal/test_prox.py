"""The proximal operators against closed forms, optimality conditions, an independent root finder and brute force."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mtl.proximal.prox import (
    group_firm_threshold,
    group_norm,
    group_soft_threshold,
    group_sum,
    soft_threshold,
    spread,
    weighted_group_firm_threshold,
    weighted_group_soft_threshold,
)

DTYPES = [torch.float32, torch.float64]
SHAPES = [(1, 16, 1), (1, 16, 200), (2, 16, 1), (40, 5, 9), (300, 7, 1), (3, 4, 80)]


def problem(seed: int, shape: tuple[int, int, int], decades: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Random weights and metrics, (outer, groups, inner), the metric's entries spread over so many powers of ten."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    exponents = decades * (torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5)
    return x.to(dtype), (10**exponents).to(dtype)


def bisected(x: Tensor, d: Tensor, threshold: Tensor) -> Tensor:
    """The weighted soft threshold by bisection on sum x^2 / (theta + threshold / d)^2 = 1 in float64."""
    x, d, threshold = x.double(), d.double(), threshold.double().view(1, -1, 1)
    low = torch.zeros_like(threshold)
    high = x.square().sum((0, 2), keepdim=True).sqrt()
    for _ in range(200):
        theta = (low + high) / 2
        above = (x / (theta + threshold / d)).square().sum((0, 2), keepdim=True) > 1
        low, high = torch.where(above, theta, low), torch.where(above, high, theta)
    dead = (d * x).square().sum((0, 2), keepdim=True).sqrt() <= threshold
    return torch.where(dead, 0, x * theta / (theta + threshold / d))


def relative_error(z: Tensor, expected: Tensor, x: Tensor) -> float:
    """The largest error of an element, in units of eps times its group's norm before the operator."""
    norm = x.double().square().sum((0, 2), keepdim=True).sqrt()
    return float(((z - expected).abs() / norm).max()) / torch.finfo(x.dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("decades", [0.0, 2.0, 10.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_bisection_to_the_last_bits(
    dtype: torch.dtype, decades: float, shape: tuple[int, int, int]
) -> None:
    x, d = problem(1, shape, decades, dtype)
    for fraction in (1e-12, 1e-6, 0.1, 0.9, 0.999, 1.1):
        threshold = fraction * group_norm(d * x)
        z = weighted_group_soft_threshold(x, d, threshold)
        assert relative_error(z, bisected(x, d, threshold), x) < 4
        assert bool((z == 0).all()) == (fraction > 1)


def test_ten_steps_are_enough_for_weights_that_span_ten_decades(monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA a fixed number of steps is run."""
    monkeypatch.setattr("mtl.proximal.prox.MAX_ROOT_STEPS", 10)
    generator = torch.Generator().manual_seed(8)
    for seed in range(20):
        x, d = problem(seed, (30, 50, 1), 10, torch.float32)
        x *= 10 ** (10 * (torch.rand(x.shape, generator=generator) - 0.5))
        for fraction in (1e-9, 1e-3, 0.5, 0.99):
            threshold = fraction * group_norm(d * x)
            z = weighted_group_soft_threshold(x, d, threshold)
            assert relative_error(z, bisected(x, d, threshold), x) < 4


@pytest.mark.parametrize("gamma", [None, 3.0])
def test_few_steps_are_taken_and_dead_groups_take_none_more(
    gamma: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr("mtl.proximal.prox.group_sum", lambda x: calls.append(x) or group_sum(x))
    x, d = problem(10, (40, 200, 9), 4, torch.float32)
    x[:, :50] *= 10 ** torch.linspace(-10, 0, 50).view(1, -1, 1)
    x[:, 50] = 0
    if gamma is None:
        z = weighted_group_soft_threshold(x, d, 3.0)
    else:
        z = weighted_group_firm_threshold(x, d, 1.0, 3.0, gamma)
    assert 20 < (group_norm(z) == 0).sum() < 200
    assert len(calls) < 20


@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_metric_is_the_closed_form(dtype: torch.dtype) -> None:
    x, _ = problem(2, (4, 8, 9), 0, dtype)
    for d, threshold in ((1.0, 2.0), (0.01, 0.03), (300.0, 1e3)):
        expected = group_soft_threshold(x, threshold / d)
        z = weighted_group_soft_threshold(x, torch.full_like(x, d), threshold)
        assert relative_error(z, expected, x) < 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_element_is_the_soft_threshold(dtype: torch.dtype) -> None:
    x, d = problem(3, (1, 50, 1), 6, dtype)
    expected = soft_threshold(x, 0.3 / d)
    assert relative_error(weighted_group_soft_threshold(x, d, 0.3), expected, x) < 4
    assert relative_error(group_soft_threshold(x, 0.3), soft_threshold(x, 0.3), x) < 4


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    elements=st.integers(1, 40),
    decades=st.floats(0, 10),
    fraction=st.floats(1e-4, 0.999),
)
def test_stationarity(seed: int, elements: int, decades: float, fraction: float) -> None:
    """D (z - x) + threshold z / ||z|| = 0 wherever z is not zero."""
    x, d = problem(seed, (elements, 4, 1), decades, torch.float64)
    threshold = fraction * group_norm(d * x)
    z = weighted_group_soft_threshold(x, d, threshold)
    assert (group_norm(z) > 0).all()
    residual = d * (z - x) + spread(threshold / group_norm(z), x) * z
    assert (group_norm(residual) <= 1e-10 * group_norm(d * x)).all()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), scale=st.floats(-6, 6))
def test_scaling_metric_and_threshold_together_changes_nothing(seed: int, scale: float) -> None:
    x, d = problem(seed, (3, 4, 4), 3, torch.float64)
    threshold = 0.5 * group_norm(d * x)
    expected = weighted_group_soft_threshold(x, d, threshold)
    torch.testing.assert_close(weighted_group_soft_threshold(x, 10**scale * d, 10**scale * threshold), expected)


def test_elements_may_be_in_any_order_and_groups_any_company() -> None:
    x, d = problem(9, (30, 6, 9), 3, torch.float64)
    threshold = 0.5 * group_norm(d * x)
    z = weighted_group_soft_threshold(x, d, threshold)
    rows = weighted_group_soft_threshold(*(a.transpose(0, 1).reshape(1, 6, 270) for a in (x, d)), threshold)
    torch.testing.assert_close(rows.view(6, 30, 9).transpose(0, 1), z)
    torch.testing.assert_close(weighted_group_soft_threshold(x[:, 2:3], d[:, 2:3], threshold[2:3]), z[:, 2:3])


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_threshold_is_sharp(dtype: torch.dtype) -> None:
    x = torch.tensor([3.0, 4.0], dtype=dtype).view(1, 1, 2)
    d = torch.ones_like(x)
    for operator in (lambda t: weighted_group_soft_threshold(x, d, t), lambda t: group_soft_threshold(x, t)):
        assert (operator(5.0) == 0).all()
        assert (operator(5.0 * (1 + 1e-5)) == 0).all()
        assert (operator(5.0 * (1 - 1e-5)) != 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
def test_extreme_scales(dtype: torch.dtype, scale: float) -> None:
    """Weights and threshold scaled together give the same result scaled: no square under- or overflows."""
    x, d = problem(6, (20, 8, 1), 1, dtype)
    threshold = 0.3 * group_norm(d * x)
    expected = weighted_group_soft_threshold(x, d, threshold)
    assert relative_error(weighted_group_soft_threshold(scale * x, d, scale * threshold) / scale, expected, x) < 20
    expected = group_soft_threshold(x, threshold)
    assert relative_error(group_soft_threshold(scale * x, scale * threshold) / scale, expected, x) < 20
    expected = weighted_group_firm_threshold(x, d, 0.1, 3 * threshold, 3.0)
    z = weighted_group_firm_threshold(scale * x, d, 0.1, 3 * scale * threshold, 3.0)
    assert relative_error(z / scale, expected, x) < 20


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges(dtype: torch.dtype) -> None:
    x, d = problem(7, (2, 3, 2), 2, dtype)
    operators = [
        lambda x, d, t: weighted_group_soft_threshold(x, d, t),
        lambda x, _, t: group_soft_threshold(x, t),
        lambda x, d, t: weighted_group_firm_threshold(x, d, 1.0, t, 3.0),
        lambda x, _, t: group_firm_threshold(x, 1.0, t, 3.0),
        lambda x, _, t: soft_threshold(x, t),
    ]
    for operator in operators:
        assert (operator(torch.zeros_like(x), d, 0.1) == 0).all()
        for shape in ((2, 0, 2), (0, 3, 2), (2, 3, 0)):
            assert operator(x.new_zeros(shape), x.new_ones(shape), 1.0).shape == shape
        assert torch.equal(operator(x, d, 0.0), x)
        assert (operator(torch.zeros_like(x), d, 0.0) == 0).all()
    assert torch.equal(weighted_group_firm_threshold(x, d, 0.0, 0.1, 3.0), x)
    assert torch.equal(group_firm_threshold(x, 0.0, 0.1, 3.0), x)
    for operator in operators:
        mixed = x.clone()
        mixed[:, 1] = 0
        mixed[:, 2] *= 1e-30
        z = operator(mixed, d, 1e-3)
        assert z.isfinite().all()
        assert (z[:, 1:] == 0).all()
        assert (z[:, 0] != 0).any()
        mixed[0, 1, 0] = math.nan
        assert operator(mixed, d, 1e-3)[0, 1, 0].isnan()


def mcp(norm: np.ndarray, strength: float, gamma: float) -> np.ndarray:
    below = np.minimum(norm, gamma * strength)
    return strength * below - below**2 / (2 * gamma)


@pytest.mark.parametrize("step", [0.3, 2.9, 3.0, 8.0])
def test_firm_threshold_beats_a_grid(step: float) -> None:
    """One dimension decides: the result's objective is the least on a fine grid, convex (step < gamma) or not."""
    strength, gamma = 0.7, 3.0
    grid = np.linspace(0, 12, 240_001)
    for norm in np.linspace(0.01, 8, 37):
        z = group_firm_threshold(torch.full((1, 1, 1), norm, dtype=torch.float64), step, strength, gamma).item()
        objective = 0.5 * (grid - norm) ** 2 + step * mcp(grid, strength, gamma)
        mine = 0.5 * (z - norm) ** 2 + step * mcp(np.array(z), strength, gamma)
        assert mine <= objective.min() + 1e-12


@pytest.mark.parametrize("lowest", [3.0, 0.4, 0.05, 0.01])
def test_weighted_firm_threshold_beats_brute_force_in_two_dimensions(lowest: float) -> None:
    """With step / gamma = 1/3 the problem is convex for metrics from 3, and has two minima for the smaller ones."""
    step, strength, gamma = 1.0, 0.7, 3.0
    generator = np.random.default_rng(0)
    axis = np.linspace(-1, 1, 201)
    moved = 0
    for _ in range(40):
        d = lowest * 10 ** generator.uniform(0, 1.5, 2)
        x = generator.normal(size=2) * 10 ** generator.uniform(-0.5, 1.2)
        as_group = [torch.tensor(value).view(1, 1, 2) for value in (x, d)]
        z = weighted_group_firm_threshold(*as_group, step, strength, gamma).flatten().numpy()

        def objective(a: np.ndarray, b: np.ndarray, x: np.ndarray = x, d: np.ndarray = d) -> np.ndarray:
            distance = 0.5 * (d[0] * (a - x[0]) ** 2 + d[1] * (b - x[1]) ** 2)
            return distance + step * mcp(np.hypot(a, b), strength, gamma)

        reach = 1.05 * np.abs(x).max()
        everywhere = objective(*np.meshgrid(reach * axis, reach * axis))
        nearby = objective(*np.meshgrid(z[0] + 1e-3 * reach * axis, z[1] + 1e-3 * reach * axis))
        mine = objective(z[0], z[1])
        assert mine <= min(everywhere.min(), nearby.min()) + 1e-9 * (1 + mine)
        moved += not np.array_equal(z, x) and z.any()
    assert moved > 5 or lowest < 0.1


def test_firm_threshold_with_constant_metric_and_with_large_gamma() -> None:
    x, _ = problem(11, (4, 12, 3), 0, torch.float64)
    for step in (0.2, 5.0):
        for d in (0.5, 4.0):
            expected = group_firm_threshold(x, step / d, 1.1, 3.0)
            z = weighted_group_firm_threshold(x, torch.full_like(x, d), step, 1.1, 3.0)
            torch.testing.assert_close(z, expected)
    x, d = problem(12, (4, 12, 3), 3, torch.float64)
    strength = 0.4 * group_norm(d * x)
    expected = weighted_group_soft_threshold(x, d, strength)
    torch.testing.assert_close(weighted_group_firm_threshold(x, d, 1.0, strength, 1e12), expected)


def test_prox_beats_its_neighbours() -> None:
    """The objective at the result is below that at 1,000 points around it."""
    x, d = problem(5, (1, 1, 6), 2, torch.float64)
    threshold = 0.4 * float(group_norm(d * x))

    def objective(z: Tensor) -> Tensor:
        return 0.5 * (d * (z - x) ** 2).sum(dim=2) + threshold * z.norm(dim=2)

    z = weighted_group_soft_threshold(x, d, threshold)
    steps = torch.randn(1, 1000, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    around = z + steps * 10 ** torch.linspace(-6, 0, 1000, dtype=torch.float64)[None, :, None]
    assert (objective(around) >= objective(z)).all()
