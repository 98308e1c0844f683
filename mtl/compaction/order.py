"""In which order the live channels of each value lie in memory."""

import torch

from mtl.compaction.graph import CHANNELWISE, Program
from mtl.compaction.liveness import Live


def channel_order(program: Program, live: Live) -> dict[str, list[int]]:
    """For each live value its live channels, in the order in which the compact network has them.

    Values that share their channels, such as those along a residual stream, have one order, so that an addition reads
    them as they lie. What is live longest along the stream comes first: as fewer channels are needed from block to
    block, the later ones are a run of the earlier ones, which is read without an index. Values that meet in a
    concatenation, an output or a flattening keep the order of the channels' numbers.
    """
    stream = _streams(program, live)
    fixed = set()
    for node in program.nodes.values():
        if node.op in ("input", "cat", "flatten", "output"):
            fixed |= {stream[name] for name in [node.name, *node.inputs] if name in stream}
    counts: dict[str, torch.Tensor] = {}
    for name, mask in live.items():
        counts[stream[name]] = counts.get(stream[name], torch.zeros(len(mask), dtype=torch.int64)) + mask
    order = {}
    for name, mask in live.items():
        channels = mask.nonzero().flatten().tolist()
        if stream[name] not in fixed:
            channels.sort(key=counts[stream[name]].tolist().__getitem__, reverse=True)  # stable
        order[name] = channels
    return order


def _streams(program: Program, live: Live) -> dict[str, str]:
    """For each live value the name of one that stands for all with which it shares its channels."""
    parent = {name: name for name in live}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in program.nodes.values():
        if node.name in live and (node.op in CHANNELWISE or node.op == "add"):
            for name in node.inputs:
                if name in live:  # not so where it is a constant
                    parent[root(name)] = root(node.name)
    return {name: root(name) for name in live}
