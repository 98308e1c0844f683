"""Which channels have one value everywhere, whatever the image; and which channels must be computed at all."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.compaction.graph import CHANNELWISE, Node, Program

Constants = dict[str, Tensor]
Live = dict[str, Tensor]


def find_constants(program: Program) -> Constants:
    """For each value (C,) float64: the number that a channel is at every pixel of every image, NaN where it varies.

    A channel that is constant only for some image sizes counts as varying. An example is a padded convolution of a
    constant, which differs at the borders.
    """
    constants: Constants = {}
    for node in program.values():
        if node.op != "output":
            constants[node.name] = _constants(node, [constants[name] for name in node.inputs])
    return constants


def _constants(node: Node, inputs: list[Tensor]) -> Tensor:
    unknown = torch.full((node.shape[0],), torch.nan, dtype=torch.float64)
    match node.op:
        case "input":
            return unknown
        case "conv" | "linear":
            varies = (_touched(node) & ~_foldable(node, inputs[0])).any(dim=1)
            value = effect(node, inputs[0])
            if "bias" in node.tensors:
                value = value + node.tensors["bias"].cpu().double()
            return torch.where(varies, unknown, value)
        case "norm":
            scale, offset = norm_scale(node)
            return torch.where(scale == 0, offset, inputs[0] * scale + offset)
        case "shift":
            return inputs[0] + node.tensors["bias"].cpu().double()
        case "relu":
            return F.relu(inputs[0])
        case "add":
            return inputs[0] + inputs[1]
        case "cat":
            return torch.cat(inputs)
        case "flatten":
            return inputs[0].repeat_interleave(len(unknown) // len(inputs[0]))
    assert node.op in CHANNELWISE, node.op
    # An average may count the zeros around the image.
    return torch.where(inputs[0] == 0, inputs[0], unknown) if node.padded else inputs[0]


def effect(node: Node, constant: Tensor) -> Tensor:
    """(F,) float64: what the foldable input channels of a conv or linear add to each output channel."""
    which = _foldable(node, constant)
    weight = node.tensors["weight"].cpu()[:, which].double()
    return (weight.flatten(2).sum(dim=2) if weight.ndim > 2 else weight) @ constant[which]


def norm_scale(node: Node) -> tuple[Tensor, Tensor]:
    """(C,) float64 each: the scale and the offset that a batch norm applies in eval mode."""
    t = {name: value.cpu().double() for name, value in node.tensors.items()}
    scale = (t["running_var"] + node.settings["eps"]).rsqrt() * t.get("weight", 1)
    return scale, t.get("bias", 0) - t["running_mean"] * scale


def find_live(program: Program, constants: Constants) -> Live:
    """(C,) bool for each value that is computed at all: its channels that something reads. Other values are absent.

    The search runs backwards from the outputs, so that what only dead channels read is dead as well. A value of which
    only height and width matter keeps one channel.
    """
    live: Live = {}

    def need(name: str, mask: Tensor) -> None:
        live[name] = live[name] | mask if name in live else mask.clone()

    for node in reversed(program.values()):
        if node.op == "output":
            for name in node.inputs:
                need(name, torch.ones(program[name].shape[0], dtype=torch.bool))
            continue
        if node.name not in live:
            continue
        mask = live[node.name]
        if node.op == "input":
            mask[:] = True
        elif not mask.any():
            mask[0] = True
        match node.op:
            case "conv" | "linear":
                need(node.inputs[0], reads(node, constants, live))
            case "add":
                for name in summands(node, constants, live):
                    need(name, mask)
            case "cat":
                parts = mask.split([program[name].shape[0] for name in node.inputs])
                for name, part in zip(node.inputs, parts, strict=True):
                    if part.any():
                        need(name, part)
            case "flatten":
                part = mask.view(program[node.inputs[0]].shape[0], -1).any(dim=1)
                mask[:] = part.repeat_interleave(len(mask) // len(part))
                need(node.inputs[0], part)
            case op if op in CHANNELWISE:
                need(node.inputs[0], mask)
        if "like" in node.settings:
            like = node.settings["like"]
            need(like, torch.zeros(program[like].shape[0], dtype=torch.bool))
    return live


def reads(node: Node, constants: Constants, live: Live) -> Tensor:
    """(C,) bool: the input channels on which the live outputs of a conv or linear depend."""
    return _touched(node)[live[node.name]].any(dim=0) & ~_foldable(node, constants[node.inputs[0]])


def summands(node: Node, constants: Constants, live: Live) -> list[str]:
    """The inputs of an addition that are computed: only one if the other is constant in every live channel."""
    for position, name in enumerate(node.inputs):
        if not constants[name][live[node.name]].isnan().any():
            return [node.inputs[1 - position]]
    return node.inputs


def _foldable(node: Node, constant: Tensor) -> Tensor:
    """(C,) bool: input channels whose whole effect on a conv or linear is a number for each output channel."""
    return constant == 0 if node.padded else ~constant.isnan()


def _touched(node: Node) -> Tensor:
    """(F, C) bool: where the kernels of a conv or linear are not zero."""
    nonzero = node.tensors["weight"] != 0
    return nonzero.flatten(2).any(dim=2).cpu() if nonzero.ndim > 2 else nonzero.cpu()
