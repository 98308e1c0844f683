"""Whether a network without some channels computes what it computes with zeros in their place, by trying it."""

import copy
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from mtl.networks.measurement import evaluating
from mtl.optimizer import ProximalAdamW
from mtl.selection.groups import ChannelGroups
from mtl.selection.removal import Removal

TOLERANCE = 1e-9  # of the largest output, in float64
WHY = "the model computes something else, or nothing, without some of these channels"


def leave_out_inexact(model: nn.Module, groups: ChannelGroups, images: Tensor) -> None:
    """Have all channels of those groups stay of which half cannot go.

    The graph of a network cannot tell everything: an operation may mix the channels that it is given, such as a norm
    without weights, or may want a number of them that is written in the code.
    """
    # In few trials where few groups are at fault: half of those in question at a time.
    question = [range(len(groups.groups))]
    bad: list[int] = []
    while question:
        numbers = question.pop()
        if not numbers or is_exact(model, groups, numbers, images):
            continue
        if len(numbers) == 1:
            bad += numbers
        else:
            middle = len(numbers) // 2
            question += [numbers[:middle], numbers[middle:]]
    if bad:
        groups.leave_out(bad, WHY)


def is_exact(model: nn.Module, groups: ChannelGroups, numbers: Collection[int], images: Tensor) -> bool:
    """Whether each other channel of these groups can go; model and groups stay as they are."""
    generator = torch.Generator().manual_seed(0)
    tried, its = copy.deepcopy((model, groups))
    tried.double()
    with torch.no_grad(), evaluating(tried):
        for name, tensor in tried.state_dict().items():
            # What starts at zero would hide what is behind it.
            if tensor.is_floating_point() and not name.endswith("running_var"):
                noise = 0.1 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                tensor.copy_(torch.where(tensor == 0, noise.to(tensor.device), tensor))
        its.keep(
            [
                torch.arange(group.size) % 2 == 0 if number in numbers else torch.ones(group.size, dtype=torch.bool)
                for number, group in enumerate(its.groups)
            ]
        )
        its.clear()
        noise = torch.randn(images.shape, generator=generator, dtype=torch.float64).to(images.device)
        expected = _outputs(tried(noise))
        try:
            Removal(tried).remove(its, ProximalAdamW(list(tried.parameters())))
            found = _outputs(tried(noise))
        except (
            RuntimeError,
            ValueError,
            TypeError,
            IndexError,
            AssertionError,
        ):  # whatever the model's own code raises
            return False
    return len(expected) == len(found) and all(map(_close, found, expected))


def _close(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    largest = float(expected.abs().max()) if expected.numel() else 0.0
    return bool(((found - expected).abs() <= TOLERANCE * max(largest, 1e-30)).all())


def _outputs(value: object) -> Sequence[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for one in value.values() for tensor in _outputs(one)]
    if isinstance(value, list | tuple):
        return [tensor for one in value for tensor in _outputs(one)]
    return []
