"""Groups of weights that live or die together.

A group is one input channel of one layer: for a weight `W` of shape (F, C, h, w) group `c` is `W[:, c]`, all filters
(arXiv 2308.12114, section 3). A linear layer's weight (out, in) has its input features as groups in the same way.
"""

from torch import Tensor

from mtl.errors import BadInput


def check_groupable(weight: Tensor) -> None:
    """Raise BadInput for a weight without an input-channel axis."""
    if weight.ndim < 2:
        raise BadInput(f"group penalty: a weight of shape {tuple(weight.shape)}; allowed: (out, in, ...), 2-D or more")


def group_rows(weight: Tensor) -> Tensor:
    """(F, C, ...) -> (C, F * ...): one row a group. A copy, unless the layout happens to allow a view."""
    return weight.transpose(0, 1).reshape(weight.shape[1], -1)


def from_group_rows(rows: Tensor, weight: Tensor) -> Tensor:
    """The inverse of `group_rows`: (C, F * ...) -> the shape of `weight`."""
    out, groups, *kernel = weight.shape
    return rows.view(groups, out, *kernel).transpose(0, 1)


def group_size(weight: Tensor) -> int:
    """Elements in each group, the paper's n_{l,c} = F_l * h_l * w_l."""
    return weight.numel() // weight.shape[1] if weight.shape[1] else 0
