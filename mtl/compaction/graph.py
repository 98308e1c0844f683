"""What is compacted: a network as a list of operations in the order in which they run.

Operations and their settings. A value is a map (N, C, H, W) or (N, H, W, C), tokens (N, L, C) or (N, C, L), or (N, C);
its channels are the axis `axis` of its node.

    input                                   the images; settings: channels
    format         memory_format            the same values in this memory format
    conv           stride, padding, dilation, groups; in a plan also in, out, kernel, bias; tensors weight, bias
    conv_transpose the same and output_padding; as torch has it, its weight is (in, out / groups, height, width)
    linear         in a plan in, out, bias; tensors weight, bias; over the last axis
    norm           eps, momentum, affine; in a plan also channels; the tensors of a batch norm
    layer_norm     eps; in a plan channels, affine, bias; tensors weight, bias; over the last axis
    group_norm     groups, eps; in a plan channels, affine; tensors weight, bias
    response_norm  eps; in a plan channels; tensors weight, bias; ConvNeXt V2's global response normalisation of a map
    attend         heads, size, scale: softmax(scale * Q K^T) V; the input has all queries, then keys, then values, each
                   head after head
    shift, scale   in a plan channels; adds the tensor `bias` or multiplies by `weight`, a number for each channel
    scalar         scale, offset: x * scale + offset
    embed          adds the tensor `value` (1, ...), which has the input's dimensions; in a plan shape, without the 1
    prepend        puts the tensor `value` (1, tokens, C) before the tokens of (N, L, C); in a plan tokens, channels
    select         runs: [start, stop] positions of the channels that are read, in this order; layout
    part           start, stop: these channels, of a chunk or split of the model's own
    relu; act      kind and its arguments, see `activations`
    add, mul       two values of one shape; small: which of them is 1 wide in some axes other than the channels, 2: both
    cat (along the channels), mean (keepdim; dims, where not height and width), flatten (all but N), dropout (p)
    max_pool, avg_pool, adaptive_pool       the arguments of torch's module
    pad            padding: zeros left, right, above and below the map
    pixel_shuffle  factor
    interpolate    the arguments of torch's function; `like` names the value whose height and width it takes
    permute        dims, as of torch; N stays first
    merge          start, end: one axis in place of these; unmerge: axis, sizes: two in place of one, each size a number
                   or [axis, divisor] of the value that `like` names; unsqueeze, squeeze: axis, which is 1 wide
    narrow         axis, start, stop: these positions, such as the tokens without the first; pick: axis, index
    output         structure: what the network returns, with the names of values in place of the values

In plans, operations on another axis than 1 name it where they need it. A layer is named by the path of its module in
the model, so that state dicts keep their names.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

# Operations that move values about and compute nothing, channel by channel.
VIEWS = frozenset(["permute", "merge", "unmerge", "unsqueeze", "squeeze", "narrow", "pick"])
# Channel c of the result depends on channel c of the only input, and on no other.
CHANNELWISE = VIEWS | frozenset(
    {"format", "norm", "shift", "scale", "scalar", "embed", "prepend", "relu", "act", "dropout", "mean"}
    | {"max_pool", "avg_pool", "adaptive_pool", "interpolate", "pad"}
)
LAYERS = frozenset(["conv", "conv_transpose", "linear"])


@dataclass
class Node:
    """One operation. `settings` is plain data; `tensors` are a layer's parameters and buffers by name.

    shape: the result's without N, such as (C, H, W), for the example input. Other heights and widths work as well.
    axis: the result's channels, counted with N.
    """

    name: str
    op: str
    inputs: list[str]
    settings: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    axis: int = 1

    @property
    def channels(self) -> int:
        return self.shape[self.axis - 1]

    @property
    def groups(self) -> int:
        return int(self.settings.get("groups", 1))

    @property
    def padded(self) -> bool:
        """Whether zeros around the input count, so that a constant does not give a constant at the borders."""
        if self.op == "conv_transpose":  # pixels of the result are sums of different numbers of weights
            return True
        padding = self.settings.get("padding", 0)
        zeros = any(padding) if isinstance(padding, tuple | list) else bool(padding)
        return zeros and (self.op in ("conv", "pad") or (self.op == "avg_pool" and self.settings["count_include_pad"]))

    @property
    def depthwise(self) -> bool:
        """Whether each channel of the result has one channel of the input for itself."""
        if self.op not in ("conv", "conv_transpose") or self.groups == 1:
            return False
        return tuple(self.tensors["weight"].shape[:2]) == (self.groups, 1)

    @property
    def sources(self) -> list[str]:
        """All values that the node needs, including the value of which it reads only height and width."""
        return [*self.inputs, *([self.settings["like"]] if "like" in self.settings else [])]

    def resized(self, channels: int) -> tuple[int, ...]:
        """The shape with another number of channels."""
        return (*self.shape[: self.axis - 1], channels, *self.shape[self.axis :])


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
