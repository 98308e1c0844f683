"""What a depth map costs: plain and logarithmic errors, each over the pixels that have a depth.

Predictions and targets are (N, H, W) float32, in metres or in fractions of an image's largest depth; `valid` is
(N, H, W) bool. Each loss is 0, with a gradient of 0, where no pixel is valid.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

# Below this `log_depth` is not the logarithm. Indoor depths are larger, in metres (a camera sees nothing nearer) and in
# fractions of the largest (NYU-v2: 0.7 m of 10 m). The slope is at most 1 / FLOOR, so that no pixel dominates a step.
FLOOR = 0.05
SMALLEST_SQUARE = 1e-12  # the root of smaller mean squares, whose slope is infinite at 0, is not taken


def log_depth(depth: Tensor) -> Tensor:
    """ln(depth), and below `FLOOR` its tangent there, which is ln(FLOOR) + depth / FLOOR - 1.

    A head may give any number, and a depth of 0 or less has no logarithm. With a clamp it would have no gradient to
    become positive; the tangent has one everywhere. The function rises strictly, and predictions and targets both go
    through it, so that the loss of a pixel is smallest where they agree, however small the depth.
    """
    return torch.where(depth > FLOOR, depth.clamp(min=FLOOR).log(), depth / FLOOR + (math.log(FLOOR) - 1))


def l1(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute error over the valid pixels of the batch."""
    return ((prediction - target).abs() * valid).sum() / valid.sum().clamp(min=1)


def mse(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean squared error over the valid pixels of the batch."""
    return ((prediction - target).square() * valid).sum() / valid.sum().clamp(min=1)


def log_rmse(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """sqrt(mean d^2) of each image, d = ln prediction - ln target over its n valid pixels; the mean over images."""
    square, _ = _log_moments(prediction, target, valid)
    return _mean_over_images(square.clamp(min=SMALLEST_SQUARE).sqrt(), valid)


def scale_invariant(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """mean d^2 - (mean d)^2 / 2 of each image, d as in `log_rmse`; the mean over images.

    Equation 4 of Eigen et al. 2014 (arXiv 1406.2283) with their weight of 1/2: an error that is a factor common to the
    whole image counts half.
    """
    square, mean = _log_moments(prediction, target, valid)
    return _mean_over_images(square - 0.5 * mean.square(), valid)


def _log_moments(prediction: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) and (N,): of each image the mean of d^2 and of d, 0 where it has no valid pixel."""
    difference = (log_depth(prediction) - log_depth(target)) * valid
    count = valid.sum(dim=(1, 2)).clamp(min=1)
    return difference.square().sum(dim=(1, 2)) / count, difference.sum(dim=(1, 2)) / count


def _mean_over_images(losses: Tensor, valid: Tensor) -> Tensor:
    """The mean of (N,) losses over the images that have a valid pixel."""
    counted = valid.flatten(1).any(dim=1)
    return (losses * counted).sum() / counted.sum().clamp(min=1)


DEPTH_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "l1": l1,
    "mse": mse,
    "log_rmse": log_rmse,
    "scale_invariant": scale_invariant,
}
PLAIN = ("l1", "mse")  # those that take no logarithm, and so are for disparity too, which is 0 far away
