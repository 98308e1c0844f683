"""Models in states that compaction has to cope with: zero channels and filters, and norms that have seen something."""

import torch
from torch import nn


def randomise(model: nn.Module, seed: int, dead_scales: float = 0.1) -> None:
    """Give batch norms random statistics, and scales of both signs of which a share is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                shape = module.running_mean.shape
                module.running_mean.copy_(0.3 * torch.randn(shape, generator=generator))
                module.running_var.copy_(0.2 + torch.rand(shape, generator=generator))
                dead = torch.rand(shape, generator=generator) < dead_scales
                module.weight.copy_(torch.where(dead, 0, torch.randn(shape, generator=generator)))
                module.bias.copy_(torch.randn(shape, generator=generator))


def zero_channels(model: nn.Module, share: float, seed: int) -> None:
    """Make about so large a share of all convolutions' input channels zero, in one layer of ten all of them."""
    generator = torch.Generator().manual_seed(seed)
    _zero(model, share, generator, dim=1)


def zero_filters(model: nn.Module, share: float, seed: int) -> None:
    """Make about so large a share of all convolutions' filters zero."""
    generator = torch.Generator().manual_seed(seed + 1)
    _zero(model, share, generator, dim=0)


def _zero(model: nn.Module, share: float, generator: torch.Generator, dim: int) -> None:
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                whole = share > 0 and float(torch.rand((), generator=generator)) < 0.1
                zero = torch.rand(module.weight.shape[dim], generator=generator) < (1.0 if whole else share)
                module.weight.index_fill_(dim, zero.nonzero().flatten(), 0.0)
