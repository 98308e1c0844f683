"""Which channels must be computed: those that something reads that is itself computed."""

import torch
from torch import Tensor

from mtl.compaction.constants import Constants, foldable, touched
from mtl.compaction.graph import CHANNELWISE, Node, Program, sources

Live = dict[str, Tensor]


def find_live(program: Program, constants: Constants) -> Live:
    """(C,) bool for each value that is computed at all: the channels that are. Values nobody needs are absent.

    From the outputs backwards, so that what only dead channels read is dead as well. A value of which height and width
    alone matter keeps one channel.
    """
    live: Live = {}

    def need(name: str, mask: Tensor) -> None:
        live[name] = live[name] | mask if name in live else mask.clone()

    for node in reversed(program.nodes.values()):
        if node.op == "output":
            for name in node.inputs:
                need(name, torch.ones(program.channels(name), dtype=torch.bool))
            continue
        if node.name not in live:
            continue
        mask = live[node.name]
        if node.op == "input":
            mask[:] = True
            continue
        if not mask.any():
            mask[0] = True
        if node.op in ("conv", "linear"):
            need(node.inputs[0], reads(node, constants, live))
        elif node.op == "add":
            for name in summands(node, constants, live):
                need(name, mask)
        elif node.op == "cat":
            for name, part in zip(node.inputs, mask.split([program.channels(i) for i in node.inputs]), strict=True):
                if part.any():
                    need(name, part)
        elif node.op == "flatten":
            channels = program.channels(node.inputs[0])
            part = mask.view(channels, -1).any(dim=1)
            mask[:] = part.repeat_interleave(len(mask) // channels)
            need(node.inputs[0], part)
        else:
            assert node.op in CHANNELWISE, node.op
            need(node.inputs[0], mask)
        for name in sources(node)[len(node.inputs) :]:
            need(name, torch.zeros(program.channels(name), dtype=torch.bool))
    return live


def reads(node: Node, constants: Constants, live: Live) -> Tensor:
    """(C,) bool: the input channels on which the live outputs of a conv or linear depend."""
    return touched(node)[live[node.name]].any(dim=0) & ~foldable(node, constants[node.inputs[0]])


def summands(node: Node, constants: Constants, live: Live) -> list[str]:
    """The inputs of an addition that are computed: one if the other is constant in every channel that is live."""
    for position, name in enumerate(node.inputs):
        if not constants[name][live[node.name]].isnan().any():
            return [node.inputs[1 - position]]
    return node.inputs
