"""A ResNet-50 with the zeros that proximal training leaves, without the training.

`SURVIVAL` is what four trials left of a ResNet-50 of width 8: recipe `rooms`, segmentation and depth, seed 0, 8 epochs,
at the strengths that its keys' comments give; the share of input channels that are not zero in the convolutions of each
block. To reach a given group sparsity exactly, the trial nearest to it is taken and all its shares
are moved alike on the logit scale; layers that are wholly dead or alive stay so. Which channels die is random, but the
convolutions that read one residual stream agree to some extent, as they do in those trials: there the correlation
between two readers' indicators is 0.1 to 0.7, mostly 0.3 to 0.5.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl.networks.backbones import DilatedResNet
from mtl.sparsity import measure_sparsity

Shares = list[dict[str, list[float]]]
# By group sparsity: for each stage the blocks' first, second and third convolutions, and the shortcut's.
SURVIVAL: dict[float, Shares] = {
    0.446: [  # strength 0.0025
        {"conv1": [1.0, 1.0, 1.0], "conv2": [1.0, 1.0, 1.0], "conv3": [1.0, 1.0, 1.0], "downsample": [1.0]},
        {
            "conv1": [1.0, 1.0, 1.0, 0.95],
            "conv2": [1.0, 1.0, 1.0, 1.0],
            "conv3": [1.0, 1.0, 1.0, 1.0],
            "downsample": [1.0],
        },
        {
            "conv1": [0.94, 0.27, 0.34, 0.48, 0.22, 0.34],
            "conv2": [0.97, 0.59, 0.34, 0.38, 0.41, 0.38],
            "conv3": [0.78, 0.5, 0.28, 0.34, 0.38, 0.5],
            "downsample": [0.95],
        },
        {"conv1": [0.55, 0.64, 0.7], "conv2": [0.28, 0.19, 0.11], "conv3": [0.12, 0.08, 0.09], "downsample": [0.51]},
    ],
    0.628: [  # strength 0.006
        {"conv1": [1.0, 1.0, 1.0], "conv2": [1.0, 1.0, 1.0], "conv3": [1.0, 1.0, 1.0], "downsample": [1.0]},
        {
            "conv1": [1.0, 0.8, 0.2, 0.44],
            "conv2": [0.69, 0.88, 0.88, 0.69],
            "conv3": [0.94, 0.88, 0.56, 0.5],
            "downsample": [1.0],
        },
        {
            "conv1": [0.33, 0.62, 0.48, 0.3, 0.85, 1.0],
            "conv2": [0.31, 0.12, 0.19, 0.09, 0.19, 0.91],
            "conv3": [0.16, 0.19, 0.12, 0.03, 0.06, 0.09],
            "downsample": [0.8],
        },
        {"conv1": [0.0, 0.0, 0.16], "conv2": [0.0, 0.0, 0.03], "conv3": [0.0, 0.0, 0.02], "downsample": [0.43]},
    ],
    0.715: [  # strength 0.009
        {"conv1": [1.0, 1.0, 1.0], "conv2": [1.0, 1.0, 1.0], "conv3": [1.0, 1.0, 1.0], "downsample": [1.0]},
        {
            "conv1": [0.94, 0.27, 0.42, 0.48],
            "conv2": [1.0, 0.94, 0.62, 0.62],
            "conv3": [0.94, 0.69, 0.25, 0.31],
            "downsample": [1.0],
        },
        {
            "conv1": [0.53, 0.52, 0.79, 0.0, 0.0, 0.0],
            "conv2": [0.19, 0.09, 0.25, 0.0, 0.0, 0.0],
            "conv3": [0.16, 0.09, 0.16, 0.0, 0.0, 0.0],
            "downsample": [0.72],
        },
        {"conv1": [1.0, 0.01, 0.0], "conv2": [0.41, 0.0, 0.0], "conv3": [0.03, 0.0, 0.0], "downsample": [0.12]},
    ],
    0.871: [  # strength 0.016
        {"conv1": [1.0, 0.97, 0.72], "conv2": [1.0, 1.0, 0.25], "conv3": [1.0, 0.88, 0.88], "downsample": [1.0]},
        {
            "conv1": [0.66, 0.67, 0.0, 0.41],
            "conv2": [0.75, 0.44, 0.0, 0.69],
            "conv3": [0.31, 0.19, 0.0, 0.25],
            "downsample": [0.94],
        },
        {
            "conv1": [0.39, 0.02, 0.0, 0.0, 0.0, 0.0],
            "conv2": [1.0, 0.06, 0.0, 0.0, 0.0, 0.0],
            "conv3": [0.16, 0.09, 0.0, 0.0, 0.0, 0.0],
            "downsample": [0.22],
        },
        {"conv1": [0.0, 0.0, 0.0], "conv2": [0.0, 0.0, 0.0], "conv3": [0.0, 0.0, 0.0], "downsample": [0.04]},
    ],
}
AGREEMENT = 0.5  # correlation of two readers' scores; that of their indicators comes out at about a third


def zeroed_resnet50(sparsity: float, pattern: str, seed: int = 0) -> DilatedResNet:
    """The backbone in eval mode with that group sparsity; its norms have seen random images.

    pattern: "trained", as above, or "even": every layer the same share of channels, no two readers in agreement.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = DilatedResNet("resnet50")
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and name != "conv1"}
    if pattern == "even":
        shares = dict.fromkeys(layers, 1 - sparsity)
        agreement = 0.0
    else:
        shares = _shares(layers, sparsity)
        agreement = AGREEMENT
    common: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, layer in layers.items():
            channels = layer.in_channels
            scores = torch.randn(channels, generator=generator)
            stream = _stream(name)
            if stream:
                shared = common.setdefault(stream, torch.randn(channels, generator=generator))
                scores = math.sqrt(agreement) * shared + math.sqrt(1 - agreement) * scores
            dead = scores.argsort()[: channels - round(shares[name] * channels)]
            layer.weight.index_fill_(1, dead, 0.0)
        for name, module in model.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                # A branch adds little to its stream in trained networks; random ones in which it adds much multiply
                # rounding errors block by block.
                module.weight.uniform_(*((0.05, 0.2) if name.endswith("bn3") else (0.5, 1.5)))
                module.bias.normal_(0, 0.2)
                module.momentum = 1.0  # the statistics are those of the one batch below
        model.train()(random_images(8, 128, seed))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    reached = measure_sparsity(model).group_sparsity
    assert abs(reached - sparsity) < 0.005, reached
    return model.eval()


def random_images(count: int, size: int, seed: int) -> Tensor:
    """(count, 3, size, size) with structure of every scale, as photographs have.

    White noise would not do: its features hardly vary from pixel to pixel, and norms would divide by next to nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.zeros(count, 3, size, size)
    for side in (1, 2, 4, 8, 16, 32, 64, 128):
        noise = torch.randn(count, 3, side, side, generator=generator)
        images += F.interpolate(noise, (size, size), mode="bilinear")
    return images / images.std()


def _stream(name: str) -> str:
    """The residual stream that a convolution reads, by the stage that writes it; empty for one inside a block."""
    stage, block, layer = name.split(".")[:3]
    if layer in ("conv2", "conv3"):
        return ""
    return stage if int(block) else f"before {stage}"


def _shares(layers: dict[str, nn.Conv2d], sparsity: float) -> dict[str, float]:
    nearest = SURVIVAL[min(SURVIVAL, key=lambda known: abs(known - sparsity))]
    base = {}
    for name in layers:
        stage, block, layer = name.split(".")[:3]
        base[name] = nearest[int(stage[-1]) - 1][layer][int(block)]
    groups = sum(layer.in_channels for layer in layers.values()) + 3

    def moved(shift: float) -> dict[str, float]:
        return {n: p if p in (0.0, 1.0) else 1 / (1 + (1 / p - 1) * math.exp(-shift)) for n, p in base.items()}

    low, high = -10.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        alive = 3 + sum(share * layers[n].in_channels for n, share in moved(middle).items())
        low, high = (middle, high) if alive < (1 - sparsity) * groups else (low, middle)
    return moved(low)
