"""Groups of weights that live or die together, and how they lie in memory.

Kinds of groups of a weight `W` of shape (F, C, h, w), or (out, in) for a linear layer:

    input_channels   W[:, c], all filters of one input channel (arXiv 2308.12114, section 3); a linear layer's inputs.
                     Only for plain convolutions: in those with groups, such as depthwise ones, W[:, c] is a channel of
                     each group, and transposed ones have their inputs first. `plain_convolutions` tells them apart.
    filters, rows    W[f], one output channel or output feature; two names for convolutions and linear layers
    layer            W, the whole layer
    elements         every weight on its own
"""

from collections.abc import Iterator
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from mtl.errors import BadInput

GroupKind = Literal["input_channels", "filters", "rows", "layer", "elements"]
GROUP_KINDS: tuple[GroupKind, ...] = get_args(GroupKind)


def plain_convolutions(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """The convolutions of a network with their names, in its order.

    Raises BadInput, with the layer's name, for a convolution whose `weight[:, c]` is not input channel c.
    """
    for name, module in network.named_modules():
        found = "a transposed convolution" if isinstance(module, nn.ConvTranspose2d) else ""
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            found = f"a convolution with groups = {module.groups}"
        if found:
            raise BadInput(
                f"layer {name or type(module).__name__}: {found}; allowed: Conv2d with groups = 1, as in others the "
                "weights W[:, c] are not those of input channel c"
            )
        if isinstance(module, nn.Conv2d):
            yield name, module


def check_groupable(weight: Tensor, kind: GroupKind, name: str) -> None:
    """Raise BadInput, with the parameter's name, for a weight that has no groups of this kind."""
    if kind in ("input_channels", "filters", "rows") and weight.ndim < 2:
        raise BadInput(f"{name}: groups {kind!r} of shape {tuple(weight.shape)}; allowed: (out, in, ...), 2-D or more")


def group_view(weight: Tensor, kind: GroupKind) -> Tensor:
    """(outer, groups, inner), group g being [:, g]: a view of `weight` if that is `dense`, else a copy.

    The shape follows memory, so that a pass over it reads in order: for input channels (F, C, h * w) where the weight
    is contiguous and (F * h * w, C, 1) where it is channels_last. The groups' order is the weight's either way.
    """
    # A 1 x 1 kernel is both contiguous and channels_last; it counts as contiguous.
    last = not weight.is_contiguous() and is_dense(weight)
    ordered = weight.movedim(1, -1) if last else weight.contiguous()
    if kind == "elements":
        return ordered.view(1, weight.numel(), 1)
    if kind == "layer":
        return ordered.view(1, 1, weight.numel())
    out, channels = weight.shape[:2]
    kernel = prod(weight.shape[2:])
    if kind == "input_channels":
        return ordered.view(out * kernel, channels, 1) if last else ordered.view(out, channels, kernel)
    return ordered.view(1, out, channels * kernel)


def group_size(weight: Tensor, kind: GroupKind) -> int:
    """Elements in each group, for input channels the paper's n_{l,c} = F_l * h_l * w_l; the weight is not empty."""
    outer, _, inner = group_view(weight, kind).shape
    return outer * inner


def is_dense(weight: Tensor) -> bool:
    """Whether it lies in memory without gaps, contiguous or channels_last."""
    return weight.is_contiguous() or (weight.ndim > 2 and weight.movedim(1, -1).is_contiguous())


def dense(weight: Tensor) -> Tensor:
    """The weight itself if it is dense, else a contiguous copy."""
    return weight if is_dense(weight) else weight.contiguous()


def same_order(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape have their elements in the same order in memory."""
    return all(size <= 1 or i == j for size, i, j in zip(a.shape, a.stride(), b.stride(), strict=True))


def like(value: Tensor, pattern: Tensor) -> Tensor:
    """`value`, or where its elements lie in another order in memory than the pattern's, a copy in that order."""
    return value if same_order(value, pattern) else torch.empty_like(pattern, dtype=value.dtype).copy_(value)


def group_rows(weight: Tensor) -> Tensor:
    """(F, C, ...) -> (C, F * ...): one row an input channel. A copy, unless the layout happens to allow a view."""
    return weight.transpose(0, 1).reshape(weight.shape[1], -1)
