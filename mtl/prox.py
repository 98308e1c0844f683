"""Proximal operators: pure functions, no state.

Rows are groups: `x` has shape (groups, elements). Thresholds are in the units of `d * x`: the step size times the
strength times sqrt(elements). A threshold of zero is the identity; a group at zero stays at zero.

Sources: Deleu & Bengio 2021 (arXiv 2102.03869) for the weighted operator; the Newton iteration on phi^(-1/2) is the
one used for trust-region problems (More & Sorensen 1983), here monotone because phi^(-1/2) is concave.
"""

import torch
from torch import Tensor

# Newton's error squares at each step once it is near; the cap is for rows whose metric spans many decades.
MAX_NEWTON_STEPS = 40
# On CUDA a test for convergence would stop the device, so that a fixed number is run there.
CUDA_NEWTON_STEPS = 16


def soft_threshold(x: Tensor, threshold: Tensor | float) -> Tensor:
    """argmin_z  1/2 (z - x)^2 + threshold |z|, elementwise: sign(x) * max(0, |x| - threshold)."""
    return x.sign() * (x.abs() - threshold).clamp(min=0)


def group_soft_threshold(x: Tensor, threshold: Tensor | float) -> Tensor:
    """argmin_z  1/2 ||z - x||^2 + threshold ||z||, a row at a time: max(0, 1 - threshold / ||x||) x, and 0 at x = 0."""
    norm = row_norm(x)
    return torch.where(norm > threshold, x * (1 - threshold / norm), torch.zeros_like(x))


def weighted_group_soft_threshold(x: Tensor, d: Tensor, threshold: Tensor | float) -> Tensor:
    """argmin_z  1/2 sum_j d_j (z_j - x_j)^2 + threshold ||z||, a row at a time.

    x, d: (groups, elements), d > 0. threshold: a number or (groups, 1), >= 0.

    z = 0 iff ||d x|| <= threshold; otherwise z_j = x_j d_j theta / (d_j theta + threshold) with theta = ||z|| the root
    of phi(theta) = sum_j (d_j x_j)^2 / (d_j theta + threshold)^2 = 1.

    With s = d_max theta / threshold, e = d / d_max, u = d x / ||d x|| and rho = ||d x|| / threshold the equation is
    psi(s)^(-1/2) = rho, psi(s) = sum_j u_j^2 / (1 + e_j s)^2: free of scale, so that neither 1e-20 nor 1e15 overflows.
    psi^(-1/2) is increasing and concave in s >= 0, and at s = rho - 1 it is not above rho (because e <= 1): Newton from
    there climbs to the root without ever passing it.
    """
    if x.numel() == 0:
        return x.clone()
    y = d * x
    norm = row_norm(y)
    rho = norm / threshold
    if x.is_cuda:
        # To know which rows live would stop the device: all are solved, and the dead overwritten.
        return torch.where(rho > 1, _shrink(x, d, y / norm, rho), torch.zeros_like(x))
    alive = (rho > 1).squeeze(1)
    z = torch.zeros_like(x)
    z[alive] = _shrink(x[alive], d[alive], y[alive] / norm[alive], rho[alive])
    return z


def _shrink(x: Tensor, d: Tensor, u: Tensor, rho: Tensor) -> Tensor:
    """x e s / (1 + e s), with s the root of psi(s)^(-1/2) = rho; rows with rho <= 1 come out as anything."""
    e = d / d.amax(dim=1, keepdim=True)
    # The error after a step is of the order of that step's square: one this small leaves less than eps.
    tolerance = 0.1 * torch.finfo(x.dtype).eps ** 0.5
    # Beyond 1e12 the cubes below would underflow in float32, and a row loses less than its rounding.
    target = rho.clamp(min=1, max=1e12)
    s = target - 1
    for _ in range(CUDA_NEWTON_STEPS if x.is_cuda else MAX_NEWTON_STEPS):
        share = (e * s).add_(1).reciprocal_()
        term = (u * share).square_()
        psi = term.sum(dim=1, keepdim=True)
        chi = term.mul_(share).mul_(e).sum(dim=1, keepdim=True)
        increment = ((target - psi.rsqrt()) * psi * psi.sqrt() / chi).clamp_(min=0)
        s = s + increment
        if not x.is_cuda and not bool((increment > tolerance * s).any()):
            break
    es = e * s
    return torch.where(rho == torch.inf, x, x * (es / (es + 1)))


def row_norm(x: Tensor) -> Tensor:
    """(groups, elements) -> (groups, 1): Euclidean norms, safe from overflow and underflow of the squares."""
    largest = x.abs().amax(dim=1, keepdim=True)
    scaled = torch.where(largest > 0, x / largest, torch.zeros_like(x))
    return largest * scaled.square_().sum(dim=1, keepdim=True).sqrt_()
