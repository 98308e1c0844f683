"""The layers of a network that have groups, and which of their weights each group is."""

import copy
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mtl.errors import BadInput
from mtl.networks.attention import attention_parts, projected_heads
from mtl.proximal.groups import PLAIN, Layout, group_view, zero_groups_

GROUPED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
ALLOWED = "Conv2d, ConvTranspose2d, Linear, and MultiheadAttention with one matrix for queries, keys and values"
# Layers with weights that read channels, in which no group is known. Embeddings, norms and scales read none.
OTHERS = (
    nn.Conv1d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose3d,
    nn.Bilinear,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)


class GroupedLayer(NamedTuple):
    """A weight whose input channels are groups; `name` is the layer's in its network."""

    name: str
    weight: nn.Parameter
    layout: Layout


def grouped_layers(network: nn.Module) -> Iterator[GroupedLayer]:
    """The convolutions and linear layers of a network, in its order, each weight once.

    Of an attention's output projection a group is a head. The matrix by which a torch MultiheadAttention makes queries,
    keys and values is `NAME.in_proj`. Raises BadInput, with the layer's name, for one whose groups are not known.
    """
    heads, seen = projected_heads(network), set[int]()
    for name, module in network.named_modules():
        for layer in _own_layers(name, module, heads):
            if id(layer.weight) not in seen:
                seen.add(id(layer.weight))
                yield layer


def layer_layout(module: nn.Module) -> Layout:
    """Of a convolution or a linear layer that is no attention's projection."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return Layout(groups=module.groups, transposed=isinstance(module, nn.ConvTranspose2d))
    return PLAIN


def _own_layers(name: str, module: nn.Module, heads: dict[Tensor, int]) -> Iterator[GroupedLayer]:
    said = f"layer {name or type(module).__name__}"
    if parts := attention_parts(module) if isinstance(module, nn.MultiheadAttention) else None:
        assert isinstance(parts.qkv_weight, nn.Parameter)
        yield GroupedLayer(f"{name}.in_proj" if name else "in_proj", parts.qkv_weight, PLAIN)
    elif isinstance(module, GROUPED):
        # One that is computed from others has its zeros nowhere.
        if not isinstance(module.weight, nn.Parameter) or parametrize.is_parametrized(module):
            raise BadInput(f"{said}: {type(module).__name__} with a computed weight; allowed: a parameter of its own")
        block = heads.get(module.weight, 1)
        layout = Layout(block=block) if block > 1 else layer_layout(module)
        if module.weight.numel() and not _reads_its_groups(module, layout):
            raise BadInput(
                f"{said}: {type(module).__name__}, which still reads an input channel whose weights are all zero; "
                f"allowed: {ALLOWED}, each with its weight used as it is"
            )
        yield GroupedLayer(name, module.weight, layout)
    elif isinstance(module, OTHERS):
        raise BadInput(f"{said}: {type(module).__name__}; allowed: {ALLOWED}")


def _reads_its_groups(module: nn.Module, layout: Layout) -> bool:
    """Whether a layer with a forward of its own ignores an input channel whose weights are zero.

    Weights that are standardised, for example, are not zero any more.
    """
    kind = next(known for known in GROUPED if isinstance(module, known))
    weight = module.weight
    assert isinstance(weight, Tensor)
    if type(module).forward is kind.forward or weight.is_meta:
        return True
    generator = torch.Generator().manual_seed(0)
    tried = copy.deepcopy(module).cpu().float()
    with torch.no_grad():
        for parameter in tried.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        tried_weight = tried.weight
        assert isinstance(tried_weight, Tensor)
        count = group_view(tried_weight, "input_channels", layout).shape[1]
        zero_groups_(tried_weight, torch.arange(count) == 0, layout)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            sides = [d * (k - 1) + 1 for d, k in zip(module.dilation, module.kernel_size, strict=True)]
            x = torch.randn(1, module.in_channels, *sides, generator=generator)
        else:
            assert isinstance(module, nn.Linear)
            x = torch.randn(1, module.in_features, generator=generator)
        other = x.clone()
        other[:, : layout.block] += 1
        return torch.allclose(tried(x), tried(other))
