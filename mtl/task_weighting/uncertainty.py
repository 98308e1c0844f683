"""Weights from each task's learned uncertainty."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtl.task_weighting.base import WeightedSum
from mtl.tasks import Task


class UncertaintyWeighting(WeightedSum):
    """Kendall et al. 2018: sum_t exp(-s_t) L_t + s_t, halved for regressions, with s_t = log sigma_t^2 learned.

    The log-variances are parameters of this module: they train only if its parameters are given to the optimizer.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks)
        self.log_variances = nn.ParameterDict({task.name: nn.Parameter(torch.zeros(())) for task in tasks})
        self._factor = {task.name: 0.5 if task.kind in ("depth", "normals") else 1.0 for task in tasks}

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        terms = [
            self._factor[name] * (torch.exp(-self.log_variances[name]) * loss + self.log_variances[name])
            for name, loss in losses.items()
        ]
        return torch.stack(terms).sum()
