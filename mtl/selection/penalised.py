"""The groups of weights that a penalty with a target makes zero, and what is left of the cost or of the groups."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from mtl.optimizer import ProximalAdamW
from mtl.proximal.blocks import AdamMetric
from mtl.proximal.groups import dense, group_count, group_view, like, set_groups_, zero_groups_
from mtl.proximal.layers import GroupedLayer
from mtl.selection.groups import ChannelGroups
from mtl.selection.members import Group, in_groups


@dataclass(frozen=True)
class Weights:
    """Groups of one shape, as the input channels tensor[:, g] of a weight, and their metric; None is the Euclidean one.

    factor: of the penalty's strength.
    """

    tensor: Tensor
    metrics: list[AdamMetric] | None
    factor: float


class Penalised(Protocol):
    """Lists of groups that a penalty makes zero.

    alive: for each list (groups,) bool, on the CPU: which of them are left. `keep` and `remove` change it.
    """

    @property
    def channels(self) -> ChannelGroups | None:
        """What can be taken out of the network once its groups are gone; None where they are no whole channels."""

    @property
    def alive(self) -> list[Tensor]: ...

    @property
    def step_size(self) -> float: ...

    def read(self) -> list[Weights]:
        """The weights as they are now; of tensors that the proximal step may change."""

    def write(self, weights: Sequence[Weights]) -> None:
        """Put back what was read."""

    def keep(self, alive: Sequence[Tensor]) -> None:
        """Count these groups as left, (groups,) bool for each list, and no others."""

    def remove(self, number: int, index: int) -> None:
        """Count one more group of a list as gone."""

    def left(self) -> float:
        """The share of the cost, or of the groups, that is left."""

    def saving(self, number: int) -> float:
        """By how much the next group of this list reduces it."""

    def least(self, number: int) -> int:
        """How many groups of a list must stay."""

    def clear(self) -> None:
        """Set to zero what is gone, and all that belongs to it."""


class BackboneGroups:
    """The groups of each penalised layer, as group sparsity counts them."""

    def __init__(self, layers: Sequence[GroupedLayer], factors: Sequence[float], optimizer: ProximalAdamW) -> None:
        """factors: of the strength, for each layer."""
        self._layers, self._factors, self._optimizer = list(layers), list(factors), optimizer
        counts = [group_count(layer.weight, "input_channels", layer.layout) for layer in layers]
        self.keep([torch.ones(count, dtype=torch.bool) for count in counts])

    @property
    def channels(self) -> None:
        return None

    @property
    def step_size(self) -> float:
        return rate(self._optimizer)

    def read(self) -> list[Weights]:
        metrics = self._optimizer.metrics_of([layer.weight for layer in self._layers])
        return [
            Weights(_by_group(layer.weight, layer), [_metric_by_group(metrics[i], layer)] if metrics else None, factor)
            for i, (layer, factor) in enumerate(zip(self._layers, self._factors, strict=True))
        ]

    def write(self, weights: Sequence[Weights]) -> None:
        """Into those that are not the parameters themselves."""
        for layer, one in zip(self._layers, weights, strict=True):
            set_groups_(layer.weight.detach(), one.tensor, "input_channels", layer.layout)

    @property
    def alive(self) -> list[Tensor]:
        return self._alive

    def keep(self, alive: Sequence[Tensor]) -> None:
        self._alive = [one.clone() for one in alive]

    def remove(self, number: int, index: int) -> None:
        self._alive[number][index] = False

    def left(self) -> float:
        return sum(int(one.sum()) for one in self._alive) / self._count

    def saving(self, number: int) -> float:
        return 1 / self._count

    def least(self, number: int) -> int:
        return 0

    @torch.no_grad()
    def clear(self) -> None:
        for layer, alive in zip(self._layers, self._alive, strict=True):
            zero_groups_(layer.weight, ~alive.to(layer.weight.device), layer.layout)

    @property
    def _count(self) -> int:
        return sum(len(one) for one in self._alive)


def _by_group(values: Tensor, layer: GroupedLayer) -> Tensor:
    """(outer, groups, inner) of a tensor of the layer's shape."""
    return group_view(like(values.detach(), dense(layer.weight)), "input_channels", layer.layout)


def _metric_by_group(metric: AdamMetric, layer: GroupedLayer) -> AdamMetric:
    return AdamMetric(_by_group(metric.second_moment, layer), metric.bias_correction, metric.eps)


@dataclass(frozen=True)
class _Part:
    """What a weight that reads channels, or a batch norm's scale, has in a list of coupled groups.

    index: (channels, slices) the weight's own channels, -1 where a channel has fewer than another. dimension: of the
    weight, in which it has them.
    """

    parameter: nn.Parameter
    index: Tensor
    dimension: int

    @cached_property
    def there(self) -> Tensor:
        return self.index >= 0

    @cached_property
    def whole(self) -> bool:
        """Whether the weight's channels are those of the list, in the same order."""
        return self.index.shape[1] == 1 and self.index.flatten().tolist() == list(
            range(self.parameter.shape[self.dimension])
        )

    @cached_property
    def elements(self) -> int:
        """Of a group."""
        return self.index.shape[1] * self.parameter.numel() // self.parameter.shape[self.dimension]

    def gather(self, values: Tensor, padding: float) -> Tensor:
        """(elements, channels): a tensor of the parameter's shape by channels."""
        # A view of a weight that is channels_last.
        columns = values.movedim(self.dimension, -1).reshape(-1, values.shape[self.dimension])
        if self.whole:
            return columns
        found = torch.where(self.there, columns[:, self.index.clamp(min=0)], padding)
        return found.movedim(2, 1).flatten(0, 1)

    def scatter(self, values: Tensor) -> None:
        """The inverse of `gather`, into the parameter."""
        columns = self.parameter.detach().movedim(self.dimension, -1)
        if self.whole:
            columns.copy_(values.view(columns.shape))
        else:
            slices = values.view(*columns.shape[:-1], *reversed(self.index.shape)).transpose(-1, -2)
            columns[..., self.index[self.there]] = slices[..., self.there]


class CoupledGroups:
    """Channels that must go together, each as one group: the weights of all layers that read it, and the scales γ by
    which batch norms write it. Of a depthwise or grouped convolution these are the weights that do both.

    So each weight is in one group alone, and the proximal operator is exact and closed. A group at zero is a channel
    that nobody reads: compaction removes it from all layers, those that write it too. The weights that write it are in
    the groups of the channels that they read.

    Strengths have a factor for each list, 1 on average, so that the penalty on a channel is in proportion to what its
    removal saves now, in multiply-accumulates, in place of √size: the price that a channel must be worth is its cost.
    """

    def __init__(self, groups: ChannelGroups, optimizer: ProximalAdamW) -> None:
        self.channels, self._optimizer = groups, optimizer
        self._full = groups.macs()
        self._parts = [_parts(group) for group in groups.groups]

    @property
    def alive(self) -> list[Tensor]:
        return self.channels.alive

    @property
    def step_size(self) -> float:
        return rate(self._optimizer)

    def read(self) -> list[Weights]:
        tensors = [torch.cat([part.gather(part.parameter.detach(), 0.0) for part in one]) for one in self._parts]
        factors = self._factors([len(tensor) for tensor in tensors])
        found = self._optimizer.metrics_of([part.parameter for one in self._parts for part in one])
        metrics = iter(found) if found else None
        return [
            Weights(tensor, [_joined(parts, metrics)] if metrics else None, factor)
            for tensor, parts, factor in zip(tensors, self._parts, factors, strict=True)
        ]

    def write(self, weights: Sequence[Weights]) -> None:
        for one, parts in zip(weights, self._parts, strict=True):
            for part, values in zip(parts, one.tensor.split([part.elements for part in parts]), strict=True):
                part.scatter(values)

    def keep(self, alive: Sequence[Tensor]) -> None:
        self.channels.keep(alive)

    def remove(self, number: int, index: int) -> None:
        self.channels.remove(number, index)

    def left(self) -> float:
        return self.channels.macs() / self._full

    def saving(self, number: int) -> float:
        return self.channels.saving(number) / self._full

    def least(self, number: int) -> int:
        return 1

    def clear(self) -> None:
        self.channels.clear()

    def _factors(self, sizes: Sequence[int]) -> list[float]:
        # The penalty itself has the √size.
        factors = [self.channels.saving(number) / math.sqrt(size) for number, size in enumerate(sizes)]
        return [factor * len(sizes) / sum(factors) for factor in factors]


def _joined(parts: Sequence[_Part], metrics: Iterator[AdamMetric]) -> AdamMetric:
    """The metric of groups from those of their parts, which are next in `metrics`."""
    own = [next(metrics) for _ in parts]
    first = own[0]
    moments = []
    for part, metric in zip(parts, own, strict=True):
        moment = part.gather(metric.second_moment, 1.0)
        # All parameters have taken as many steps, unless one has been without a gradient.
        same = metric.bias_correction == first.bias_correction
        moments.append(moment if same else moment * (first.bias_correction / metric.bias_correction))
    return AdamMetric(torch.cat(moments), first.bias_correction, first.eps)


def rate(optimizer: ProximalAdamW) -> float:
    """The learning rate of the network's parameters, which is the length of a proximal step."""
    return float(optimizer.param_groups[0]["lr"])


def _parts(group: Group) -> list[_Part]:
    parts = []
    for member in group.members:
        weight, place = member.module.weight, member.place
        reads = member.kind == "in" or (member.kind == "out" and in_groups(member.module))
        if isinstance(weight, nn.Parameter) and (reads or member.kind == "norm"):
            dimension = 0 if member.kind == "norm" else place.weight_dimension
            parts.append(_Part(weight, _by_channel(member.index, member.group, group.size), dimension))
    return parts


def _by_channel(index: Tensor, channel: Tensor, count: int) -> Tensor:
    """(count, slices): for each channel its indices, filled up with -1."""
    lists: list[list[int]] = [[] for _ in range(count)]
    for i, c in zip(index.tolist(), channel.tolist(), strict=True):
        lists[c].append(i)
    longest = max(map(len, lists))
    return torch.tensor([one + [-1] * (longest - len(one)) for one in lists], device=index.device)
