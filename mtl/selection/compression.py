"""What makes a network smaller while it trains, as the training sees it."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from mtl.config import TrialConfig
from mtl.networks.backbones import DilatedResNet
from mtl.networks.model import MultiTaskModel, last_layer
from mtl.optimizer import ProximalAdamW
from mtl.selection.exact import leave_out_inexact
from mtl.selection.groups import ChannelGroups
from mtl.selection.pruned_once import Criterion, PrunedOnce
from mtl.selection.selector import Importance, Selector
from mtl.selection.target import make_penalty_to_target

IMPORTANCES: dict[str, Importance] = {
    "selection": "taylor",
    "path": "taylor",
    "magnitude": "magnitude",
    "random": "random",
}
CRITERIA: dict[str, Criterion] = {"torch_pruning_norm": "norm", "torch_pruning_taylor": "taylor"}


class Compression(Protocol):
    """Takes channels away between two steps of a training, and keeps at zero what is gone.

    `observe` is called between each backward pass and the optimizer's step, `apply` after the step. After each epoch
    the channels that are gone are taken out of the network, and `removed` is told what stayed. The state is tensors
    and plain data, of the groups as they are then, and resumes to the same numbers.

    Attributes:
        groups: those whose channels go; None as long as channels that have gone may come back.
        last_step: the number of steps after which no more channels go.
    """

    @property
    def groups(self) -> ChannelGroups | None: ...

    @property
    def last_step(self) -> int: ...

    def observe(self) -> None: ...

    def apply(self) -> None: ...

    def removed(self, stayed: Sequence[Tensor]) -> None: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def make_compression(
    config: TrialConfig, model: MultiTaskModel, optimizer: ProximalAdamW, steps: int
) -> Compression | None:
    """That of the trial's compressor; None for one that leaves the training alone.

    Args:
        optimizer: of the model's parameters; `mtl.training.make_optimizer` has set up its penalties.
        steps: of the whole training.

    Raises BadInput where the network cannot be made so small.
    """
    if config.compressor in CRITERIA:
        step = min(max(1, round(config.prune_at * steps)), steps)
        criterion, watched = CRITERIA[config.compressor], math.ceil(steps / config.epochs)
        groups = channel_groups(model, config.image_size)
        return PrunedOnce(model, groups, config.image_size, criterion, config.target_macs, step, watched)
    if config.compressor not in (*IMPORTANCES, "penalty_to_target"):
        return None
    end = max(1, round(config.select_until * steps))
    first = 0.0 if config.compressor == "path" else config.select_from
    start = min(round(first * steps), end - 1)  # few steps may round to the same
    groups = channel_groups(model, config.image_size)
    if config.compressor == "penalty_to_target":
        return make_penalty_to_target(config, model, groups, optimizer, (start, end))
    return Selector(groups, IMPORTANCES[config.compressor], config.target_macs, (start, end), config.seed)


def channel_groups(model: MultiTaskModel, image_size: tuple[int, int]) -> ChannelGroups:
    """The model's channels that must go together; what its heads give stays.

    Where the backbone is not one of our ResNets, channels are tried first: those stay without which the model would
    compute something else.
    """
    images: Tensor = torch.zeros(1, 3, *image_size, device=next(model.parameters()).device)
    outputs = [last_layer(head) for head in model.heads.values()]
    groups = ChannelGroups(model, images, outputs)
    if not isinstance(model.backbone, DilatedResNet):
        leave_out_inexact(model, groups, images)
    return groups
