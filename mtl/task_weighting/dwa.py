"""Weights from how slowly each task's loss falls from epoch to epoch."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl.task_weighting.base import WeightedSum
from mtl.tasks import Task

TEMPERATURE = 2.0
TINY = 1e-12


class DynamicWeightAverage(WeightedSum):
    """Liu, Johns, Davison 2019 (arXiv 1803.10704), equation 7: sum_t w_t L_t, with w_t fixed for an epoch.

    w_t = T exp(r_t / 2) / sum_s exp(r_s / 2), for T tasks, where r_t is the ratio of the task's mean losses in the last
    two epochs; all are 1 in the first two epochs, which have no two before them.
    """

    pure = True
    weights: Tensor
    previous: Tensor

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks)
        self.register_buffer("weights", torch.ones(len(tasks)))
        self.register_buffer("previous", torch.full((len(tasks),), torch.nan))

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        return (self.weights * torch.stack(list(losses.values()))).sum()

    def epoch_ended(self, losses: Mapping[str, float]) -> None:
        latest = torch.tensor(list(losses.values()), device=self.previous.device)
        if not self.previous.isnan().any():
            rates = latest / self.previous.clamp(min=TINY)
            self.weights.copy_(len(losses) * torch.softmax(rates / TEMPERATURE, dim=0))
        self.previous.copy_(latest)
