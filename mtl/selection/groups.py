"""Channels that must go together: of all layers that write and read one channel, heads and residual streams included.

A channel of a residual stream is written by several layers and read by several: only if all of them let it go is
anything saved. Torch-Pruning's dependency graph finds these groups (Fang et al. 2023, arXiv 2301.12900).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch_pruning as tp  # type: ignore[import-untyped]
from torch import Tensor, nn

from mtl.networks.measurement import evaluating

Layer = nn.Conv2d | nn.Linear
Kind = Literal["out", "in", "norm"]


@dataclass(frozen=True)
class Member:
    """A layer's part in a group.

    kind: whether the group's channels are what the layer writes (out), what it reads (in), or what a batch norm scales.
    index: (k,) the layer's own channels; group: (k,) for each of them the group's channel, 0 to size - 1.
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


class ChannelGroups:
    """The groups of a model, which of their channels are left, and what they cost.

    Attributes:
        alive: for each group (size,) bool, on the CPU; set by the owner.
    """

    def __init__(self, model: nn.Module, images: Tensor, outputs: Sequence[nn.Module]) -> None:
        """images: (N, 3, H, W) on the model's device; outputs: layers whose output channels stay: users read them."""
        self._pixels = _output_pixels(model, images[:1])
        self.groups = tuple(_find_groups(model, images[:1], outputs))
        self.alive = [torch.ones(group.size, dtype=torch.bool) for group in self.groups]

    def channels(self) -> dict[nn.Module, tuple[int, int]]:
        """Of each layer how many channels it still writes and reads."""
        left = {layer: [*_channels(layer)] for layer in self._pixels}
        for group, alive in zip(self.groups, self.alive, strict=True):
            for member in group.members:
                if isinstance(member.module, Layer):
                    left[member.module][member.kind == "in"] -= int((~alive[member.group]).sum())
        return {layer: (writes, reads) for layer, (writes, reads) in left.items()}

    def macs(self) -> int:
        """Multiply-accumulates of one image, of convolutions and linear layers with the channels that are left."""
        return sum(writes * reads * self._macs_a_pair(layer) for layer, (writes, reads) in self.channels().items())

    def smallest_macs(self) -> int:
        """Those with one channel left in each group."""
        before = self.alive
        self.alive = [torch.arange(group.size) == 0 for group in self.groups]
        least = self.macs()
        self.alive = before
        return least

    def savings(self) -> Tensor:
        """(groups,) what one channel less of each group saves now, in multiply-accumulates."""
        channels = self.channels()
        saved = torch.zeros(len(self.groups), dtype=torch.float64)
        for number, group in enumerate(self.groups):
            for member in group.members:
                if isinstance(member.module, Layer):
                    writes, reads = channels[member.module]
                    others = writes if member.kind == "in" else reads
                    share = len(member.index) / group.size
                    saved[number] += share * others * self._macs_a_pair(member.module)
        return saved

    def _macs_a_pair(self, layer: nn.Module) -> int:
        """Of one channel read and one written."""
        kernel = layer.kernel_size if isinstance(layer, nn.Conv2d) else ()
        return self._pixels[layer] * int(torch.tensor(kernel or [1]).prod())

    @torch.no_grad()
    def clear(self) -> None:
        """Set to zero all that belongs to channels that are gone, so that compaction removes it exactly."""
        for group, alive in zip(self.groups, self.alive, strict=True):
            if alive.all():
                continue
            for member in group.members:
                gone = member.index[~alive[member.group]]
                weight, bias = member.module.weight, member.module.bias
                assert isinstance(weight, Tensor)
                gone = gone.to(weight.device)
                if member.kind == "in":
                    weight[:, gone] = 0
                else:
                    weight[gone] = 0
                    if isinstance(bias, Tensor):
                        bias[gone] = 0


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
                index, group = torch.tensor(part.idxs), torch.tensor(part.root_idxs)
                members.append(Member(names[module], module, kind, index, group))
            groups.append(Group(len(parts[0].idxs), tuple(members)))
    return groups


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
