"""The Nash bargaining solution between tasks, by Newton's method."""

import torch
from torch import Tensor
from torchjd.aggregation import Weighting
from torchjd.linalg import PSDMatrix

RIDGE = 1e-5
TOLERANCE = 1e-10
MAX_STEPS = 200


class NashBargaining(Weighting[PSDMatrix]):
    """(T, T) Gramian G of the tasks' gradients -> (T,) weights a > 0 with (G a)_t a_t alike for all t.

    Navon et al. 2022 (arXiv 2202.01017), equation 2, is G a = 1 / a, the minimum of the convex function
    a.G a / 2 - sum_t log a_t. Damped Newton steps reach it from anywhere, as the function is self-concordant (Nesterov
    2004, section 4.1). There the combined gradient has length sqrt(T), whatever the lengths of the tasks' gradients;
    here it gets the length that their plain sum would have if they were orthogonal.

    Gradients that cancel each other have no solution: a ridge on the cosines, larger than their rounding in float32,
    keeps the weights finite. A task whose gradient is 0 gets weight 0 and does not bargain.
    """

    def forward(self, gramian: Tensor, /) -> Tensor:
        norms = gramian.diagonal().clamp(min=0).sqrt()
        active = norms > 0
        cosines = (gramian / norms.outer(norms))[active][:, active]
        count = len(cosines)
        shares = _minimum(cosines + RIDGE * torch.eye(count, dtype=gramian.dtype))
        weights = torch.zeros_like(norms)
        weights[active] = shares / norms[active] * (norms.norm() / count**0.5)
        return weights


def _minimum(matrix: Tensor) -> Tensor:
    """Where x.M x / 2 - sum log x is smallest, for a positive definite M."""
    x = torch.ones(len(matrix), dtype=matrix.dtype)
    for _ in range(MAX_STEPS):
        slope = matrix @ x - 1 / x
        step = torch.linalg.solve(matrix + torch.diag(x**-2), slope)
        decrement = float((slope @ step).clamp(min=0).sqrt())
        if decrement < TOLERANCE:
            break
        # Within 1/4 of the minimum, in the function's own metric, whole steps converge quadratically.
        x = x - step / (1 if decrement < 0.25 else 1 + decrement)
    return x
