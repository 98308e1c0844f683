"""Channels that are taken from a network at random."""

import torch

from mtl.selection.groups import ChannelGroups


def drop_some(groups: ChannelGroups, share: float, generator: torch.Generator) -> None:
    """Let about this share of the channels go, and set them to zero; the first of each group stays."""
    kept = [torch.rand(group.size, generator=generator) > share for group in groups.groups]
    for one in kept:
        one[0] = True
    groups.keep(kept)
    groups.clear()
