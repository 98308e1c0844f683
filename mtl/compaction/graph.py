"""What is compacted: a network as a list of operations in the order in which they run.

Operations and their settings. The channels of a value are its dimension 1; a value is (N, C, H, W) or (N, C):

    input                                   the images; settings: channels
    format         memory_format            the same values in this memory format
    conv           stride, padding, dilation; in a plan also in, out, kernel, bias; tensors weight, bias
    linear         in a plan in, out, bias; tensors weight, bias
    norm           eps, momentum, affine; in a plan also channels; the tensors of a batch norm
    shift          in a plan channels; adds the tensor `bias`, a number for each channel
    select         runs: [start, stop] positions of the channels that are read, in this order; layout
    relu, add, cat (along the channels), mean (keepdim; over height and width), flatten (all but N), dropout (p)
    max_pool, avg_pool, adaptive_pool       the arguments of torch's module
    interpolate    the arguments of torch's function; `like` names the value whose height and width it takes
    output         structure: what the network returns, with the names of values in place of the values

A layer is named by the path of its module in the model, so that state dicts keep their names.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

# Channel c of the result depends on channel c of the only input, and on no other.
CHANNELWISE = frozenset(
    ["format", "norm", "shift", "relu", "dropout", "mean", "max_pool", "avg_pool", "adaptive_pool", "interpolate"]
)


@dataclass
class Node:
    """One operation. `settings` is plain data; `tensors` are a layer's parameters and buffers by name.

    shape: the result's without N, (C, H, W) or (C,), for the example input. Other heights and widths work as well.
    """

    name: str
    op: str
    inputs: list[str]
    settings: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    shape: tuple[int, ...] = ()

    @property
    def padded(self) -> bool:
        """Whether zeros around the input count, so that a constant does not give a constant at the borders."""
        padding = self.settings.get("padding", 0)
        zeros = any(padding) if isinstance(padding, tuple | list) else bool(padding)
        return zeros and (self.op == "conv" or (self.op == "avg_pool" and self.settings["count_include_pad"]))

    @property
    def sources(self) -> list[str]:
        """All values that the node needs, including the value of which it reads only height and width."""
        return [*self.inputs, *([self.settings["like"]] if "like" in self.settings else [])]


class Program(dict[str, Node]):
    """Nodes by name; each comes after its inputs."""

    def copied(self) -> "Program":
        """A copy whose nodes may be changed; it shares the tensors, which must not be changed."""
        return Program(
            {
                name: replace(n, inputs=list(n.inputs), settings=dict(n.settings), tensors=dict(n.tensors))
                for name, n in self.items()
            }
        )

    def readers(self) -> dict[str, list[Node]]:
        """For each value the nodes that read it, or only its height and width."""
        readers: dict[str, list[Node]] = {name: [] for name in self}
        for node in self.values():
            for name in node.sources:
                readers[name].append(node)
        return readers

    def bypass(self, name: str) -> None:
        """Remove a node that has one input; its readers read that input instead."""
        instead = {name: self.pop(name).inputs[0]}
        for node in self.values():
            node.inputs = renamed(node.inputs, instead)
            for setting in ("like", "structure"):
                if setting in node.settings:
                    node.settings[setting] = renamed(node.settings[setting], instead)


def renamed(structure: Any, names: dict[Any, Any]) -> Any:
    """Dicts, lists and tuples with `names[x]` in place of each x that is in `names`; the keys of dicts stay."""
    if isinstance(structure, dict):
        return {key: renamed(value, names) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return (list if isinstance(structure, list) else tuple)(renamed(value, names) for value in structure)
    return names.get(structure, structure) if isinstance(structure, Hashable) else structure
