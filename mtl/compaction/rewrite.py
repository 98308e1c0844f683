"""A program of the live channels alone."""

from collections.abc import Callable, Sequence

import torch

from mtl.compaction.constants import Constants, effect
from mtl.compaction.fold import add_bias
from mtl.compaction.graph import Node, Program, renamed
from mtl.compaction.liveness import Live, reads, summands
from mtl.compaction.order import channel_order

Chooser = Callable[[Node, tuple[int, ...], Sequence[int]], bool]
"""Given a layer that reads all of an input of shape (C, H, W) or (C,), and the positions of the channels of which it
makes use: whether it is to read a selection of these alone."""


def rewrite(program: Program, constants: Constants, live: Live, choose: Chooser) -> Program:
    """The program with live channels only, the constants folded, and selections where `choose` says so.

    The channels' order may change within the network; in the outputs it stays.
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
        self.order = channel_order(program, constants, live)
        self.new = Program({}, {})
        self.names: dict[str, str] = {}  # what a value of the old program is called in the new one
        for node in program.nodes.values():
            if node.op == "output":
                self._output(node)
            elif node.name in live:
                self._rewrite(node)

    def _rewrite(self, node: Node) -> None:
        order = self.order[node.name]
        if node.op in ("conv", "linear"):
            self._layer(node)
        elif node.op == "add":
            kept = summands(node, self.constants, self.live)
            inputs = [self._selected(name, order) for name in kept]
            if len(kept) == 2:
                self._add(node, Node(node.name, "add", inputs))
            else:
                constant = node.inputs[1] if kept[0] == node.inputs[0] else node.inputs[0]
                self._add(node, Node(node.name, "shift", inputs, tensors={"bias": self.constants[constant][order]}))
        elif node.op == "cat":
            inputs, start = [], 0
            for name in node.inputs:
                stop = start + self.old.channels(name)
                part = [c - start for c in order if start <= c < stop]
                inputs += [self._selected(name, part)] if part else []
                start = stop
            if len(inputs) == 1:
                self.names[node.name] = inputs[0]
            else:
                self._add(node, Node(node.name, "cat", inputs))
        elif node.op == "flatten":
            pixels = len(self.live[node.name]) // self.old.channels(node.inputs[0])
            self._add(
                node,
                Node(node.name, "flatten", [self._selected(node.inputs[0], [c // pixels for c in order[::pixels]])]),
            )
        else:
            inputs = [self._selected(name, order) for name in node.inputs]
            settings = dict(node.settings)
            if "like" in settings:
                settings["like"] = self.names[settings["like"]]
            tensors = {name: value[order] for name, value in node.tensors.items()}
            self._add(node, Node(node.name, node.op, inputs, settings, tensors))

    def _layer(self, node: Node) -> None:
        order, source = self.order[node.name], node.inputs[0]
        used = reads(node, self.constants, self.live)
        available = self.order[source]
        index = [position for position, c in enumerate(available) if used[c]]
        weight = node.tensors["weight"][order]
        # Other channels that it is given must not count, those included that are folded into the bias.
        mask = used.to(weight.device).view(1, -1, *[1] * (weight.ndim - 2))
        tensors = {"weight": torch.where(mask, weight, 0)[:, available]}
        if "bias" in node.tensors:
            tensors["bias"] = node.tensors["bias"][order]
        layer = Node(node.name, node.op, [self.names[source]], dict(node.settings), tensors)
        shape = self.new.shapes[self.names[source]]
        index = index or [0]
        if len(index) < len(available) and self.choose(layer, shape, index):
            layer.inputs = [self._selected(source, [available[i] for i in index])]
            layer.tensors["weight"] = layer.tensors["weight"][:, index].contiguous()
        addition = effect(node, self.constants[source])[order]
        if addition.any():
            add_bias(layer, addition)
        self._add(node, layer)

    def _selected(self, name: str, wanted: Sequence[int]) -> str:
        """The name of the value of these channels of an old value, in this order."""
        have = self.order[name]
        if list(wanted) == list(have):
            return self.names[name]
        positions = {c: i for i, c in enumerate(have)}
        index = [positions[c] for c in wanted]
        source = self.names[name]
        settings = {"runs": runs(index)}
        for node in self.new.nodes.values():
            if node.op == "select" and node.inputs == [source] and node.settings == settings:
                return node.name
        number = sum(n.op == "select" for n in self.new.nodes.values())
        node = Node(f"select_{number}", "select", [source], settings)
        self.new.nodes[node.name] = node
        self.new.shapes[node.name] = (len(index), *self.new.shapes[source][1:])
        return node.name

    def _output(self, node: Node) -> None:
        whole = {name: self._selected(name, range(self.old.channels(name))) for name in node.inputs}
        structure = renamed(node.settings["structure"], whole)
        self.new.nodes[node.name] = Node(node.name, "output", [whole[n] for n in node.inputs], {"structure": structure})

    def _add(self, old: Node, new: Node) -> None:
        self.names[old.name] = new.name
        self.new.nodes[new.name] = new
        self.new.shapes[new.name] = (len(self.order[old.name]), *self.old.shapes[old.name][1:])
