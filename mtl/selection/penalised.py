"""The groups of weights that a penalty with a target makes zero, and what is left of the cost or of the groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from mtl.optimizer import ProximalAdamW
from mtl.proximal.blocks import AdamMetric
from mtl.proximal.groups import GroupKind
from mtl.selection.groups import ChannelGroups, Group, Layer

Weighting = Literal["size", "sqrt_macs", "macs"]


@dataclass(frozen=True)
class Weights:
    """Groups of one shape: a tensor whose groups are of a kind that `mtl.proximal.groups` knows, and their metric.

    factor: of the penalty's strength.
    """

    tensor: Tensor
    metric: AdamMetric | None
    factor: float


class Penalised(Protocol):
    """Lists of groups that a penalty makes zero; some of them may be gone for good.

    kind: of the tensors of `read`. alive: for each list (groups,) bool, on the CPU; see `keep`.
    """

    kind: GroupKind

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
    """The input channels of each convolution of the backbone, as group sparsity counts them."""

    kind: GroupKind = "input_channels"

    def __init__(self, parameters: Sequence[tuple[Tensor, float]], optimizer: ProximalAdamW) -> None:
        """parameters: of plain convolutions, with their factors of the strength."""
        self._parameters, self._optimizer = list(parameters), optimizer
        self.keep([torch.ones(parameter.shape[1], dtype=torch.bool) for parameter, _ in parameters])

    @property
    def step_size(self) -> float:
        return rate(self._optimizer)

    def read(self) -> list[Weights]:
        return [Weights(p.detach(), self._optimizer.metric_of(p), factor) for p, factor in self._parameters]

    def write(self, weights: Sequence[Weights]) -> None:
        """They are the parameters themselves."""

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
        for (parameter, _), alive in zip(self._parameters, self._alive, strict=True):
            parameter[:, ~alive.to(parameter.device)] = 0

    @property
    def _count(self) -> int:
        return sum(len(one) for one in self._alive)


@dataclass(frozen=True)
class _Part:
    """A parameter's share in a list of coupled groups: for each channel some slices along `dim`.

    index: (channels, slices), -1 where a channel has fewer slices than another.
    """

    parameter: nn.Parameter
    dim: int
    index: Tensor

    @cached_property
    def there(self) -> Tensor:
        return self.index >= 0

    def gather(self, values: Tensor, padding: float) -> Tensor:
        """(channels, elements): a tensor of the parameter's shape by channels."""
        rows = values.movedim(self.dim, 0).flatten(1) if values.ndim > 1 else values[:, None]
        found = rows[self.index.clamp(min=0)]
        return torch.where(self.there[..., None], found, padding).flatten(1)

    def scatter(self, values: Tensor) -> None:
        """The inverse of `gather`, into the parameter."""
        data = self.parameter.data
        rows = values.view(*self.index.shape, -1)[self.there]
        moved = data.movedim(self.dim, 0)
        moved[self.index[self.there]] = rows.view(-1, *moved.shape[1:])


class CoupledGroups:
    """Channels that must go together, each as one group: the weights of all layers that read it, and the scales γ by
    which batch norms write it.

    So each weight is in one group alone, and the proximal operator is exact and closed. A group at zero is a channel
    that nobody reads: compaction removes it from all layers, those that write it too. The weights that write it are in
    the groups of the channels that they read.

    Strengths have a factor for each list: √(what a channel's removal saves now, in multiply-accumulates, for each of
    its weights), 1 on average, so that the penalty on a channel is in proportion to √MACs in place of √size.
    """

    kind: GroupKind = "rows"

    def __init__(
        self, groups: ChannelGroups, optimizer: ProximalAdamW, weighting: Weighting = "sqrt_macs", scales: bool = True
    ) -> None:
        self._groups, self._optimizer, self._weighting = groups, optimizer, weighting
        self._full = groups.macs()
        self._parts = [_parts(group, scales) for group in groups.groups]

    @property
    def alive(self) -> list[Tensor]:
        return self._groups.alive

    @property
    def step_size(self) -> float:
        return rate(self._optimizer)

    def read(self) -> list[Weights]:
        tensors = [torch.cat([part.gather(part.parameter.data, 0.0) for part in one], dim=1) for one in self._parts]
        factors = self._factors([tensor.shape[1] for tensor in tensors])
        metrics = [self._metric(parts) for parts in self._parts]
        return [Weights(*one) for one in zip(tensors, metrics, factors, strict=True)]

    def write(self, weights: Sequence[Weights]) -> None:
        for one, parts in zip(weights, self._parts, strict=True):
            sizes = [
                part.index.shape[1] * (part.parameter[0].numel() if part.dim == 0 else part.parameter[:, 0].numel())
                for part in parts
            ]
            for part, values in zip(parts, one.tensor.split(sizes, dim=1), strict=True):
                part.scatter(values)

    def keep(self, alive: Sequence[Tensor]) -> None:
        self._groups.keep(alive)

    def remove(self, number: int, index: int) -> None:
        self._groups.remove(number, index)

    def left(self) -> float:
        return self._groups.macs() / self._full

    def saving(self, number: int) -> float:
        return self._groups.saving(number) / self._full

    def least(self, number: int) -> int:
        return 1

    def clear(self) -> None:
        self._groups.clear()

    def _metric(self, parts: Sequence[_Part]) -> AdamMetric | None:
        found = [self._optimizer.metric_of(part.parameter) for part in parts]
        moments = [
            part.gather(metric.second_moment / metric.bias_correction, 1.0)
            for part, metric in zip(parts, found, strict=True)
            if metric
        ]
        if len(moments) < len(parts):
            return None
        return AdamMetric(torch.cat(moments, dim=1), 1.0, max(metric.eps for metric in found if metric))

    def _factors(self, sizes: Sequence[int]) -> list[float]:
        if self._weighting == "size":
            return [1.0] * len(sizes)
        power = 0.5 if self._weighting == "sqrt_macs" else 1.0
        factors = [self._groups.saving(n) ** power / size**0.5 for n, size in enumerate(sizes)]
        return [factor * len(sizes) / sum(factors) for factor in factors]


def rate(optimizer: ProximalAdamW) -> float:
    """The learning rate of the network's parameters, which is the length of a proximal step."""
    return float(optimizer.param_groups[0]["lr"])


def _parts(group: Group, scales: bool) -> list[_Part]:
    parts = []
    for member in group.members:
        reads = member.kind == "in" and isinstance(member.module, Layer)
        weight = member.module.weight
        if isinstance(weight, nn.Parameter) and (reads or (scales and member.kind == "norm")):
            parts.append(_Part(weight, 1 if reads else 0, _by_channel(member.index, member.group, group.size)))
    return parts


def _by_channel(index: Tensor, channel: Tensor, count: int) -> Tensor:
    """(count, slices): for each channel its indices, filled up with -1."""
    lists: list[list[int]] = [[] for _ in range(count)]
    for i, c in zip(index.tolist(), channel.tolist(), strict=True):
        lists[c].append(i)
    longest = max(map(len, lists))
    return torch.tensor([one + [-1] * (longest - len(one)) for one in lists], device=index.device)
