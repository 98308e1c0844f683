"""Brightness, contrast, saturation and hue of images, each image changed on its own and all of a batch at once.

Every one of them is linear in red, green and blue, so that together they are one 3 x 3 matrix and an offset an image.
torchvision's `adjust_*` take one factor for a whole batch, and a detour through HSV for the hue: called image by image
they take seven times as long.
"""

import functools
import math

import torch
from torch import Tensor

from mtl.datasets.batches.same_bits import same_bits

# Factors lie within 1 ± these. Two fifths, the usual choice (MoCo v2's, Chen et al. 2020, arXiv 2003.04297), are
# 1.2 stops between the brightest and the darkest: what automatic exposure varies by within one room.
BRIGHTNESS = 0.4
CONTRAST = 0.4
SATURATION = 0.4
# In turns, to either side: MoCo v2's again, and small, as colour is what tells some classes apart.
HUE = 0.1

# NTSC's luma, and the plane of the two chroma axes in which a turn changes the hue and a factor the saturation.
YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
RGB = torch.linalg.inv(YIQ)


def jitter_colour(images: Tensor, draws: Tensor) -> Tensor:
    """Images (N, 3, H, W) in [0, 1] in other light, again in [0, 1] and channels last in memory.

    draws: (N, 4) in [0, 1], each image's place between the weakest and the strongest brightness, contrast, saturation
    and hue; 0.5 changes nothing.
    """
    brightness, contrast, saturation, hue = ((2 * draws - 1) * _constants(draws.device)[0]).unbind(dim=1)
    return adjust_colour(images, 1 + brightness, 1 + contrast, 1 + saturation, hue)


@functools.lru_cache(maxsize=16)
def _constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The strengths, `YIQ` and `RGB` on a device; once there they need not be sent for each batch."""
    with torch.inference_mode(False):
        strengths = torch.tensor([BRIGHTNESS, CONTRAST, SATURATION, 2 * math.pi * HUE])
        return strengths.to(device), YIQ.to(device), RGB.to(device)


def adjust_colour(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """Images (N, 3, H, W) in [0, 1] with the factors of brightness, contrast and saturation and the turn of the hue.

    brightness, contrast, saturation: (N,), 1 changes nothing. hue: (N,) in radians, a turn of the chroma, from red
    towards yellow, that leaves the luma as it is. In this order, and what then lies outside [0, 1] is clamped.

    A contrast of 0 is the image's mean luma, a saturation of 0 each pixel's. The result is channels last in memory.
    """
    count, _, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1).reshape(count, height * width, 3)
    _, to_yiq, to_rgb = _constants(images.device)
    chroma = torch.zeros(count, 3, 3, device=images.device)
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1] = chroma[:, 2, 2] = saturation * hue.cos()
    chroma[:, 1, 2] = saturation * hue.sin()
    chroma[:, 2, 1] = -chroma[:, 1, 2]
    matrix = (brightness * contrast)[:, None, None] * (to_rgb @ chroma @ to_yiq)
    mean_luma = pixels.mean(dim=1) @ to_yiq[0]
    # Grey is on the axis that saturation and hue turn about, and so may be added last.
    grey = (brightness * (1 - contrast) * mean_luma).view(count, 1, 1)
    by_planes = pixels.device.type == "cpu" and same_bits(_planes_of_noise, _pixels_of_noise, tuple(pixels.shape))
    adjusted = (mixed_by_planes if by_planes else mixed)(pixels, matrix, grey).clamp_(0, 1).contiguous()
    return adjusted.view(count, height, width, 3).permute(0, 3, 1, 2)


def mixed(pixels: Tensor, matrix: Tensor, grey: Tensor) -> Tensor:
    """Pixels (N, P, 3) times the matrix (N, 3, 3) of their image, plus its grey (N, 1, 1)."""
    return torch.baddbmm(grey, pixels, matrix.transpose(1, 2))


def mixed_by_planes(pixels: Tensor, matrix: Tensor, grey: Tensor) -> Tensor:
    """The same with the factors in the other order, whose long side MKL likes better: half the time."""
    return torch.baddbmm(grey, matrix, pixels.transpose(1, 2)).transpose(1, 2)


def _planes_of_noise(noise: Tensor, place: float) -> Tensor:
    return mixed_by_planes(noise, *_noisy_light(noise, place))


def _pixels_of_noise(noise: Tensor, place: float) -> Tensor:
    return mixed(noise, *_noisy_light(noise, place))


def _noisy_light(noise: Tensor, place: float) -> tuple[Tensor, Tensor]:
    count = len(noise)
    matrix = torch.linspace(-0.5, 1 + place, 9 * count).view(count, 3, 3)
    return matrix, torch.linspace(-place, 1, count).view(count, 1, 1)
