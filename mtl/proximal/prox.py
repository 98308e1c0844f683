"""Proximal operators: pure functions, no state.

Weights have the shape (outer, groups, inner) that `groups.group_view` gives: group g is x[:, g]. Thresholds and
strengths are numbers or one for each group, >= 0, in the units of `d * x`: the step size times the strength times
sqrt(group size). A threshold of zero is the identity, a group at zero stays at zero, and NaN gives NaN.

Sources: Deleu & Bengio 2021 (arXiv 2102.03869) for the weighted operator; Breheny & Huang 2009 for the group MCP.
"""

import torch
from torch import Tensor

MAX_ROOT_STEPS = 40  # enough for weights and metrics that span ten powers of ten each; 4 are usual
CUDA_ROOT_STEPS = 10  # always all of them, as a test for convergence would stop the device


def soft_threshold(x: Tensor, threshold: Tensor | float) -> Tensor:
    """argmin_z  1/2 (z - x)^2 + threshold |z|, elementwise: sign(x) * max(0, |x| - threshold). Any shape."""
    return x.sign() * (x.abs() - threshold).clamp(min=0)


def group_soft_threshold(x: Tensor, threshold: Tensor | float) -> Tensor:
    """argmin_z  1/2 ||z - x||^2 + threshold ||z||, for each group: max(0, 1 - threshold / ||x||) x, and 0 at x = 0."""
    norm = group_norm(x)
    # 0/0 would be NaN; a group at zero has scale 0, like any group within the threshold.
    scale = torch.where(norm <= threshold, torch.zeros_like(norm), 1 - threshold / norm)
    return x * spread(scale, x)


def group_firm_threshold(x: Tensor, step_size: Tensor | float, strength: Tensor | float, gamma: float) -> Tensor:
    """argmin_z  1/2 ||z - x||^2 + step_size * mcp(||z||), mcp(t) = strength t - t^2 / (2 gamma) up to gamma * strength.

    Along x the problem is one in t = ||z||. It is convex for step_size < gamma, with the solution
    (||x|| - step_size * strength) / (1 - step_size / gamma), at least 0, where ||x|| <= gamma * strength, and x beyond.
    Otherwise it is concave up to gamma * strength, so that 0 or x is best: x beyond strength * sqrt(step_size * gamma).
    """
    norm = group_norm(x)
    step = _each_group(step_size, x)
    firm = (norm - step * strength).clamp(min=0) / (1 - step / gamma)
    keeps = norm > torch.where(step < gamma, gamma * strength, strength * (step * gamma).sqrt())
    inside = torch.where(step < gamma, firm / norm, torch.zeros_like(norm))
    scale = torch.where(keeps, torch.ones_like(norm), torch.where(norm == 0, torch.zeros_like(norm), inside))
    return x * spread(scale, x)


@torch.no_grad()
def weighted_group_soft_threshold(x: Tensor, d: Tensor, threshold: Tensor | float) -> Tensor:
    """argmin_z  1/2 sum_j d_j (z_j - x_j)^2 + threshold ||z||, for each group; d > 0, of the shape of x.

    z = 0 iff ||d x|| <= threshold; otherwise z_j = x_j theta / (a_j + theta), a = threshold / d, with theta = ||z|| the
    root of ||x / (a + theta)|| = 1.
    """
    return _weighted(x, d, _each_group(threshold, x), bend=None)[0]


@torch.no_grad()
def weighted_group_firm_threshold(
    x: Tensor, d: Tensor, step_size: Tensor | float, strength: Tensor | float, gamma: float
) -> Tensor:
    """argmin_z  1/2 sum_j d_j (z_j - x_j)^2 + step_size * mcp(||z||), for each group; mcp as in `group_firm_threshold`.

    The minimiser for a given norm t <= ||x|| is z_j = d_j x_j / (d_j + k), with k >= 0 such that ||z|| = t, and its
    distance term changes with t by -k t. So, with F(t) the least objective at norm t,

        F'(t) = -k t + step_size max(0, strength - t / gamma),    below gamma * strength of the sign of
        h(k) = 1 / ||d x / (d + k)|| - (k + step_size / gamma) / (step_size * strength),

    which is concave in k, as 1 / ||d x / (d + k)|| is. As t grows, k falls from infinity to 0, so that F falls, rises,
    and falls again at most: its minima are where the largest root k of h is (or 0, where ||d x|| <= step_size *
    strength, as then F begins by rising) and, if ||x|| > gamma * strength, x itself. Of these two the better one is
    taken, whether or not the problem is convex (it is if all d_j > step_size / gamma). With theta = step_size *
    strength / k the first is that of the soft threshold, but for ||x / (a + theta)|| = 1 / (1 + theta / (gamma *
    strength)); of the two objectives, x's is the lower iff ||sqrt(gamma d / step_size) (x - z)|| > gamma * strength -
    ||z||.
    """
    step = _each_group(step_size, x)
    reach = gamma * _each_group(strength, x)
    z, theta = _weighted(x, d, step * reach / gamma, bend=1 / reach)
    cost = group_norm((d * spread(gamma / step, x)).sqrt_().mul_(x - z))
    better = (group_norm(x) > reach) & (cost > reach - group_norm(z)) | (theta == torch.inf)
    return torch.where(spread(better, x), x, z)


def _weighted(x: Tensor, d: Tensor, threshold: Tensor, bend: Tensor | None) -> tuple[Tensor, Tensor]:
    """z = x theta / (a + theta), a = threshold / d, and theta: 0 where z = 0, infinite where z = x.

    theta is the smallest root of h(theta) = 1 / ||x / (a + theta)|| - 1 - bend * theta, where bend, one for each group,
    is 0 if left out. h is concave (1 / ||x / (a + theta)|| is that of More & Sorensen 1983 for trust regions), so that
    from two points on the left of the root the secant never passes it: the first is 0, where h = threshold / ||d x|| -
    1, and the second the root of the tangent there for bend = 0. A secant step takes four passes over the weights,
    where one of Newton's takes seven for as many steps.
    """
    if x.numel() == 0:
        return x.clone(), threshold
    y, u = d * x, torch.empty_like(x)
    # Scaled by the sum, neither 1e-20 nor 1e15 leaves the range of float32 when squared.
    scale = group_sum(torch.abs(y, out=u))
    squares = y.div_(spread(_one_for_zero(scale), x)).square_()
    mass = _one_for_zero(group_sum(squares))
    norm = scale * mass.sqrt()
    slope = group_sum(squares.mul_(d)) / mass
    a = torch.div(spread(threshold, x), d, out=squares)

    h = threshold / _one_for_zero(norm) - 1
    dead = norm <= threshold
    # Dead groups may start anywhere but below 0, where they would never seem to have converged.
    start = torch.where(dead, torch.ones_like(norm), (norm - threshold) / slope)
    theta = _climb(x, a, start, h, bend, u)
    theta = torch.where(dead, torch.zeros_like(theta), theta)
    whole = theta == torch.inf
    # Any number in place of 1 would keep NaN away. In this order a threshold of 0 gives x to the bit.
    finite = torch.where(dead | whole, torch.ones_like(theta), theta)
    z = torch.div(spread(torch.where(dead, theta, finite), x), a.add_(spread(finite, x)), out=a).mul_(x)
    return z if bend is None else torch.where(spread(whole, x), x, z), theta


def _climb(x: Tensor, a: Tensor, theta: Tensor, h_before: Tensor, bend: Tensor | None, u: Tensor) -> Tensor:
    """The root of h by secants from 0 and `theta`, see `_weighted`; infinite where h falls again before it meets 0.

    u: memory of the shape of x.
    """
    epsilon = torch.finfo(x.dtype).eps
    before = torch.zeros_like(theta)
    for _ in range(CUDA_ROOT_STEPS if x.is_cuda else MAX_ROOT_STEPS):
        torch.div(x, torch.add(a, spread(theta, x), out=u), out=u)
        h = group_sum(u.square_()).rsqrt_() - 1
        if bend is not None:
            h = h - bend * theta
        rise = h - h_before
        increment = torch.where(rise > 0, -h * (theta - before) / rise, 0).clamp_(min=0)
        before, h_before = theta, h
        theta = theta + increment
        if bend is not None:
            theta = torch.where((rise <= 0) & (h < -100 * epsilon), torch.inf, theta)
        # The error after a secant step is below the product of the last two increments.
        if not x.is_cuda and not bool((increment > 0.1 * epsilon**0.5 * theta).any()):
            break
    return theta


def group_sum(x: Tensor) -> Tensor:
    """(outer, groups, inner) -> (groups,)."""
    return (x[0] if x.shape[0] == 1 else x.sum(dim=0)).sum(dim=1)


def group_norm(x: Tensor) -> Tensor:
    """(outer, groups, inner) -> (groups,): Euclidean norms, safe from overflow and underflow of the squares."""
    # torch's own norm over an outer dimension is 20 times as slow as a sum.
    scale = group_sum(x.abs())
    return scale * group_sum((x / spread(_one_for_zero(scale), x)).square_()).sqrt_()


def spread(values: Tensor, x: Tensor) -> Tensor:
    """(groups,) -> a shape that broadcasts over x, (outer, groups, inner)."""
    shaped = values.view(1, -1, 1)
    # To broadcast over a kernel's 9 elements takes a short inner loop each time; written out, one loop takes a row.
    return shaped.expand(1, -1, x.shape[2]).contiguous() if 1 < x.shape[2] < 64 else shaped


def _one_for_zero(x: Tensor) -> Tensor:
    return torch.where(x == 0, torch.ones_like(x), x)


def _each_group(value: Tensor | float, x: Tensor) -> Tensor:
    """A number, or one for each group, as a tensor (groups,)."""
    if isinstance(value, Tensor):
        return value.to(x.device, x.dtype).expand(x.shape[1])
    return torch.full((x.shape[1],), value, dtype=x.dtype, device=x.device)
