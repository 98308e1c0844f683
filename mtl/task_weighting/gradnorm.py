"""Weights that balance the norms of the tasks' gradients at the end of the backbone."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl.networks.model import MultiTaskModel
from mtl.task_weighting.base import TaskWeighting
from mtl.tasks import Task

ALPHA = 1.5
LEARNING_RATE = 0.025
TINY = 1e-12


class GradNorm(TaskWeighting):
    """Chen et al. 2018 (arXiv 1711.02257), algorithm 1: sum_t w_t L_t, with weights w_t that sum to the tasks' number.

    W is the weight of the backbone's last convolution. G_t = ||grad_W w_t L_t|| is drawn to the target
    mean(G) r_t^1.5 / mean(r^1.5) with r_t = L_t / L_t(first step): a task that has made less progress gets more. A step
    of the weights reduces sum_t |G_t - target_t| with fixed targets, as in the paper, with three changes: the targets
    have the same sum as the G_t (the paper divides by mean(r)^1.5, so that their sum is larger, and weights drift where
    all G_t are below their targets); the step is taken in log w_t, so that no weight becomes negative; and in units of
    mean(G), so that the paper's learning rate of 0.025 means the same whatever the losses' units.

    Costs the gradient of that convolution's weight for each task; heads and backbone are passed once.
    """

    weights: Tensor
    initial: Tensor

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks)
        self.register_buffer("weights", torch.ones(len(tasks)))
        self.register_buffer("initial", torch.full((len(tasks),), torch.nan))

    def backward(self, losses: Mapping[str, Tensor], features: Tensor, model: MultiTaskModel) -> None:
        shared = model.last_shared.weight
        combined = torch.zeros_like(features)
        norms = []
        for weight, (name, loss) in zip(self.weights, losses.items(), strict=True):
            head = list(model.heads[name].parameters())
            at_features, *own = torch.autograd.grad(loss, [features, *head])
            for parameter, gradient in zip(head, own, strict=True):
                parameter.grad = weight * gradient
            (at_shared,) = torch.autograd.grad(features, shared, at_features, retain_graph=True)
            norms.append(at_shared.norm())
            combined += weight * at_features
        features.backward(combined)
        self._balance(torch.stack([loss.detach() for loss in losses.values()]), torch.stack(norms))

    def _balance(self, losses: Tensor, norms: Tensor) -> None:
        """A step of the weights; `norms` are those of the gradients of the losses without their weights."""
        self.initial.copy_(torch.where(self.initial.isnan(), losses, self.initial))
        weighted = self.weights * norms
        mean = weighted.mean().clamp(min=TINY)
        progress = (losses / self.initial.clamp(min=TINY)) ** ALPHA
        target = mean * progress / progress.mean().clamp(min=TINY)
        slope = torch.sign(weighted - target) * weighted / mean
        moved = self.weights * torch.exp(-LEARNING_RATE * slope)
        self.weights.copy_(moved * (len(moved) / moved.sum()))
