"""Weightings that make one number of the losses, through TorchJD."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchjd.scalarization import IMTLL, Scalarizer

from mtl.task_weighting.base import WeightedSum
from mtl.tasks import Task


class Scalarized(WeightedSum):
    """scale x scalarizer(losses); what the scalarizer learns are parameters of this module.

    scale: brings it to the scale of the plain sum, as `aggregation` says why. A single task's loss stays as it is.
    """

    def __init__(self, tasks: Sequence[Task], scalarizer: Scalarizer, scale: int = 1) -> None:
        super().__init__(tasks)
        self.scalarizer, self._scale = scalarizer, scale
        self.pure = isinstance(scalarizer, IMTLL)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        values = torch.stack(list(losses.values()))
        return self._scale * self.scalarizer(values) if len(values) > 1 else values[0]
