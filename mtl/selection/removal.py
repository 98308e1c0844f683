"""Channels that are gone leave the network while it trains: what is left trains on, faster, to the same numbers."""

import copy
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from mtl.networks.attention import attention_parts
from mtl.optimizer import ProximalAdamW
from mtl.selection.groups import ChannelGroups
from mtl.selection.members import Place, in_groups

# What a channel that is gone has in the whole network: its weights and its norm's are 0, so it gives 0 with these.
EMPTY = {"running_var": 1.0}


class Removal:
    """Takes channels out of a model and its optimizer's state, and gives the whole model back.

    A channel whose every weight is zero, and whose batch norms give zero, changes no other number and gets no gradient
    (see `ChannelGroups.clear`). So training on without it comes to the same weights, but for the order of summation,
    and for dropout, which draws other numbers for fewer channels.

    Attributes:
        kept: for each tensor of the model's state that has lost channels, by name, which places of its first and of its
            second dimension are left: (k,) of the whole tensor's, in rising order; None for all.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
        self._template: nn.Module | None = None
        self.kept: dict[str, list[Tensor | None]] = {}

    @torch.no_grad()
    def remove(self, groups: ChannelGroups, optimizer: ProximalAdamW) -> list[Tensor]:
        """Take out what the groups have lost; they are then groups of what is left.

        Returns for each group (size,) bool, which of its channels stayed.
        """
        if self._template is None:
            self._template = copy.deepcopy(self._model).requires_grad_(False)
        left = groups.places_left()
        for place, places in left.items():
            self._take(place, places, optimizer)
        return groups.forget_removed(left)

    def whole(self) -> nn.Module:
        """The model as it was made, with zeros where channels are gone."""
        if self._template is None:
            return self._model
        self._template.load_state_dict(self.whole_state(self._model.state_dict()))
        return self._template

    def whole_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of what is left as one of the whole model."""
        return {name: self._whole_tensor(name, tensor) for name, tensor in state.items()}

    def _whole_tensor(self, name: str, tensor: Tensor) -> Tensor:
        if name not in self.kept:
            return tensor.clone()
        whole = tensor.new_full(self._shapes[name], EMPTY.get(name.rpartition(".")[2], 0.0))
        first, second = self.kept[name]
        if second is None:
            whole[first] = tensor
        elif first is None:
            whole[:, second] = tensor
        else:
            whole[first[:, None], second] = tensor
        return whole

    def _take(self, place: Place, places: Tensor, optimizer: ProximalAdamW) -> None:
        for kind, tensor, dimension in list(place.tensors()):
            left = self.kept.setdefault(f"{place.name}.{kind}", [None, None])
            before = left[dimension]
            left[dimension] = places if before is None else before[places]
            smaller = _selected(tensor, dimension, places)
            if isinstance(tensor, nn.Parameter):
                # A new parameter, because autograd may remember the shape of the old one.
                smaller = nn.Parameter(smaller)
                _replace(tensor, smaller, optimizer, dimension, places)
            setattr(place.module, kind, smaller)
        _tell_channels(place, len(places))
        if in_groups(place.module):
            _tell_optimizer(place.module, optimizer)
        self._tell_attention(place, len(places))

    def _tell_attention(self, place: Place, count: int) -> None:
        """Have the attention whose queries, keys and values the layer makes know how many heads are left."""
        owner = self._model.get_submodule(place.name.rpartition(".")[0])
        if (
            place.side == "out"
            and not isinstance(owner, nn.MultiheadAttention)
            and (parts := attention_parts(owner))
            and getattr(place.module, "weight", None) is parts.qkv_weight
        ):
            owner.num_heads, owner.attn_dim = count // (3 * parts.head_size), count // 3  # type: ignore[assignment]


def _tell_optimizer(module: nn.Conv2d | nn.ConvTranspose2d, optimizer: ProximalAdamW) -> None:
    """A convolution has fewer groups: so has its weight's layout."""
    for group in optimizer.param_groups:
        for i, (p, layout) in enumerate(zip(group["params"], group["layouts"], strict=True)):
            if p is module.weight and layout.groups > 1:
                group["layouts"][i] = replace(layout, groups=module.groups)


def _replace(old: Tensor, new: Tensor, optimizer: ProximalAdamW, dimension: int, places: Tensor) -> None:
    """Have the optimizer go on with the new parameter, in the old one's place and with what is left of its state."""
    for group in optimizer.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    for name, value in optimizer.state.pop(old, {}).items():
        same = isinstance(value, Tensor) and value.ndim and value.shape == old.shape
        optimizer.state[new][name] = _selected(value, dimension, places) if same else value


def _selected(tensor: Tensor, dimension: int, places: Tensor) -> Tensor:
    chosen = tensor.detach().index_select(dimension, places)
    return chosen.contiguous(memory_format=torch.channels_last) if chosen.ndim == 4 else chosen


def _tell_channels(place: Place, count: int) -> None:
    """Have the module's own account of its channels be true."""
    module = place.module
    if in_groups(module):
        module.in_channels = module.in_channels * count // module.out_channels
        module.groups = module.groups * count // module.out_channels
    kinds = ("in_channels", "in_features") if place.side == "in" else ("out_channels", "out_features", "num_features")
    for kind in kinds:
        if hasattr(module, kind):
            setattr(module, kind, count)
