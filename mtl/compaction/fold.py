"""Batch norms, and constants that are added or multiplied, folded into the layers before them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mtl.compaction.channels import norm_scale
from mtl.compaction.graph import LAYERS, VIEWS, Node, Program


def fold_norms(program: Program) -> Program:
    """Without dropout, and without each batch norm that is the only reader of a convolution (in eval mode the same)."""
    program = program.copied()
    for node in list(program.values()):
        if node.op == "dropout":
            program.bypass(node.name)
    for layer, node in _convolutions_with_norms(program):
        scale, offset = norm_scale(node)
        bias = layer.tensors.pop("bias", None)
        offset = offset if bias is None else offset + scale * bias.cpu().double()
        _scale_layer(layer, scale)
        layer.tensors["bias"] = offset.to(layer.tensors["weight"])
        program.bypass(node.name)
    return program


def fold_scales(program: Program) -> Program:
    """Without numbers that multiply or are added to all channels, and without scales that are the only reader of a
    layer, or of values that a layer's result is only moved to."""
    program = _scalars_by_channel(program)
    for node in list(program.values()):
        if node.op != "scale":
            continue
        scale = node.tensors["weight"].cpu().double()
        if (scale == 1).all():
            program.bypass(node.name)
        elif layer := _layer_before(program, node, LAYERS):
            _scale_layer(layer, scale)
            program.bypass(node.name)
    return program


def _scalars_by_channel(program: Program) -> Program:
    """With scales and shifts in place of numbers that are the same for all channels."""
    new = Program()
    for node in program.copied().values():
        new[node.name] = node
        if node.op != "scalar":
            continue
        scale, offset = node.settings["scale"], node.settings["offset"]
        ones = torch.ones(node.channels, dtype=torch.float64)
        factor = Node(node.name, "scale", node.inputs, {}, {"weight": ones * scale}, node.shape, node.axis)
        if offset:
            factor.name = f"{node.name}_scale"
            del new[node.name]
            new[factor.name] = factor
            factor = Node(node.name, "shift", [factor.name], {}, {"bias": ones * offset}, node.shape, node.axis)
        new[node.name] = factor
    return new


def fold_shifts(program: Program) -> Program:
    """Without shifts that add nothing or are the only reader of a layer or shift, and without a relu after a relu."""
    program = program.copied()
    for node in list(program.values()):
        if node.op == "shift":
            source = program[node.inputs[0]]
            if source.op == "shift" and len(program.readers()[source.name]) == 1:
                node.tensors["bias"] = node.tensors["bias"] + source.tensors["bias"]
                program.bypass(source.name)
            if not node.tensors["bias"].any():
                program.bypass(node.name)
            elif layer := _layer_before(program, node, LAYERS | {"norm"}):
                add_bias(layer, node.tensors["bias"])
                program.bypass(node.name)
    for node in list(program.values()):
        if node.op == "relu":
            source = program[node.inputs[0]]
            if source.op == "shift" and not (source.tensors["bias"] < 0).any():
                source = program[source.inputs[0]]
            if source.op == "relu":
                program.bypass(node.name)
    return program


def biases_to_norms(program: Program) -> Program:
    """With the biases that compaction gave to convolutions moved into the running means of the norms after them.

    In training mode a norm subtracts the mean of its input, and any bias with it.
    """
    program = program.copied()
    for layer, node in _convolutions_with_norms(program):
        if layer.settings.get("added_bias"):
            node.tensors["running_mean"] = node.tensors["running_mean"] - layer.tensors.pop("bias")
    return program


def add_bias(layer: Node, bias: Tensor) -> None:
    """Add (F,) to the outputs of a layer."""
    pattern = layer.tensors["running_var" if layer.op == "norm" else "weight"]
    old = layer.tensors.get("bias")
    if old is None:
        layer.settings["added_bias"] = True
        old = torch.zeros(len(bias), dtype=pattern.dtype, device=pattern.device)
    layer.tensors["bias"] = old + bias.to(old)


def _scale_layer(layer: Node, scale: Tensor) -> None:
    """Multiply the outputs of a layer by (F,) float64."""
    weight = layer.tensors["weight"]
    factor = scale.to(weight.device)
    if layer.op == "conv_transpose":  # (C, F / groups, height, width)
        factor = factor.view(layer.groups, -1).repeat_interleave(len(weight) // layer.groups, dim=0)
    factor = factor.view(*factor.shape, *[1] * (weight.ndim - factor.ndim))
    # A zero stays a zero, also times a scale that is not finite in float32.
    layer.tensors["weight"] = torch.where(weight == 0, 0, weight.double() * factor).to(weight.dtype)
    if "bias" in layer.tensors:
        bias = layer.tensors["bias"]
        layer.tensors["bias"] = (bias.double() * scale.to(bias.device)).to(bias.dtype)


def _layer_before(program: Program, node: Node, ops: frozenset[str]) -> Node | None:
    """The layer whose result only this node reads, perhaps after it has been moved about."""
    readers = program.readers()
    source = program[node.inputs[0]]
    while source.op in VIEWS and len(readers[source.name]) == 1:
        source = program[source.inputs[0]]
    return source if source.op in ops and len(readers[source.name]) == 1 else None


def _convolutions_with_norms(program: Program) -> Iterator[tuple[Node, Node]]:
    """Each convolution that is read only by a batch norm, and that norm; the caller may remove the norm."""
    readers = program.readers()
    for norm in list(program.values()):
        layer = program[norm.inputs[0]] if norm.op == "norm" else norm
        if layer.op in ("conv", "conv_transpose") and layer is not norm and len(readers[layer.name]) == 1:
            yield layer, norm
