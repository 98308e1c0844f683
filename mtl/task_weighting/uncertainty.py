"""Weights from each task's learned uncertainty."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtl.task_weighting.base import WeightedSum
from mtl.tasks import Task


class UncertaintyWeighting(WeightedSum):
    """sum_t f_t (exp(-s_t) L_t + s_t) with s_t = log sigma_t^2 learned; f_t is 1/2 for what is
    regressed (depth, disparity, normals, numbers), else 1.

    The form of arXiv 2308.12114, after Kendall, Gal & Cipolla 2018 (arXiv 1705.07115). For regressions it is theirs.
    For labels their paper has exp(-s_t) L_t + s_t / 2; exp(-s_t) L_t + s_t is in the code that they published with it.
    Liebel & Körner 2018 (arXiv 1805.06334) have another, L_t / (2 sigma_t^2) + log(1 + sigma_t^2).

    For constant losses the optimum is s_t = log L_t, where the network's gradient is that of sum_t f_t log L_t. The
    log-variances are parameters of this module, and train only if the optimizer has them.
    """

    pure = True

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks)
        self.log_variances = nn.ParameterDict({task.name: nn.Parameter(torch.zeros(())) for task in tasks})
        regressed = ("depth", "disparity", "normals", "regression")
        self._factor = {task.name: 0.5 if task.kind in regressed else 1.0 for task in tasks}

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        terms = [
            self._factor[name] * (torch.exp(-self.log_variances[name]) * loss + self.log_variances[name])
            for name, loss in losses.items()
        ]
        return torch.stack(terms).sum()
