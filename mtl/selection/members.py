"""What goes with a channel: the places of layers' and norms' tensors that belong to it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeGuard

import torch
from torch import Tensor, nn

Layer = nn.Conv2d | nn.ConvTranspose2d | nn.Linear
Kind = Literal["out", "in", "norm"]
Side = Literal["out", "in"]


class Place(NamedTuple):
    """The channels that a layer or norm writes, or those that a layer reads.

    Of a grouped or depthwise convolution only those that it writes count: it loses whole groups, and what they read.
    """

    name: str
    module: nn.Module
    side: Side

    @property
    def weight_dimension(self) -> int:
        """In which the channels are in the layer's weight."""
        transposed = isinstance(self.module, nn.ConvTranspose2d) and self.module.groups == 1
        return int((self.side == "in") != transposed)

    def tensors(self) -> Iterator[tuple[str, Tensor, int]]:
        """Those of the module that have these channels, by name, and the dimension in which they have them."""
        names = ["weight"] if self.side == "in" else ["weight", "bias", "running_mean", "running_var"]
        for name in names:
            tensor = getattr(self.module, name, None)
            if isinstance(tensor, Tensor):
                yield name, tensor, self.weight_dimension if name == "weight" else 0

    @property
    def size(self) -> int:
        """How many channels there are."""
        if isinstance(self.module, Layer):
            return channels(self.module)[int(self.side == "in")]
        count = self.module.num_features
        assert isinstance(count, int)
        return count


@dataclass(frozen=True)
class Member:
    """A layer's part in a group.

    kind: whether the group's channels are what the layer writes (out), what it reads (in), or what a norm scales.
    index: (k,) the layer's own channels; group: (k,) for each of them the group's channel, 0 to size - 1; both on the
    layer's device.
    """

    name: str
    module: nn.Module
    kind: Kind
    index: Tensor
    group: Tensor

    @property
    def place(self) -> Place:
        return Place(self.name, self.module, "in" if self.kind == "in" else "out")

    def weight_rows(self) -> Tensor:
        """(channels of the layer, weights of each): a view of the weight where its layout allows it."""
        weight = self.module.weight
        assert isinstance(weight, Tensor)
        return weight.movedim(self.place.weight_dimension, 0).flatten(1)


@dataclass(frozen=True)
class Group:
    """`size` channels, each of which goes in all its members or in none.

    A channel is a single one of most layers; of a grouped convolution it is all that one group reads and writes, and of
    an attention a head.
    """

    size: int
    members: tuple[Member, ...]
    heads: bool = False

    @property
    def device(self) -> torch.device:
        return self.members[0].index.device

    @cached_property
    def layers(self) -> list[tuple[Member, Tensor]]:
        """Convolutions and linear layers, each with (size,) how many of its channels belong to each of the group's."""
        layers = [member for member in self.members if isinstance(member.module, Layer)]
        return [(member, torch.bincount(member.group.cpu(), minlength=self.size)) for member in layers]


def channels(layer: nn.Module) -> tuple[int, int]:
    """What a layer writes and reads."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        return layer.out_channels, layer.in_channels
    assert isinstance(layer, nn.Linear)
    return layer.out_features, layer.in_features


def in_groups(module: nn.Module) -> TypeGuard[nn.Conv2d | nn.ConvTranspose2d]:
    """Whether it is a convolution with groups, as a depthwise one has them."""
    return isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.groups > 1
