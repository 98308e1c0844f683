"""A program of the live channels alone."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mtl.compaction.channels import Constants, Live, effect, foldable, operands, reads
from mtl.compaction.fold import add_bias
from mtl.compaction.graph import CHANNELWISE, LAYERS, Node, Program, renamed
from mtl.compaction.kernels import part_of

Chooser = Callable[[Node, Node, Sequence[int]], bool]
"""Given a layer, the node of its whole input, and the positions of the channels that it uses: whether the layer shall
read a selection of these channels alone."""


def rewrite(program: Program, constants: Constants, live: Live, choose: Chooser) -> Program:
    """The program with live channels only, constants folded, and selections where `choose` says so.

    The order of channels may change within the network; in the outputs it stays.
    """
    return _Rewriting(program, constants, live, choose).new


def runs(index: Sequence[int]) -> list[list[int]]:
    """Positions as [start, stop] of those that follow one another."""
    found: list[list[int]] = []
    for position in index:
        if found and found[-1][1] == position:
            found[-1][1] += 1
        else:
            found.append([position, position + 1])
    return found


class _Rewriting:
    def __init__(self, program: Program, constants: Constants, live: Live, choose: Chooser) -> None:
        self.old, self.constants, self.live, self.choose = program, constants, live, choose
        self.order = _channel_order(program, constants, live)
        self.new = Program()
        self.names: dict[str, str] = {}  # from a value's name in the old program to that in the new program
        for node in program.values():
            if node.op == "output":
                whole = {name: self._selected(name, range(len(live[name]))) for name in node.inputs}
                settings = {"structure": renamed(node.settings["structure"], whole)}
                self.new[node.name] = Node(node.name, "output", renamed(node.inputs, whole), settings)
            elif node.name in live:
                new = self._rewritten(node, self.order[node.name])
                self.names[node.name] = new if isinstance(new, str) else new.name
                if isinstance(new, Node):
                    new.shape, new.axis = node.resized(len(self.order[node.name])), node.axis
                    self.new[new.name] = new

    def _rewritten(self, node: Node, order: list[int]) -> Node | str:
        """The new node, or the name of an earlier value that is the same."""
        settings = dict(node.settings)
        if "like" in settings:
            settings["like"] = self.names[settings["like"]]
        source = node.inputs[0] if node.inputs else ""
        match node.op:
            case op if op in LAYERS:
                return self._layer(node, order) if node.groups == 1 else self._grouped(node, order)
            case "add" | "mul":
                return self._joined(node, order)
            case "cat":
                inputs, start = [], 0
                for name in node.inputs:
                    stop = start + self.old[name].channels
                    part = [c - start for c in order if start <= c < stop]
                    inputs += [self._selected(name, part)] if part else []
                    start = stop
                return inputs[0] if len(inputs) == 1 else Node(node.name, "cat", inputs)
            case "part":
                return self._selected(source, [settings["start"] + c for c in order])
            case "flatten":
                pixels = node.channels // self.old[source].channels
                return Node(node.name, "flatten", [self._selected(source, [c // pixels for c in order[::pixels]])])
            case "pixel_shuffle":
                square = settings["factor"] ** 2
                wanted = [c * square + i for c in order for i in range(square)]
                return Node(node.name, node.op, [self._selected(source, wanted)], settings)
            case "attend":
                wanted = [part * node.channels + c for part in range(3) for c in order]
                settings["heads"] = len(order) // settings["size"]
                return Node(node.name, node.op, [self._selected(source, wanted)], settings)
            case "group_norm":
                settings["groups"] = len(order) * settings["groups"] // node.channels
        tensors = {
            name: value.index_select(0 if value.ndim == 1 else node.axis, torch.tensor(order, device=value.device))
            for name, value in node.tensors.items()
        }
        return Node(node.name, node.op, [self._selected(name, order) for name in node.inputs], settings, tensors)

    def _joined(self, node: Node, order: list[int]) -> Node:
        kept = operands(node, self.old, self.constants, self.live)
        inputs = [self._selected(name, order) for name in kept]
        if len(kept) == 2:
            return Node(node.name, node.op, inputs, dict(node.settings))
        constant = self.constants[node.inputs[1] if kept[0] == node.inputs[0] else node.inputs[0]][order]
        if node.op == "add":
            return Node(node.name, "shift", inputs, tensors={"bias": constant})
        return Node(node.name, "scale", inputs, tensors={"weight": constant})

    def _layer(self, node: Node, order: list[int]) -> Node:
        source = node.inputs[0]
        used, available = reads(node, self.constants, self.live), self.order[source]
        dim = 0 if node.op == "conv_transpose" else 1  # of the weight, that of the inputs
        # The other channels that it is given must not count, nor those that are folded into the bias.
        weight = _masked(part_of(node, order, available)[0], used[available], dim)
        layer = self._with_bias(node, order, weight)
        index = [position for position, c in enumerate(available) if used[c]] or [0]
        whole = self.new[self.names[source]]
        if len(index) < len(available) and self.choose(layer, whole, index):
            layer.inputs = [self._selected(source, [available[i] for i in index])]
            layer.tensors["weight"] = weight[:, index].contiguous() if dim else weight[index]
        return self._with_effect(node, order, layer)

    def _grouped(self, node: Node, order: list[int]) -> Node:
        source = node.inputs[0]
        used = reads(node, self.constants, self.live)
        wanted = order if node.depthwise else used.nonzero().flatten().tolist()
        weight, groups = part_of(node, order, wanted)
        counts = ~foldable(node, self.constants[source])[wanted]
        if node.op == "conv_transpose":
            weight = _masked(weight, counts, 0)
        else:
            own = counts.view(groups, -1).repeat_interleave(len(order) // groups, dim=0)
            weight = torch.where(own[:, :, None, None].to(weight.device), weight, 0)
        layer = self._with_bias(node, order, weight)
        layer.settings["groups"] = groups
        layer.inputs = [self._selected(source, wanted)]
        return self._with_effect(node, order, layer)

    def _with_bias(self, node: Node, order: list[int], weight: Tensor) -> Node:
        tensors = {"weight": weight}
        if "bias" in node.tensors:
            tensors["bias"] = node.tensors["bias"][order]
        return Node(node.name, node.op, [self.names[node.inputs[0]]], dict(node.settings), tensors)

    def _with_effect(self, node: Node, order: list[int], layer: Node) -> Node:
        addition = effect(node, self.constants[node.inputs[0]])[order]
        if addition.any():
            add_bias(layer, addition)
        return layer

    def _selected(self, name: str, wanted: Sequence[int]) -> str:
        """The new name of these channels of an old value, in this order; adds a selection if there is none."""
        source, have = self.names[name], self.order[name]
        if list(wanted) == have:
            return source
        positions = {c: i for i, c in enumerate(have)}
        settings = {"runs": runs([positions[c] for c in wanted])}
        selections = [node for node in self.new.values() if node.op == "select"]
        for node in selections:
            if node.inputs == [source] and node.settings == settings:
                return node.name
        whole = self.new[source]
        shape = whole.resized(len(wanted))
        node = Node(f"select_{len(selections)}", "select", [source], settings, shape=shape, axis=whole.axis)
        self.new[node.name] = node
        return node.name


def _masked(weight: Tensor, mask: Tensor, dim: int) -> Tensor:
    """The weight with zeros where a mask along a dimension is False."""
    shape = [1] * weight.ndim
    shape[dim] = -1
    return torch.where(mask.view(shape).to(weight.device), weight, 0)


def _channel_order(program: Program, constants: Constants, live: Live) -> dict[str, list[int]]:
    """For each live value its live channels, in the order in which the compact network has them.

    Values that share their channels, such as those along a residual stream, have one order, so that an addition needs
    no reordering. The channels that stay live longest along the stream come first: from block to block fewer channels
    are needed, so that the later ones are a run of the earlier ones. Channels that live equally long are ordered by
    who reads them, by the layer that reads most and then by the next: after training, the readers of a stream agree on
    much, so that each reads a few runs, which are cheap to copy in channels_last. Values that meet in a concatenation,
    an output or a flattening, or that have groups or heads, keep the order of the channels' numbers.
    """
    stream = _streams(program, live)
    fixed = set()
    counts: dict[str, Tensor] = {}
    readers: dict[str, list[Tensor]] = {}
    for name, mask in live.items():
        counts[stream[name]] = counts.get(stream[name], torch.zeros(len(mask), dtype=torch.int64)) + mask
    for node in program.values():
        grouped = node.groups > 1 and not node.depthwise
        if grouped or node.op in ("input", "cat", "part", "flatten", "pixel_shuffle", "attend", "output"):
            fixed |= {stream[name] for name in [node.name, *node.inputs] if name in stream}
        elif node.op in LAYERS and node.groups == 1 and node.name in live:
            readers.setdefault(stream[node.inputs[0]], []).append(reads(node, constants, live))
    ranks = {}
    for name, count in counts.items():
        by_size = sorted(readers.get(name, []), key=lambda mask: -int(mask.sum()))
        keys = torch.stack([count, *by_size]).T.tolist()
        ranks[name] = [0] * len(count) if name in fixed else [tuple(-key for key in row) for row in keys]
    # Sorting is stable: equals keep the order of their numbers.
    return {
        name: sorted(mask.nonzero().flatten().tolist(), key=ranks[stream[name]].__getitem__)
        for name, mask in live.items()
    }


def _streams(program: Program, live: Live) -> dict[str, str]:
    """For each live value the name of one value that stands for all that share its channels."""
    parent = {name: name for name in live}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    alike = CHANNELWISE | {"add", "mul", "layer_norm", "group_norm", "response_norm"}
    for node in program.values():
        if node.name in live and (node.op in alike or node.depthwise):
            for name in node.inputs:
                if name in live:  # a summand that is constant is not
                    parent[root(name)] = root(node.name)
    return {name: root(name) for name in live}
