"""In which order the live channels of each value lie in memory."""

import torch

from mtl.compaction.constants import Constants
from mtl.compaction.graph import CHANNELWISE, Program
from mtl.compaction.liveness import Live, reads


def channel_order(program: Program, constants: Constants, live: Live) -> dict[str, list[int]]:
    """For each live value its live channels, in the order in which the compact network has them.

    Values that share their channels, such as those along a residual stream, have one order, so that an addition reads
    them as they lie. What is live longest along the stream comes first: as fewer channels are needed from block to
    block, the later ones are a run of the earlier ones. Channels that live equally long are in the order of who reads
    them, by the layer that reads most, then by the next: training has the readers of a stream agree on much, and so
    each reads a few runs, which are cheap to copy in channels_last. Values that meet in a concatenation, an output or a
    flattening keep the order of the channels' numbers.
    """
    stream = _streams(program, live)
    fixed = set()
    for node in program.nodes.values():
        if node.op in ("input", "cat", "flatten", "output"):
            fixed |= {stream[name] for name in [node.name, *node.inputs] if name in stream}
    counts: dict[str, torch.Tensor] = {}
    for name, mask in live.items():
        counts[stream[name]] = counts.get(stream[name], torch.zeros(len(mask), dtype=torch.int64)) + mask
    readers: dict[str, list[torch.Tensor]] = {}
    for node in program.nodes.values():
        if node.op in ("conv", "linear") and node.name in live:
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
