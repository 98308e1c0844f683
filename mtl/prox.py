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
    u_squared = torch.where(norm > 0, y / norm, torch.zeros_like(y)).square_()
    e = d / d.amax(dim=1, keepdim=True)
    rho = norm / threshold
    alive = rho > 1
    # Rows that end at zero are given a harmless equation, so that no infinity or NaN arises in them.
    rho = torch.where(alive & rho.isfinite(), rho, torch.full_like(rho, 2.0))
    u_squared = torch.where(alive, u_squared, torch.full_like(u_squared, 1 / x.shape[1]))
    s = rho - 1
    tolerance = 4 * torch.finfo(x.dtype).eps
    steps = CUDA_NEWTON_STEPS if x.is_cuda else MAX_NEWTON_STEPS
    for _ in range(steps):
        share = (1 + e * s).reciprocal_()
        term = u_squared * share * share
        psi = term.sum(dim=1, keepdim=True)
        chi = term.mul_(share).mul_(e).sum(dim=1, keepdim=True)
        increment = (rho - psi.rsqrt()) * psi * psi.sqrt() / chi
        s = s + increment.clamp(min=0)
        if not x.is_cuda and bool((increment <= tolerance * s).all()):
            break
    es = e * s
    z = torch.where(alive, x * (es / (es + 1)), torch.zeros_like(x))
    return torch.where(norm / threshold == torch.inf, x, z)


def row_norm(x: Tensor) -> Tensor:
    """(groups, elements) -> (groups, 1): Euclidean norms, safe from overflow and underflow of the squares."""
    largest = x.abs().amax(dim=1, keepdim=True)
    scaled = torch.where(largest > 0, x / largest, torch.zeros_like(x))
    return largest * scaled.square_().sum(dim=1, keepdim=True).sqrt_()
