"""Weights under which the logarithms of all losses fall alike, learned from what each step has done to the losses."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl.task_weighting.base import WeightedSum
from mtl.tasks import Task

LEARNING_RATE = 0.025
WEIGHT_DECAY = 1e-3
BETAS = (0.9, 0.999)
TINY = 1e-8


class FastAdaptiveOptimization(WeightedSum):
    """FAMO, Liu et al. 2023 (arXiv 2306.03792), with the losses' lower bounds at 0.

    With z = softmax(w) the model descends c sum_t z_t log L_t, where c = 1 / sum_t (z_t / L_t) makes the weights of the
    losses' gradients, c z_t / L_t, sum to 1; here they sum to the tasks' number, the scale of the plain sum. Then w
    takes a step along the change of the log losses: J (log L(before) - log L(after)), with J the derivative of softmax,
    so that what has fallen most gets less. The losses after the step are those of the same batch, as in the code of the
    authors and of LibMTL, and not those of the next: one more forward pass a step. w is trained by Adam at the paper's
    rate of 0.025 and weight decay of 1e-3.

    TorchJD has the same, but keeps Adam's moments where no `state_dict` has them: a resumed trial would differ.
    """

    logits: Tensor
    first_moment: Tensor
    second_moment: Tensor
    steps: Tensor

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__(tasks)
        for name in ("logits", "first_moment", "second_moment"):
            self.register_buffer(name, torch.zeros(len(tasks)))
        self.register_buffer("steps", torch.zeros(()))
        self.looks_again = len(tasks) > 1
        self._before: Tensor | None = None

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        values = torch.stack(list(losses.values()))
        self._before = _positive(values)
        shares = torch.softmax(self.logits, dim=0) / self._before
        return len(values) * (shares / shares.sum() * values).sum()

    @torch.no_grad()
    def stepped(self, losses: Mapping[str, Tensor]) -> None:
        assert self._before is not None
        progress = self._before.log() - _positive(torch.stack(list(losses.values()))).log()
        shares = torch.softmax(self.logits, dim=0)
        slope = shares * (progress - (shares * progress).sum()) + WEIGHT_DECAY * self.logits
        self.steps += 1
        self.first_moment.lerp_(slope, 1 - BETAS[0])
        self.second_moment.lerp_(slope.square(), 1 - BETAS[1])
        mean = self.first_moment / (1 - BETAS[0] ** self.steps)
        deviation = (self.second_moment / (1 - BETAS[1] ** self.steps)).sqrt()
        self.logits -= LEARNING_RATE * mean / (deviation + TINY)


def _positive(losses: Tensor) -> Tensor:
    """Without a graph, and above 0: a loss of normals may be just below it by rounding."""
    return losses.detach().clamp(min=0) + TINY
