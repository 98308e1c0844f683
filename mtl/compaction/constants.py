"""Which channels have one value everywhere, whatever the image."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.compaction.graph import Node, Program

Constants = dict[str, Tensor]


def find_constants(program: Program) -> Constants:
    """For each value (C,) float64: the number that a channel is at every pixel of every image, NaN where it varies.

    A channel that an operation makes constant only for some sizes, such as a padded convolution of a constant, which
    differs at the borders, counts as varying.
    """
    constants: Constants = {}
    for node in program.nodes.values():
        if node.op != "output":
            unknown = torch.full((program.channels(node.name),), torch.nan, dtype=torch.float64)
            constants[node.name] = _constants(node, [constants[name] for name in node.inputs], unknown)
    return constants


def foldable(node: Node, constant: Tensor) -> Tensor:
    """(C,) bool: input channels whose whole effect on a conv or linear is a number for each output channel."""
    return constant == 0 if node.padded else ~constant.isnan()


def touched(node: Node) -> Tensor:
    """(F, C) bool: where the kernels of a conv or linear are not zero."""
    nonzero = node.tensors["weight"] != 0
    return nonzero.flatten(2).any(dim=2).cpu() if nonzero.ndim > 2 else nonzero.cpu()


def effect(node: Node, constant: Tensor) -> Tensor:
    """(F,) float64: what the foldable input channels of a conv or linear add to each output channel."""
    which = foldable(node, constant)
    weight = node.tensors["weight"].cpu()[:, which].double()
    return (weight.flatten(2).sum(dim=2) if weight.ndim > 2 else weight) @ constant[which]


def norm_scale(node: Node) -> tuple[Tensor, Tensor]:
    """(C,) float64 each: the scale and the offset that a batch norm is in eval mode."""
    t = {name: value.cpu().double() for name, value in node.tensors.items()}
    scale = (t["running_var"] + node.settings["eps"]).rsqrt() * t.get("weight", 1)
    return scale, t.get("bias", 0) - t["running_mean"] * scale


def _constants(node: Node, inputs: list[Tensor], unknown: Tensor) -> Tensor:
    if node.op == "input":
        return unknown
    if node.op in ("conv", "linear"):
        varies = (touched(node) & ~foldable(node, inputs[0])).any(dim=1)
        value = effect(node, inputs[0])
        if "bias" in node.tensors:
            value = value + node.tensors["bias"].cpu().double()
        return torch.where(varies, unknown, value)
    if node.op == "norm":
        scale, offset = norm_scale(node)
        return torch.where(scale == 0, offset, inputs[0] * scale + offset)
    if node.op == "shift":
        return inputs[0] + node.tensors["bias"].cpu().double()
    if node.op == "relu":
        return F.relu(inputs[0])
    if node.op == "add":
        return inputs[0] + inputs[1]
    if node.op == "cat":
        return torch.cat(inputs)
    if node.op == "flatten":
        return inputs[0].repeat_interleave(len(unknown) // len(inputs[0]))
    if node.padded:  # an average that counts zeros at the borders
        return torch.where(inputs[0] == 0, inputs[0], unknown)
    return inputs[0]
