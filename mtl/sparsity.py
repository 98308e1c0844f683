"""How sparse a network is: the share of its groups, and of its weights, that are exactly zero."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mtl.config import Penalised
from mtl.proximal.groups import group_rows, plain_convolutions


@dataclass(frozen=True)
class LayerSparsity:
    """Counts for one convolution: its input-channel groups and its weights."""

    name: str
    groups: int
    zero_groups: int
    weights: int
    weights_in_zero_groups: int  # which structured removal frees
    zero_weights: int


@dataclass(frozen=True)
class Sparsity:
    """Shares are fractions 0..1 of the convolutions' groups and weights; 0 for a network without convolutions."""

    layers: tuple[LayerSparsity, ...]

    @property
    def group_sparsity(self) -> float:
        """Zero groups / groups."""
        return sum(x.zero_groups for x in self.layers) / (sum(x.groups for x in self.layers) or 1)

    @property
    def parameter_sparsity(self) -> float:
        """Zero weights / weights. Under a group penalty these are the weights in zero groups."""
        return sum(x.zero_weights for x in self.layers) / (sum(x.weights for x in self.layers) or 1)


@torch.no_grad()
def measure_sparsity(model: nn.Module, penalised: Penalised = "backbone") -> Sparsity:
    """Sparsity of the convolutions of `model.backbone`; of all of them if so asked, or where there is no backbone.

    Raises BadInput, with the layer's name, for a grouped, depthwise or transposed convolution: it has other groups, and
    a measurement without it would not be of the network.
    """
    layers = []
    for name, module in penalised_convolutions(model, penalised):
        zero = group_rows(module.weight) == 0
        groups, size = zero.shape
        zero_groups = int(zero.all(dim=1).sum())
        layers.append(
            LayerSparsity(name, groups, zero_groups, zero.numel(), zero_groups * size, zero_weights=int(zero.sum()))
        )
    return Sparsity(tuple(layers))


@torch.no_grad()
def surviving_groups(model: nn.Module, penalised: Penalised = "backbone") -> dict[str, np.ndarray]:
    """For each of these convolutions, in the network's order, which of its groups are not zero: (C,) bool.

    Raises BadInput as `measure_sparsity` does.
    """
    return {
        name: (group_rows(module.weight) != 0).any(dim=1).cpu().numpy()
        for name, module in penalised_convolutions(model, penalised)
    }


def penalised_convolutions(model: nn.Module, penalised: Penalised) -> Iterator[tuple[str, nn.Conv2d]]:
    """Those of `model.backbone`, by their names in it, and with "all" then the others; all of a model without one.

    Raises BadInput as `measure_sparsity` does.
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        yield from plain_convolutions(model)
        return
    yield from plain_convolutions(backbone)
    if penalised == "all":
        for name, module in plain_convolutions(model):
            if not name.startswith("backbone."):
                yield name, module
