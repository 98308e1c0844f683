"""Smaller networks from the start, and how small a compressor can make a network: from settings alone, without torch.

A cost is a network's multiply-accumulates, heads included.
"""

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mtl.config import Compressor, TrialConfig, TrialSettings
from mtl.errors import BadInput
from mtl.networks.model_size import BLOCKS, count_macs, fewest_macs
from mtl.tasks import Task

Settings = TypeVar("Settings", bound=TrialSettings)


def widths(settings: Settings) -> list[Settings]:
    """With ever fewer channels, from all to a width of 1; those of the heads in proportion."""
    full = settings.backbone_width
    return [
        settings.model_copy(
            update={"backbone_width": width, "head_channels": max(1, round(settings.head_channels * width / full))}
        )
        for width in range(full, 0, -1)
    ]


def depths(settings: Settings) -> list[Settings]:
    """With ever fewer blocks, from all to one in each of the four stages.

    The next block goes from the stage that has the largest share of its own left, of two alike from the one nearer to
    the output, so that all stages lose blocks evenly.
    """
    full = settings.backbone_layers or BLOCKS[settings.backbone][1]
    left, found = list(full), [tuple(full)]
    while max(left) > 1:
        stage = max(
            (stage for stage in range(4) if left[stage] > 1), key=lambda stage: (left[stage] / full[stage], stage)
        )
        left[stage] -= 1
        found.append(tuple(left))
    return [settings.model_copy(update={"backbone_layers": layers}) for layers in found]


# Compressors that begin with a smaller network, each with its sizes from large to small. For the others, what is left
# at least is one channel in each layer.
SIZES: Mapping[str, Callable[[Settings], list[Settings]]] = {"narrow": widths, "shallow": depths}
ONE_CHANNEL = "one channel in each layer"


def smallest_words(compressor: Compressor, settings: TrialSettings) -> str:
    """The smallest network that a compressor can give, in words."""
    if compressor == "narrow":
        return "a width of 1" if settings.network in BLOCKS else "a twentieth of its channels"
    return "one block in each stage" if compressor == "shallow" else ONE_CHANNEL


def resized(config: TrialConfig, tasks: Sequence[Task]) -> TrialConfig:
    """With the largest network of its compressor that costs no more than `target_macs` of the full one.

    Raises BadInput where the smallest costs more.
    """
    sizes = SIZES[config.compressor](config)
    full = count_macs(config, tasks)
    # Costs fall along the sizes: the first that fits is the largest.
    first = bisect.bisect_left(sizes, True, key=lambda size: count_macs(size, tasks) <= config.target_macs * full)
    if first == len(sizes):
        least = rounded_up(least_macs(config.compressor, config, tasks) / full)
        raise BadInput(f"target_macs = {config.target_macs:g}; allowed with {config.compressor}: {least:g} or more")
    return sizes[first]


def least_macs(compressor: Compressor, settings: TrialSettings, tasks: Sequence[Task]) -> int:
    """The cost of the smallest network that a compressor can give."""
    if compressor == "narrow" and settings.network not in BLOCKS:
        # Imported only for such networks, as it needs torch.
        from mtl.networks.narrow import narrowest_macs

        return narrowest_macs(settings, tasks)
    if compressor in SIZES:
        return count_macs(SIZES[compressor](settings)[-1], tasks)
    return fewest_macs(settings, tasks, compressor)


def rounded_up(share: float) -> float:
    """To two digits, so that what a message names as the least is allowed."""
    digits = 1 - math.floor(math.log10(share))
    return math.ceil(share * 10**digits) / 10**digits
