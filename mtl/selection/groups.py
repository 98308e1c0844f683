"""Channels that must go together: of all layers that write and read one channel, heads and residual streams included.

A channel of a residual stream is written by several layers and read by several: only if all of them let it go is
anything saved. Torch-Pruning's dependency graph finds these groups (Fang et al. 2023, arXiv 2301.12900).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import torch
import torch_pruning as tp  # type: ignore[import-untyped]
from torch import Tensor, nn

from mtl.errors import BadInput
from mtl.networks.measurement import evaluating
from mtl.networks.smaller import ONE_CHANNEL, rounded_up

Layer = nn.Conv2d | nn.Linear
Kind = Literal["out", "in", "norm"]


@dataclass(frozen=True)
class Member:
    """A layer's part in a group.

    kind: whether the group's channels are what the layer writes (out), what it reads (in), or what a batch norm scales.
    index: (k,) the layer's own channels; group: (k,) for each of them the group's channel, 0 to size - 1; both on the
    layer's device.
    """

    name: str
    module: nn.Module
    kind: Kind
    index: Tensor
    group: Tensor


@dataclass(frozen=True)
class Group:
    """`size` channels, each of which goes in all its members or in none."""

    size: int
    members: tuple[Member, ...]

    @property
    def device(self) -> torch.device:
        return self.members[0].index.device

    @cached_property
    def layers(self) -> list[tuple[Member, Tensor]]:
        """Convolutions and linear layers, each with (size,) how many of its channels belong to each of the group's."""
        layers = [member for member in self.members if isinstance(member.module, Layer)]
        return [(member, torch.bincount(member.group.cpu(), minlength=self.size)) for member in layers]


class Place(NamedTuple):
    """A dimension of a layer's or norm's tensors: 0, what it writes, or 1, what it reads."""

    name: str
    module: nn.Module
    dimension: int


class ChannelGroups:
    """The groups of a model, which of their channels are left, and what they cost.

    Attributes:
        alive: for each group (size,) bool, on the CPU: which of its channels are left. `keep` and `remove` change it.
        kept: the same, of the groups as they were found: `forget_removed` makes the groups themselves smaller.
    """

    def __init__(self, model: nn.Module, images: Tensor, outputs: Sequence[nn.Module]) -> None:
        """images: (N, 3, H, W) on the model's device; outputs: layers whose output channels stay: users read them."""
        pixels = _output_pixels(model, images[:1])
        self.groups = tuple(_find_groups(model, images[:1], outputs))
        # Of one channel written and one read: multiply-accumulates of one image.
        self._macs = {layer: count * _kernel_size(layer) for layer, count in pixels.items()}
        self.keep([torch.ones(group.size, dtype=torch.bool) for group in self.groups])
        self.kept = [alive.clone() for alive in self.alive]

    def keep(self, alive: Sequence[Tensor]) -> None:
        """Have these channels left, (size,) bool for each group, and no others."""
        self.alive = [one.clone() for one in alive]
        self._left = {layer: list(_channels(layer)) for layer in self._macs}
        for group, one in zip(self.groups, self.alive, strict=True):
            for member, count in group.layers:
                self._left[member.module][member.kind == "in"] -= int((count * ~one).sum())

    def keep_used(self) -> None:
        """Have those channels left that some layer writes with weights that are not zero, and one of each group."""
        used = []
        for group in self.groups:
            alive = torch.zeros(group.size, dtype=torch.bool)
            for member in group.members:
                if member.kind == "out":
                    weight = member.module.weight
                    assert isinstance(weight, Tensor)
                    writes = weight.detach().flatten(1).ne(0).any(1)
                    alive[member.group[writes[member.index]].cpu()] = True
            alive[0] |= not alive.any()
            used.append(alive)
        self.keep(used)

    def remove(self, number: int, channel: int) -> None:
        """Take one channel of a group away."""
        self.alive[number][channel] = False
        for member, count in self.groups[number].layers:
            self._left[member.module][member.kind == "in"] -= int(count[channel])

    def macs(self) -> int:
        """Multiply-accumulates of one image, of convolutions and linear layers with the channels that are left."""
        return sum(writes * reads * self._macs[layer] for layer, (writes, reads) in self._left.items())

    def smallest_macs(self) -> int:
        """Those with one channel left in each group."""
        before = self.alive
        self.keep([torch.arange(group.size) == 0 for group in self.groups])
        least = self.macs()
        self.keep(before)
        return least

    def saving(self, number: int) -> float:
        """What one channel less of a group saves now, in multiply-accumulates."""
        group, saved = self.groups[number], 0.0
        for member, _ in group.layers:
            others = self._left[member.module][member.kind != "in"]
            saved += len(member.index) / group.size * others * self._macs[member.module]
        return saved

    def places_left(self) -> dict[Place, Tensor]:
        """Of the layers and norms that have lost channels: the places of their tensors that are left, (k,)."""
        left: dict[Place, Tensor] = {}
        for group, alive in zip(self.groups, self.alive, strict=True):
            if alive.all():
                continue
            for member in group.members:
                dimension = int(member.kind == "in")
                key = Place(member.name, member.module, dimension)
                weight = member.module.weight
                assert isinstance(weight, Tensor)
                mask = left.setdefault(key, weight.new_ones(weight.shape[dimension], dtype=torch.bool))
                mask[member.index[~alive.to(member.group.device)[member.group]]] = False
        return {key: mask.nonzero().flatten() for key, mask in left.items()}

    def forget_removed(self, places: Mapping[Place, Tensor]) -> list[Tensor]:
        """Be the groups of a model whose layers have lost all but these places, which `places_left` gave.

        Returns for each group (size,) bool, which of its channels stayed.
        """
        stayed, groups = self.alive, []
        for group, alive in zip(self.groups, stayed, strict=True):
            members = []
            for member in group.members:
                here = alive.to(member.group.device)[member.group]
                found = places.get(Place(member.name, member.module, int(member.kind == "in")))
                index = member.index[here] if found is None else torch.searchsorted(found, member.index[here])
                number = (alive.cumsum(0) - 1).to(member.group.device)[member.group[here]]
                members.append(replace(member, index=index, group=number))
            groups.append(Group(int(alive.sum()), tuple(members)))
        self.groups = tuple(groups)
        for first, alive in zip(self.kept, stayed, strict=True):
            first[first.clone()] = alive
        self.keep([torch.ones(group.size, dtype=torch.bool) for group in self.groups])
        return stayed

    @torch.no_grad()
    def clear(self) -> None:
        """Set to zero all that belongs to channels that are gone, so that compaction removes it exactly."""
        for group, alive in zip(self.groups, self.alive, strict=True):
            if alive.all():
                continue
            for member in group.members:
                gone = member.index[~alive.to(member.group.device)[member.group]]
                weight, bias = member.module.weight, member.module.bias
                assert isinstance(weight, Tensor)
                if member.kind == "in":
                    weight[:, gone] = 0
                else:
                    weight[gone] = 0
                    if isinstance(bias, Tensor):
                        bias[gone] = 0


def check_target(groups: ChannelGroups, target: float) -> None:
    """Raise BadInput for a share of the multiply-accumulates that is less than what one channel in each group costs."""
    if (least := groups.smallest_macs() / groups.macs()) > target:
        raise BadInput(f"target_macs = {target:g}; allowed: {rounded_up(least):g} or more, what {ONE_CHANNEL} costs")


def _find_groups(model: nn.Module, images: Tensor, outputs: Sequence[nn.Module]) -> list[Group]:
    names = {module: name for name, module in model.named_modules()}
    with evaluating(model), torch.enable_grad():
        graph = tp.DependencyGraph().build_dependency(model, example_inputs=images)
        found = graph.get_all_groups(ignored_layers=list(outputs), root_module_types=[nn.Conv2d, nn.Linear])
        groups = []
        for parts in found:
            members = []
            for part in parts:
                module = part.dep.target.module
                if isinstance(module, nn.BatchNorm2d):
                    kind: Kind = "norm"
                elif isinstance(module, Layer):
                    kind = "out" if graph.is_out_channel_pruning_fn(part.dep.handler) else "in"
                else:
                    continue
                index, group = (torch.tensor(one, device=images.device) for one in (part.idxs, part.root_idxs))
                members.append(Member(names[module], module, kind, index, group))
            groups.append(Group(len(parts[0].idxs), tuple(members)))
    return groups


def _kernel_size(layer: nn.Module) -> int:
    return math.prod(layer.kernel_size) if isinstance(layer, nn.Conv2d) else 1


def _channels(layer: nn.Module) -> tuple[int, int]:
    """What a layer writes and reads."""
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels, layer.in_channels
    assert isinstance(layer, nn.Linear)
    return layer.out_features, layer.in_features


@torch.no_grad()
def _output_pixels(model: nn.Module, images: Tensor) -> dict[nn.Module, int]:
    """Of each convolution and linear layer the positions that it computes for one image."""
    pixels: dict[nn.Module, int] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pixels[layer] = output[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1

    hooks = [layer.register_forward_hook(note) for layer in model.modules() if isinstance(layer, Layer)]
    try:
        with evaluating(model):
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return pixels
