"""What all task weightings do: from the losses of a step to the gradients of its parameters."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mtl.networks.model import MultiTaskModel
from mtl.tasks import Task


class TaskWeighting(nn.Module, ABC):
    """How much each task counts in a step.

    What it learns or remembers from step to step is in its parameters and buffers, so that a trial which is resumed
    from its `state_dict` goes on to the same numbers. Its parameters, if any, are trained by the trial's optimizer.
    With one task every weighting, the uncertainty's apart, is plain training of that task's loss.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()

    @abstractmethod
    def backward(self, losses: Mapping[str, Tensor], features: Tensor, model: MultiTaskModel) -> None:
        """Leave in `.grad` of every parameter of the model, and of this module, what the optimizer is to step along.

        losses: each task's own, 0-d, in the order in which the tasks were given; features: the backbone's output that
        all of them come from, (N, C, h, w). Gradients there have been must have been cleared; the graph is freed.
        """

    def epoch_ended(self, losses: Mapping[str, float]) -> None:
        """Called after each epoch with each task's mean training loss."""


class WeightedSum(TaskWeighting):
    """The losses become one number, `forward`, whose gradients are taken as ever."""

    @abstractmethod
    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The losses as one, 0-d."""

    def backward(self, losses: Mapping[str, Tensor], features: Tensor, model: MultiTaskModel) -> None:
        self(losses).backward()
