"""Weightings that look at every task's gradient of the whole backbone, through TorchJD."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchjd.aggregation import GramianWeightedAggregator, Weighting
from torchjd.autojac import jac_to_grad, mtl_backward
from torchjd.linalg import PSDMatrix

from mtl.networks.model import MultiTaskModel
from mtl.task_weighting.base import TaskWeighting
from mtl.tasks import Task


class GradientAggregation(TaskWeighting):
    """The backbone gets a combination sum_t a_t g_t of the tasks' gradients g_t, each head that of its own loss.

    weighting: gives a_t from the Gramian g_s . g_t. mean: whether its a_t are of the scale of a mean, and not of a sum.
    precision: that which the weighting computes in.

    They are brought to the scale of the plain sum, a_t = 1, so that a penalty's strength weighs against gradients of
    like size under every weighting. Where the Gramian is not finite a_t = 1: the optimizer then refuses the gradient
    and names the parameter.

    Costs a backward pass through the backbone for each task, and memory for its gradients: tasks x parameters, twice
    while they are put together.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        weighting: Weighting[PSDMatrix],
        mean: bool = False,
        precision: torch.dtype = torch.float64,
    ) -> None:
        super().__init__(tasks)
        self._aggregator = GramianWeightedAggregator(_OnHost(weighting, len(tasks) if mean else 1, precision))

    def backward(self, losses: Mapping[str, Tensor], features: Tensor, model: MultiTaskModel) -> None:
        if len(losses) == 1:
            next(iter(losses.values())).backward()
            return
        shared = list(model.backbone.parameters())
        heads = [list(model.heads[name].parameters()) for name in losses]
        # One task at a time: vmap over tasks falls back to loops for kernels that it does not know, and takes the
        # memory of all tasks' activations at once.
        mtl_backward(list(losses.values()), features, tasks_params=heads, shared_params=shared, parallel_chunk_size=1)
        jac_to_grad(shared, self._aggregator, optimize_gramian_computation=True)


class _OnHost(Weighting[PSDMatrix]):
    """Another weighting, times `scale`, of the Gramian divided by its trace, on CPU.

    The result does not depend on the unit of the gradients, but CAGradWeighting takes short gradients for zero. And
    these methods loop over single numbers, for each of which they would wait for a device.
    """

    def __init__(self, weighting: Weighting[PSDMatrix], scale: int, precision: torch.dtype) -> None:
        super().__init__()
        self._weighting, self._scale, self._precision = weighting, scale, precision

    def forward(self, gramian: Tensor, /) -> Tensor:
        small = gramian.to("cpu", torch.float64)
        small = (small / small.trace()).to(self._precision)
        # It is not finite either where all gradients are 0.
        weights = self._scale * self._weighting(small) if small.isfinite().all() else torch.ones(len(small))
        return weights.to(gramian)
