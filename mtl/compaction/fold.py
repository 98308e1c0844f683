"""Batch norms and constants that are added, folded into the layers before them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mtl.compaction.channels import norm_scale
from mtl.compaction.graph import Node, Program


def fold_norms(program: Program) -> Program:
    """Without dropout, and without each batch norm that is the only reader of a convolution (in eval mode the same)."""
    program = program.copied()
    for node in list(program.values()):
        if node.op == "dropout":
            program.bypass(node.name)
    for layer, node in _convolutions_with_norms(program):
        scale, offset = norm_scale(node)
        weight, bias = layer.tensors["weight"], layer.tensors.get("bias")
        scaled = weight.double() * scale.to(weight.device).view(-1, 1, 1, 1)
        offset = offset if bias is None else offset + scale * bias.cpu().double()
        # A zero stays a zero, also times a scale that is not finite in float32.
        layer.tensors["weight"] = torch.where(weight == 0, 0, scaled).to(weight.dtype)
        layer.tensors["bias"] = offset.to(weight)
        program.bypass(node.name)
    return program


def fold_shifts(program: Program) -> Program:
    """Without shifts that add nothing or are the only reader of a layer or shift, and without a relu after a relu."""
    program = program.copied()
    for node in list(program.values()):
        if node.op == "shift":
            source = program[node.inputs[0]]
            if source.op == "shift" and len(program.readers()[source.name]) == 1:
                node.tensors["bias"] = node.tensors["bias"] + source.tensors["bias"]
                program.bypass(source.name)
                source = program[node.inputs[0]]
            if not node.tensors["bias"].any():
                program.bypass(node.name)
            elif source.op in ("conv", "linear", "norm") and len(program.readers()[source.name]) == 1:
                add_bias(source, node.tensors["bias"])
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
        old = torch.zeros(len(pattern), dtype=pattern.dtype, device=pattern.device)
    layer.tensors["bias"] = old + bias.to(old)


def _convolutions_with_norms(program: Program) -> Iterator[tuple[Node, Node]]:
    """Each convolution that is read only by a batch norm, and that norm; the caller may remove the norm."""
    readers = program.readers()
    for norm in list(program.values()):
        layer = program[norm.inputs[0]] if norm.op == "norm" else norm
        if layer.op == "conv" and layer is not norm and len(readers[layer.name]) == 1:
            yield layer, norm
