"""Weightings that look at every task's gradient of the whole backbone, through TorchJD."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchjd.aggregation import CAGradWeighting, GramianWeightedAggregator, MGDAWeighting, PCGradWeighting, Weighting
from torchjd.autojac import jac_to_grad, mtl_backward
from torchjd.linalg import PSDMatrix

from mtl.networks.model import MultiTaskModel
from mtl.task_weighting.base import TaskWeighting
from mtl.task_weighting.nash import NashBargaining
from mtl.tasks import Task


class GradientAggregation(TaskWeighting):
    """The backbone gets a combination sum_t a_t g_t of the tasks' gradients g_t, each head that of its own loss.

    The a_t follow from the Gramian g_s . g_t; they are of the scale of the plain sum, a_t = 1, so that a penalty's
    strength weighs against gradients of like size under every weighting. Where the Gramian is not finite a_t = 1: the
    optimizer then refuses the gradient and names the parameter.

    Costs a pass backward through the backbone for each task, and memory for its gradients: tasks x parameters, twice
    while they are put together.
    """

    def __init__(self, tasks: Sequence[Task], weighting: Weighting[PSDMatrix], scale: float = 1.0) -> None:
        super().__init__(tasks)
        self._aggregator = GramianWeightedAggregator(_OnHost(weighting, scale))

    def backward(self, losses: Mapping[str, Tensor], features: Tensor, model: MultiTaskModel) -> None:
        if len(losses) == 1:
            next(iter(losses.values())).backward()
            return
        shared = list(model.backbone.parameters())
        # A task at a time: vmap over tasks falls back to loops for kernels that it does not know, and takes the memory
        # of all tasks' activations at once.
        mtl_backward(
            list(losses.values()),
            features,
            tasks_params=[list(model.heads[name].parameters()) for name in losses],
            shared_params=shared,
            parallel_chunk_size=1,
        )
        jac_to_grad(shared, self._aggregator, optimize_gramian_computation=True)


class PCGrad(GradientAggregation):
    """Yu et al. 2020 (arXiv 2001.06782), algorithm 1: each gradient loses what opposes the others, then all are added.

    The others' order is drawn anew for each task and step from torch's global generator.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks, PCGradWeighting())


class CAGrad(GradientAggregation):
    """Liu et al. 2021 (arXiv 2110.14048), algorithm 1: within a ball around the mean, the best for the worst-off task.

    The ball's radius is 0.4 of the mean's norm, the authors' choice for NYU-v2.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks, CAGradWeighting(c=0.4), scale=len(tasks))


class MGDA(GradientAggregation):
    """Désidéri 2012; Sener & Koltun 2018 (arXiv 1810.04650), algorithm 2: the shortest convex combination."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks, MGDAWeighting(), scale=len(tasks))


class NashMTL(GradientAggregation):
    """Navon et al. 2022 (arXiv 2202.01017), equation 2: the Nash bargaining solution."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks, NashBargaining())


class _OnHost(Weighting[PSDMatrix]):
    """Another weighting, times `scale`, of the Gramian divided by its trace, in float64 on CPU.

    These methods do not depend on the gradients' unit, but CAGradWeighting takes short gradients for none; and they
    loop over numbers that they look at, for each of which a device would be waited for.
    """

    def __init__(self, weighting: Weighting[PSDMatrix], scale: float) -> None:
        super().__init__()
        self._weighting, self._scale = weighting, scale

    def forward(self, gramian: Tensor, /) -> Tensor:
        small = gramian.to("cpu", torch.float64)
        small = small / small.trace()
        # Not finite also where all gradients are 0.
        weights = self._scale * self._weighting(small) if small.isfinite().all() else torch.ones(len(small))
        return weights.to(gramian)
