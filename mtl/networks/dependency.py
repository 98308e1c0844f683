"""What Torch-Pruning's graph of a network says of class tokens and of outputs."""

from typing import Any

import torch_pruning as tp  # type: ignore[import-untyped]
from torch import nn

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def mend_concatenations(graph: Any) -> None:
    """Have a built graph (Torch-Pruning 1.6) know which channels go together where channels are concatenated.

    It takes every concatenation that comes after a 3-D parameter, such as a class token, for one of tokens, also that
    of channels in a head; here only one that reads such a parameter with no layer in between.
    """
    for node in graph.module2node.values():
        if node.type == tp.ops.OPTYPE.CONCAT:
            node.enable_index_mapping = not _reads_tokens(node)


def _reads_tokens(concatenation: Any) -> bool:
    waiting, seen = [concatenation], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.type == tp.ops.OPTYPE.PARAMETER:
            if len(node.module.shape) == 3:
                return True
        elif not isinstance(node.module, (*LAYERS, nn.LayerNorm, nn.BatchNorm2d)):
            waiting += node.inputs
    return False


def output_layers(graph: Any) -> list[nn.Module]:
    """The layers that write what the model gives: their channels are its tasks'."""
    waiting = [node for node in graph.module2node.values() if not node.outputs]
    found: dict[nn.Module, None] = {}
    seen = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node.module, LAYERS):
            found[node.module] = None
        else:
            waiting += node.inputs
    return [*found]
