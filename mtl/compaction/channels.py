"""Which channels have one value everywhere, whatever the image; and which channels must be computed at all."""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.compaction.activations import apply_activation
from mtl.compaction.graph import CHANNELWISE, LAYERS, Node, Program
from mtl.compaction.kernels import evened, sums, touched

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
    unknown = torch.full((node.channels,), torch.nan, dtype=torch.float64)
    t, s = {name: value.cpu().double() for name, value in node.tensors.items() if node.op not in LAYERS}, node.settings
    match node.op:
        case "input":
            return unknown
        case "conv" | "conv_transpose" | "linear":
            varies = (touched(node) & ~foldable(node, inputs[0])).any(dim=1)
            value = effect(node, inputs[0])
            if "bias" in node.tensors:
                value = value + node.tensors["bias"].cpu().double()
            return torch.where(varies, unknown, value)
        case "norm":
            scale, offset = norm_scale(node)
            return torch.where(scale == 0, offset, inputs[0] * scale + offset)
        case "layer_norm" | "group_norm":
            return torch.where(t["weight"] == 0, t.get("bias", torch.zeros_like(unknown)), unknown) if t else unknown
        case "response_norm":
            return torch.where((t["weight"] == 0) | (inputs[0] == 0), inputs[0] + t["bias"], unknown)
        case "attend":  # weights that add up to 1, times a value that all tokens share
            return inputs[0][-len(unknown) :]
        case "shift":
            return inputs[0] + t["bias"]
        case "scale":
            return product(inputs[0], t["weight"])
        case "scalar":
            return inputs[0] * s["scale"] + s["offset"]
        case "embed" | "prepend":
            value = t["value"].movedim(node.axis, 0).flatten(1)
            same = (value == value[:, :1]).all(dim=1)
            if node.op == "embed":
                return torch.where(same, inputs[0] + value[:, 0], unknown)
            return torch.where(same & (inputs[0] == value[:, 0]), inputs[0], unknown)
        case "relu":
            return F.relu(inputs[0])
        case "act":
            return apply_activation(s, inputs[0])
        case "add":
            return inputs[0] + inputs[1]
        case "mul":
            return product(*inputs)
        case "cat":
            return torch.cat(inputs)
        case "part":
            return inputs[0][s["start"] : s["stop"]]
        case "pixel_shuffle":
            parts = inputs[0].view(len(unknown), -1)
            return torch.where((parts == parts[:, :1]).all(dim=1), parts[:, 0], unknown)
        case "flatten":
            return inputs[0].repeat_interleave(len(unknown) // len(inputs[0]))
    assert node.op in CHANNELWISE, node.op
    # An average may count the zeros around the image.
    return torch.where(inputs[0] == 0, inputs[0], unknown) if node.padded else inputs[0]


def product(a: Tensor, b: Tensor) -> Tensor:
    """Of constants: zero times what varies is zero."""
    return torch.where((a == 0) | (b == 0), 0, a * b)


def effect(node: Node, constant: Tensor) -> Tensor:
    """(F,) float64: what the foldable input channels of a layer add to each output channel."""
    which = foldable(node, constant)
    return sums(node)[:, which] @ constant[which]


def norm_scale(node: Node) -> tuple[Tensor, Tensor]:
    """(C,) float64 each: the scale and the offset that a batch norm applies in eval mode."""
    t = {name: value.cpu().double() for name, value in node.tensors.items()}
    scale = (t["running_var"] + node.settings["eps"]).rsqrt() * t.get("weight", 1)
    return scale, t.get("bias", 0) - t["running_mean"] * scale


def find_live(program: Program, constants: Constants) -> Live:
    """(C,) bool for each value that is computed at all: its channels that something reads. Other values are absent.

    The search runs backwards from the outputs, so that what only dead channels read is dead as well. A value of which
    only height and width matter keeps one channel. A norm over channels keeps all that it is over.
    """
    live: Live = {}

    def need(name: str, mask: Tensor) -> None:
        live[name] = live[name] | mask if name in live else mask.clone()

    for node in reversed(program.values()):
        if node.op == "output":
            for name in node.inputs:
                need(name, torch.ones(program[name].channels, dtype=torch.bool))
            continue
        if node.name not in live:
            continue
        live[node.name] = mask = _whole(node, program, live[node.name])
        match node.op:
            case "input":
                pass
            case "conv" | "conv_transpose" | "linear":
                need(node.inputs[0], reads(node, constants, live))
            case "add" | "mul":
                for name in operands(node, program, constants, live):
                    need(name, mask)
            case "cat":
                parts = mask.split([program[name].channels for name in node.inputs])
                for name, part in zip(node.inputs, parts, strict=True):
                    if part.any():
                        need(name, part)
            case "part":
                whole = torch.zeros(program[node.inputs[0]].channels, dtype=torch.bool)
                whole[node.settings["start"] : node.settings["stop"]] = mask
                need(node.inputs[0], whole)
            case "attend":
                need(node.inputs[0], mask.repeat(3))
            case "pixel_shuffle":
                need(node.inputs[0], mask.repeat_interleave(node.settings["factor"] ** 2))
            case "flatten":
                need(node.inputs[0], mask.view(program[node.inputs[0]].channels, -1).any(dim=1))
            case _:
                need(node.inputs[0], mask)
        if "like" in node.settings:
            like = node.settings["like"]
            need(like, torch.zeros(program[like].channels, dtype=torch.bool))
    return live


def _whole(node: Node, program: Program, mask: Tensor) -> Tensor:
    """The channels that an operation computes where these of its result are needed."""
    mask = mask.clone()
    if node.op in ("input", "layer_norm", "response_norm"):
        mask[:] = True
    elif not mask.any():
        mask[0] = True
    match node.op:
        case "group_norm" | "attend":
            parts = node.settings["groups" if node.op == "group_norm" else "heads"]
            return mask.view(parts, -1).any(dim=1).repeat_interleave(len(mask) // parts)
        case "conv" | "conv_transpose":
            return evened(mask, node.groups)
        case "flatten":
            pixels = len(mask) // program[node.inputs[0]].channels
            return mask.view(-1, pixels).any(dim=1).repeat_interleave(pixels)
    return mask


def reads(node: Node, constants: Constants, live: Live) -> Tensor:
    """(C,) bool: the input channels on which the live outputs of a layer depend.

    A grouped convolution reads as many from each of its live groups; a depthwise one the channels of its outputs.
    """
    own = live[node.name]
    if node.depthwise and len(own) == node.groups:
        return own
    used = touched(node)[own].any(dim=0) & ~foldable(node, constants[node.inputs[0]])
    if node.groups == 1:
        return used
    alive = own.view(node.groups, -1).any(dim=1, keepdim=True)
    parts = used.view(node.groups, -1).clone()
    parts[~parts.any(dim=1) & alive[:, 0], 0] = True  # a live group without an input keeps one
    return evened(parts.flatten(), node.groups)


def operands(node: Node, program: Program, constants: Constants, live: Live) -> list[str]:
    """The inputs of an addition or product that are computed: only one if the other is constant in every live channel
    and the one has the result's height and width."""
    for position, name in enumerate(node.inputs):
        other = node.inputs[1 - position]
        whole = node.settings.get("small") not in (1 - position, 2)
        if whole and not constants[name][live[node.name]].isnan().any():
            return [other]
    return node.inputs


def foldable(node: Node, constant: Tensor) -> Tensor:
    """(C,) bool: input channels whose whole effect on a layer is a number for each output channel."""
    return constant == 0 if node.padded else ~constant.isnan()
