"""A second training of the network that the penalty found: from its own weights, or from new ones.

Garg et al. 2023 (arXiv 2304.06840) find that new weights do better where little is left.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from mtl.compaction import build, compact
from mtl.config import Penalised, TrialConfig
from mtl.networks.costs import model_costs
from mtl.networks.model import MultiTaskModel, build_model
from mtl.sparsity import measure_sparsity, surviving_groups
from mtl.tasks import Task


@dataclass(frozen=True)
class FirstTraining:
    """What the second training keeps of the first: plain data and tensors.

    epochs: how many it ran. plan: of the compacted backbone, with its batch norms. survivors: for each convolution of
    the original backbone which input channels are not zero, (C,) bool. groups, weights: how many it had in all.
    costs: see `mtl.networks.costs`; new weights do not change them.
    """

    epochs: int
    plan: list[dict[str, Any]]
    survivors: dict[str, Tensor]
    groups: int
    weights: int
    costs: dict[str, float]


def end_first_training(
    model: MultiTaskModel, config: TrialConfig, epochs: int
) -> tuple[FirstTraining, dict[str, Tensor]]:
    """What is left of a model, and the weights of its compact form, a state dict for `new_compact_model`'s."""
    device = next(model.parameters()).device
    images = torch.zeros(1, 3, *config.image_size, device=device)
    backbone = compact(model.backbone, images, fold=False, selections="always", memory_format="channels_last")
    layers = measure_sparsity(model).layers
    first = FirstTraining(
        epochs=epochs,
        plan=backbone.meta["plan"],
        survivors={name: torch.from_numpy(alive) for name, alive in surviving_groups(model).items()},
        groups=sum(layer.groups for layer in layers),
        weights=sum(layer.weights for layer in layers),
        costs=model_costs(model, config.image_size, latency=config.measure_latency),
    )
    return first, MultiTaskModel(backbone, dict(model.heads.items())).state_dict()


def new_compact_model(plan: list[dict[str, Any]], config: TrialConfig, tasks: Sequence[Task]) -> MultiTaskModel:
    """A planned backbone and its heads with new weights, drawn as those of `model.build_model` are."""
    heads = cast(MultiTaskModel, build_model(config, tasks)).heads
    backbone = build(plan)
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return MultiTaskModel(backbone, dict(heads.items()))


def sparsities(model: nn.Module, first: FirstTraining | None, penalised: Penalised = "backbone") -> Mapping[str, float]:
    """`group_sparsity` and `parameter_sparsity`, fractions of the penalised groups and weights of the original network.

    What was removed counts as zero, including the weights of filters that nothing read, whatever their values.
    """
    sparsity = measure_sparsity(model, penalised)
    if first is None:
        return {"group_sparsity": sparsity.group_sparsity, "parameter_sparsity": sparsity.parameter_sparsity}
    groups = sum(layer.groups - layer.zero_groups for layer in sparsity.layers)
    weights = sum(layer.weights - layer.zero_weights for layer in sparsity.layers)
    return {"group_sparsity": 1 - groups / first.groups, "parameter_sparsity": 1 - weights / first.weights}
