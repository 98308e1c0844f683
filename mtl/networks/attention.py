"""Self-attention by its parts: which modules are one, and where their heads are.

A head is `head_size` neighbouring inputs of the output projection. With these weights at zero nothing reads the head,
and its queries, keys and values can go too.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn


class AttentionParts(NamedTuple):
    """Of softmax(scale * Q K^T) V, projected. The weights are the module's own, not copies.

    qkv_weight: (3 * heads * head_size, in), rows of all queries, then all keys, then all values, each head after head;
    qkv_bias: the same rows, or None. projection: (out, heads * head_size).
    """

    qkv_weight: Tensor
    qkv_bias: Tensor | None
    projection: nn.Linear
    heads: int
    head_size: int
    scale: float


def attention_parts(module: nn.Module) -> AttentionParts | None:
    """Of torch's MultiheadAttention and timm's Attention; None for any other module, and for variants of these two
    that do more, such as norms of queries and keys, gates, rotations, or keys of another size."""
    if type(module) is nn.MultiheadAttention:
        plain = module.in_proj_weight is not None and module.bias_k is None and not module.add_zero_attn
        if not plain:
            return None
        weight, size = module.in_proj_weight, module.head_dim
        return AttentionParts(weight, module.in_proj_bias, module.out_proj, module.num_heads, size, 1 / math.sqrt(size))
    if _is_timm_attention(module):
        qkv, projection, heads, size = module.qkv, module.proj, module.num_heads, module.head_dim
        assert isinstance(qkv, nn.Linear)
        assert isinstance(projection, nn.Linear)
        assert isinstance(heads, int)
        assert isinstance(size, int)
        assert isinstance(module.scale, float)
        return AttentionParts(qkv.weight, qkv.bias, projection, heads, size, module.scale)
    return None


def _is_timm_attention(module: nn.Module) -> bool:
    # By name, as timm may not be installed.
    kind = type(module)
    if kind.__name__ != "Attention" or not kind.__module__.startswith("timm."):
        return False
    own = {name: part for name, part in module.named_children() if not isinstance(part, nn.Identity | nn.Dropout)}
    return set(own) == {"qkv", "proj"} and all(isinstance(part, nn.Linear) for part in own.values())


def attentions(network: nn.Module) -> Iterator[tuple[str, AttentionParts]]:
    """The attention modules of a network by name, in its order."""
    for name, module in network.named_modules():
        if parts := attention_parts(module):
            yield name, parts


def projected_heads(network: nn.Module) -> dict[Tensor, int]:
    """For the weight of each output projection of an attention: inputs of one head."""
    return {parts.projection.weight: parts.head_size for _, parts in attentions(network)}
