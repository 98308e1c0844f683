"""The kernels of convolutions and linear layers, grouped or not, as matrices of outputs and inputs."""

import torch
from torch import Tensor

from mtl.compaction.graph import Node


def touched(node: Node) -> Tensor:
    """(F, C) bool: where the kernels of a layer are not zero."""
    nonzero = node.tensors["weight"].detach() != 0
    return _dense(node, nonzero.flatten(2).any(dim=2) if nonzero.ndim > 2 else nonzero)


def sums(node: Node) -> Tensor:
    """(F, C) float64: the sum of each kernel, which is its effect on a constant."""
    weight = node.tensors["weight"].detach().double()
    return _dense(node, weight.flatten(2).sum(dim=2) if weight.ndim > 2 else weight)


def _dense(node: Node, own: Tensor) -> Tensor:
    """(F, C) of the weight's first two dimensions: (F, C / groups), or (C, F / groups) of a transposed convolution."""
    own = own.cpu()
    if node.groups > 1:
        rows, width = own.shape
        group = torch.arange(rows) // (rows // node.groups)
        columns = group[:, None] * width + torch.arange(width)
        own = torch.zeros(rows, width * node.groups, dtype=own.dtype).scatter_(1, columns, own)
    return own.T if node.op == "conv_transpose" else own


def evened(mask: Tensor, groups: int) -> Tensor:
    """The channels of a mask (C,) and more, so that each group has as many as any other or none."""
    parts = mask.view(groups, -1)
    most = int(parts.sum(dim=1).max())
    first = parts.int().sort(dim=1, descending=True, stable=True).indices[:, :most]
    filled = torch.zeros_like(parts).scatter_(1, first, True)
    return (filled & parts.any(dim=1, keepdim=True)).flatten()


def part_of(node: Node, outputs: list[int], inputs: list[int]) -> tuple[Tensor, int]:
    """A layer's weight with these outputs and inputs alone, and its number of groups.

    Both lists go group by group, with as many channels from each; the weight is a copy.
    """
    weight = node.tensors["weight"]
    if node.op == "conv_transpose":
        outputs, inputs = inputs, outputs
    if node.groups == 1:
        return weight[outputs][:, inputs], 1
    width = weight.shape[1]
    left = len(dict.fromkeys(c // width for c in inputs))
    own = torch.tensor(inputs, device=weight.device).view(left, -1) % width
    rows = torch.tensor(outputs, device=weight.device).view(left, -1)
    return weight[rows[:, :, None], own[:, None, :]].flatten(0, 1), left
