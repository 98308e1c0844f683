"""Channels that are taken from a network at random, and training on without them."""

import copy
from typing import Any

import torch
from torch import Tensor

from mtl.networks.measurement import count_macs
from mtl.selection.groups import ChannelGroups


def drop_some(groups: ChannelGroups, share: float, generator: torch.Generator) -> None:
    """Let about this share of the channels go, and set them to zero; the first of each group stays."""
    kept = [torch.rand(group.size, generator=generator) > share for group in groups.groups]
    for one in kept:
        one[0] = True
    groups.keep(kept)
    groups.clear()


def check_training_on(zeros: Any, less: Any, size: tuple[int, int], steps: int, tolerance: float) -> None:
    """Two trainings of equal models in float64, with `model`, `groups`, `optimizer`, `removal` and `steps`: one with
    zeros in place of channels and one without them come to the same weights and outputs."""
    data = [torch.Generator().manual_seed(1) for _ in range(2)]
    masks: list[Tensor] = []
    for share in (0.0, 0.4, 0.4):  # twice: what has been removed from can be removed from again
        drop_some(less.groups, share, torch.Generator().manual_seed(2))
        masks = [one.clone() for one in masks] or [torch.ones(g.size, dtype=torch.bool) for g in zeros.groups.groups]
        for mask, alive in zip(masks, less.groups.alive, strict=True):
            mask[mask.clone()] = alive
        zeros.groups.keep(masks)
        zeros.groups.clear()
        cost = less.groups.macs()
        less.removal.remove(less.groups, less.optimizer)
        assert less.groups.macs() == cost == zeros.groups.macs() == count_macs(copy.deepcopy(less.model).float(), size)
        zeros.steps(steps, data[0])
        less.steps(steps, data[1])
    assert all(torch.equal(a, b) for a, b in zip(less.groups.kept, masks, strict=True))
    whole = less.removal.whole().state_dict()
    for name, value in zeros.model.state_dict().items():
        if "running" not in name:  # of channels that are gone they mean nothing
            torch.testing.assert_close(whole[name], value, rtol=1e3 * tolerance, atol=tolerance, msg=name)
    images = torch.randn(2, 3, *size, dtype=torch.float64, generator=data[0])
    for one in (zeros.model, less.model, less.removal.whole()):
        one.eval()
    expected = zeros.model(images)
    for smaller in (less.model, less.removal.whole()):
        for task, output in smaller(images).items():
            torch.testing.assert_close(output, expected[task], rtol=1e-7, atol=tolerance)
