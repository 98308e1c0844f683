"""Batch norms and added constants, worked into the layers before them."""

import torch
from torch import Tensor

from mtl.compaction.constants import norm_scale
from mtl.compaction.graph import Node, Program

LAYERS = ("conv", "linear", "norm")


def fold_norms(program: Program) -> Program:
    """The program in eval mode without the batch norms that alone read a convolution, and without dropout."""
    program = program.copy()
    for node in list(program.nodes.values()):
        if node.op == "dropout":
            program.bypass(node.name)
    readers = program.consumers()
    for node in list(program.nodes.values()):
        if node.op == "norm":
            layer = program.nodes[node.inputs[0]]
            if layer.op == "conv" and len(readers[layer.name]) == 1:
                scale, offset = norm_scale(node)
                weight = layer.tensors["weight"]
                scaled = weight.double() * scale.to(weight.device).view(-1, 1, 1, 1)
                bias = layer.tensors.get("bias")
                offset = offset if bias is None else offset + scale * bias.cpu().double()
                # A zero stays a zero, also times a scale that is not finite in float32.
                layer.tensors["weight"] = torch.where(weight == 0, 0, scaled).to(weight.dtype)
                layer.tensors["bias"] = offset.to(weight)
                program.bypass(node.name)
    return program


def fold_shifts(program: Program) -> Program:
    """The program without the shifts that alone read a layer, or add nothing, and without a relu of a relu."""
    program = program.copy()
    for node in list(program.nodes.values()):
        if node.op == "shift":
            source = program.nodes[node.inputs[0]]
            alone = len(program.consumers()[source.name]) == 1
            if source.op == "shift" and alone:
                node.tensors["bias"] = node.tensors["bias"] + source.tensors["bias"]
                program.bypass(source.name)
                source = program.nodes[node.inputs[0]]
                alone = len(program.consumers()[source.name]) == 1
            if not node.tensors["bias"].any():
                program.bypass(node.name)
            elif source.op in LAYERS and alone:
                add_bias(source, node.tensors["bias"])
                program.bypass(node.name)
    for node in list(program.nodes.values()):
        if node.op == "relu":
            source = program.nodes[node.inputs[0]]
            positive = source.op == "shift" and not (source.tensors["bias"] < 0).any()
            before = program.nodes[source.inputs[0]] if positive else source
            if before.op == "relu":
                program.bypass(node.name)
    return program


def biases_to_norms(program: Program) -> Program:
    """The program with the biases that convolutions were given taken up by the running means of the norms after them.

    In training mode a norm takes its input's mean away, and with it any bias before.
    """
    program = program.copy()
    readers = program.consumers()
    for node in program.nodes.values():
        if node.op == "norm":
            layer = program.nodes[node.inputs[0]]
            if layer.op == "conv" and layer.settings.get("added_bias") and len(readers[layer.name]) == 1:
                bias = layer.tensors.pop("bias")
                node.tensors["running_mean"] = node.tensors["running_mean"] - bias
    return program


def add_bias(layer: Node, bias: Tensor) -> None:
    """Add (F,) to what a layer gives."""
    pattern = layer.tensors["running_var" if layer.op == "norm" else "weight"]
    old = layer.tensors.get("bias")
    if old is None:
        layer.settings["added_bias"] = True
        old = torch.zeros(len(pattern), dtype=pattern.dtype, device=pattern.device)
    layer.tensors["bias"] = old + bias.to(old)
