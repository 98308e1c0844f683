"""What is compacted: a network as a list of operations in the order in which they run.

Operations and their settings; a value has its channels in dimension 1, and is (N, C, H, W) or (N, C):

    input                                   the images, settings channels
    format         memory_format            the same values in that memory format
    conv           stride, padding, dilation and, where built, in, out, kernel, bias; tensors weight, bias
    linear         where built in, out, bias; tensors weight, bias
    norm           eps, momentum, affine and, where built, channels; the tensors of a batch norm
    shift          where built channels; adds the tensor `bias`, one number a channel
    select         runs: [start, stop] of the positions of the channels that are read, in their order; and layout
    relu, add, cat (along the channels), mean (keepdim; over height and width), flatten (all but N), dropout (p)
    max_pool, avg_pool, adaptive_pool       the arguments of torch's module
    interpolate    the arguments of torch's function; `like` names the value whose height and width it takes
    output         structure: what the network returns, with the values' names for the values

A layer's name is the path of its module in the model, so that state dicts keep their names.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

CHANNELWISE = frozenset(
    ["format", "norm", "shift", "relu", "dropout", "mean", "max_pool", "avg_pool", "adaptive_pool", "interpolate"]
)  # channel c of the result comes from channel c of the one input


@dataclass
class Node:
    """One operation. `settings` is plain data; `tensors` are a layer's parameters and buffers by their names."""

    name: str
    op: str
    inputs: list[str]
    settings: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def padded(self) -> bool:
        """Whether zeros that surround the input count: a constant then does not give a constant at the borders."""
        padding = self.settings.get("padding", 0)
        zeros = any(padding) if isinstance(padding, tuple | list) else bool(padding)
        return zeros and (self.op == "conv" or (self.op == "avg_pool" and self.settings["count_include_pad"]))


@dataclass
class Program:
    """Nodes by name, each after its inputs, and the shape of each value without N, (C, H, W) or (C,).

    The shapes are those at the example input; a program runs at other heights and widths as well.
    """

    nodes: dict[str, Node]
    shapes: dict[str, tuple[int, ...]]

    def copy(self) -> "Program":
        """Its nodes may be changed; the tensors are shared and must not be."""
        nodes = {
            name: replace(n, inputs=list(n.inputs), settings=dict(n.settings), tensors=dict(n.tensors))
            for name, n in self.nodes.items()
        }
        return Program(nodes, dict(self.shapes))

    def channels(self, name: str) -> int:
        return self.shapes[name][0]

    def consumers(self) -> dict[str, list[Node]]:
        """For each value the nodes that read it, or its height and width."""
        readers: dict[str, list[Node]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for name in sources(node):
                readers[name].append(node)
        return readers

    def bypass(self, name: str) -> None:
        """Remove a node of one input: its readers read that input."""
        instead = self.nodes.pop(name).inputs[0]
        for node in self.nodes.values():
            node.inputs = [instead if i == name else i for i in node.inputs]
            if node.settings.get("like") == name:
                node.settings["like"] = instead
            if node.op == "output":
                node.settings["structure"] = renamed(node.settings["structure"], {name: instead})


def sources(node: Node) -> list[str]:
    """The values that a node needs, those included of which it reads height and width alone."""
    return [*node.inputs, *([node.settings["like"]] if "like" in node.settings else [])]


def renamed(structure: Any, names: dict[str, Any]) -> Any:
    """An output structure with `names[x]` for each value's name x that is in `names`."""
    if isinstance(structure, dict):
        return {key: renamed(value, names) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return type(structure)(renamed(value, names) for value in structure)
    return names.get(structure, structure)


def values_of(structure: Any) -> Iterable[str]:
    """The names of the values in an output structure."""
    if isinstance(structure, dict):
        structure = list(structure.values())
    if isinstance(structure, list | tuple):
        for part in structure:
            yield from values_of(part)
    else:
        yield structure
