"""Groups of weights that live or die together, and how they lie in memory.

Kinds of groups of a layer's weight:

    input_channels   all weights that read one input channel (arXiv 2308.12114, section 3), or one attention head where
                     the layer projects heads; where they are in the weight is the layer's `Layout`
    filters, rows    all weights that write one output channel; two names for convolutions and linear layers
    layer            the whole layer
    elements         every weight on its own
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

import torch
from torch import Tensor

from mtl.errors import BadInput

GroupKind = Literal["input_channels", "filters", "rows", "layer", "elements"]
GROUP_KINDS: tuple[GroupKind, ...] = get_args(GroupKind)


@dataclass(frozen=True)
class Layout:
    """Where a layer's channels are in its weight; the default is that of plain convolutions and linear layers.

    With C input channels, F output channels and g = `groups`, the weights of input channel c = j C/g + i are::

        convolution    (F, C/g, h, w)    W[j F/g : (j+1) F/g, i]; W[:, c] for g = 1; depthwise (g = C): W[c F/C : ...]
        transposed     (C, F/g, h, w)    W[c]
        linear layer   (F, C)            W[:, c]; for `block` = b > 1, an attention's head_size, W[:, c b : (c+1) b],
                                         one group for each head

    Attributes:
        groups: of the convolution, `module.groups`.
        transposed: whether it is a ConvTranspose2d.
    """

    groups: int = 1
    transposed: bool = False
    block: int = 1


PLAIN = Layout()


def check_groupable(weight: Tensor, kind: GroupKind, name: str, layout: Layout = PLAIN) -> None:
    """Raise BadInput, with the parameter's name, for a weight that has no groups of this kind."""
    if kind not in ("input_channels", "filters", "rows"):
        return
    shape = tuple(weight.shape)
    if weight.ndim < 2:
        raise BadInput(f"{name}: groups {kind!r} of shape {shape}; allowed: (out, in, ...), 2-D or more")
    if layout.groups < 1 or shape[0] % layout.groups:
        raise BadInput(
            f"{name}: layout with groups = {layout.groups} of shape {shape}; allowed: divisors of {shape[0]}"
        )
    if layout.block != 1 and (weight.ndim > 2 or layout.groups > 1 or layout.transposed):
        raise BadInput(
            f"{name}: layout with block = {layout.block} of shape {shape}; allowed: a linear layer's (out, in)"
        )
    if layout.block < 1 or shape[1] % layout.block:
        raise BadInput(f"{name}: layout with block = {layout.block} of shape {shape}; allowed: divisors of {shape[1]}")


def split_view(weight: Tensor, kind: GroupKind, layout: Layout = PLAIN) -> Tensor:
    """(parts, outer, groups, inner), group g of part p being [p, :, g]: a view of a `dense` weight, else a copy.

    The shape follows memory, so that a pass over it reads in order: for the input channels of a convolution (g, F/g,
    C/g, h * w) where the weight is contiguous and (g, F/g * h * w, C/g, 1) where it is channels_last. There is one part
    but for grouped convolutions that are not depthwise. The groups' order is that of the channels either way.
    """
    ordered = weight.movedim(1, -1) if _channels_last(weight) else weight.contiguous()
    return ordered.view(split_shape(weight, kind, layout))


def split_shape(weight: Tensor, kind: GroupKind, layout: Layout = PLAIN) -> tuple[int, int, int, int]:
    """That of `split_view`."""
    if kind == "elements":
        return 1, 1, weight.numel(), 1
    if kind == "layer":
        return 1, 1, 1, weight.numel()
    last = _channels_last(weight)
    first, second, kernel = weight.shape[0], weight.shape[1], prod(weight.shape[2:])
    if (kind == "input_channels") == layout.transposed:
        return 1, 1, first, second * kernel
    if layout.block > 1 and kind == "input_channels":
        return 1, first, second // layout.block, layout.block
    parts, outer = layout.groups, first // layout.groups
    if parts > 1 and second == 1:
        return 1, 1, parts, outer * kernel
    if parts > 1 and outer == 1 and not last:
        return 1, 1, parts * second, kernel
    return (parts, outer * kernel, second, 1) if last else (parts, outer, second, kernel)


def _channels_last(weight: Tensor) -> bool:
    """A 1 x 1 kernel is both contiguous and channels_last; it counts as contiguous."""
    return not weight.is_contiguous() and is_dense(weight)


def group_view(weight: Tensor, kind: GroupKind, layout: Layout = PLAIN) -> Tensor:
    """(outer, groups, inner), group g being [:, g]: a view of a weight that is `dense` and has one part, else a copy.

    `set_groups_` takes a copy back.
    """
    parts = split_view(weight, kind, layout)
    return parts[0] if len(parts) == 1 else parts.transpose(0, 1).reshape(parts.shape[1], -1, parts.shape[3])


def set_groups_(weight: Tensor, values: Tensor, kind: GroupKind, layout: Layout = PLAIN) -> None:
    """Write back what `group_view` gave of this weight; nothing is to do where that was a view."""
    if values.numel() and values.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr():
        return
    target = dense(weight)
    parts = split_view(target, kind, layout)
    count, outer, groups, inner = parts.shape
    parts.copy_(values.view(outer, count, groups, inner).transpose(0, 1))
    if target is not weight:
        weight.copy_(target)


def zero_groups_(weight: Tensor, gone: Tensor, layout: Layout = PLAIN) -> None:
    """Set these input channels, (groups,) bool, to zero."""
    values = group_view(weight, "input_channels", layout)
    values[:, gone] = 0
    set_groups_(weight, values, "input_channels", layout)


def group_count(weight: Tensor, kind: GroupKind, layout: Layout = PLAIN) -> int:
    """How many groups a weight has."""
    if kind == "elements":
        return weight.numel()
    if kind == "layer":
        return 1
    if (kind == "input_channels") == layout.transposed:
        return weight.shape[0]
    return weight.shape[1] * layout.groups // (layout.block if kind == "input_channels" else 1)


def group_size(weight: Tensor, kind: GroupKind, layout: Layout = PLAIN) -> int:
    """Elements in each group, for input channels the paper's n_{l,c} = F_l * h_l * w_l; the weight is not empty."""
    return weight.numel() // group_count(weight, kind, layout)


def as_layouts(layouts: Sequence[Layout] | None, count: int) -> Sequence[Layout]:
    """One for each of `count` weights; None: all are plain."""
    return [PLAIN] * count if layouts is None else layouts


def is_dense(weight: Tensor) -> bool:
    """Whether it lies in memory without gaps, contiguous or channels_last."""
    return weight.is_contiguous() or (weight.ndim > 2 and weight.movedim(1, -1).is_contiguous())


def dense(weight: Tensor) -> Tensor:
    """The weight itself if it is dense, else a contiguous copy."""
    return weight if is_dense(weight) else weight.contiguous()


def same_order(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape have their elements in the same order in memory."""
    if a.stride() == b.stride():
        return True
    return all(size <= 1 or i == j for size, i, j in zip(a.shape, a.stride(), b.stride(), strict=True))


def like(value: Tensor, pattern: Tensor) -> Tensor:
    """`value`, or where its elements lie in another order in memory than the pattern's, a copy in that order."""
    return value if same_order(value, pattern) else torch.empty_like(pattern, dtype=value.dtype).copy_(value)
