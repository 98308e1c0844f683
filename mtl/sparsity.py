"""How sparse a network is: the share of its groups, and of its weights, that are exactly zero."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mtl.config import Penalised
from mtl.networks.backbones import DilatedResNet
from mtl.proximal.groups import group_view
from mtl.proximal.layers import GroupedLayer, grouped_layers


@dataclass(frozen=True)
class LayerSparsity:
    """Counts for one layer: its groups, which are its input channels or attention heads, and its weights."""

    name: str
    groups: int
    zero_groups: int
    weights: int
    weights_in_zero_groups: int  # which structured removal frees
    zero_weights: int


@dataclass(frozen=True)
class Sparsity:
    """Shares are fractions 0..1 of the layers' groups and weights; 0 for a network without layers that have groups."""

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
    """Sparsity of the convolutions and linear layers of `model.backbone`; of all if so asked, or without a backbone.

    Raises BadInput, with the layer's name, for a layer whose groups are not known, such as a Conv1d: a measurement
    without it would not be of the network.
    """
    layers = []
    for name, weight, layout in penalised_layers(model, penalised):
        zero = group_view(weight, "input_channels", layout) == 0
        outer, groups, inner = zero.shape
        zero_groups = int(zero.all(dim=2).all(dim=0).sum())
        weights = zero_groups * outer * inner
        layers.append(LayerSparsity(name, groups, zero_groups, zero.numel(), weights, zero_weights=int(zero.sum())))
    return Sparsity(tuple(layers))


@torch.no_grad()
def surviving_groups(model: nn.Module, penalised: Penalised = "backbone") -> dict[str, np.ndarray]:
    """For each of these layers, in the network's order, which of its groups are not zero: (groups,) bool.

    Raises BadInput as `measure_sparsity` does.
    """
    return {
        name: (group_view(weight, "input_channels", layout) != 0).any(dim=2).any(dim=0).cpu().numpy()
        for name, weight, layout in penalised_layers(model, penalised)
    }


def penalised_layers(model: nn.Module, penalised: Penalised) -> Iterator[GroupedLayer]:
    """Those of `model.backbone`, by their names in it, and with "all" then the others; all of a model without one.

    Heads on one of our ResNets are penalised in their convolutions alone, as in the trials that there are.
    Raises BadInput as `measure_sparsity` does.
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        yield from grouped_layers(model)
        return
    yield from grouped_layers(backbone)
    if penalised == "all":
        for layer in grouped_layers(model):
            linear = layer.weight.ndim == 2 and isinstance(backbone, DilatedResNet)
            if not layer.name.startswith("backbone.") and not linear:
                yield layer
