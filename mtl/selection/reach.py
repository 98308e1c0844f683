"""What a trial's network costs at first, and how small its compressor can make it: known without training it."""

from collections.abc import Sequence

from mtl.config import TrialConfig
from mtl.networks.measurement import count_macs
from mtl.networks.model import build_model
from mtl.selection.compression import IMPORTANCES, channel_groups
from mtl.tasks import Task


def dense_macs(config: TrialConfig, tasks: Sequence[Task]) -> int:
    """Multiply-accumulates of one image, heads included, of the network that nothing makes smaller."""
    return count_macs(build_model(_dense(config), tasks), config.image_size)


def least_share(config: TrialConfig, tasks: Sequence[Task]) -> float:
    """The smallest share of them that the trial's compressor can leave; 0 for the penalty, which can take all."""
    if config.compressor in IMPORTANCES:
        groups = channel_groups(build_model(_dense(config), tasks), config.image_size)
        return groups.smallest_macs() / groups.macs()
    if config.compressor != "narrow":
        return 0.0
    heads = max(1, round(config.head_channels / config.backbone_width))
    narrowest = config.model_copy(update={"backbone_width": 1, "head_channels": heads})
    return dense_macs(narrowest, tasks) / dense_macs(config, tasks)


def _dense(config: TrialConfig) -> TrialConfig:
    return config.model_copy(update={"compressor": "penalty", "target_macs": 1.0})
