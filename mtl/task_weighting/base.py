"""What all task weightings do: from the losses of a step to the gradients of its parameters."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from mtl.networks.model import MultiTaskModel
from mtl.tasks import Task


class TaskWeighting(nn.Module, ABC):
    """How much each task counts in a step.

    What it learns or remembers between steps is in its parameters and buffers, so that a trial that is resumed from
    its `state_dict` comes to the same numbers. The trial's optimizer trains its parameters, if it has any. With one
    task every weighting, except for the uncertainty's, is plain training on that task's loss.

    looks_again: whether `stepped` is to be called, at the cost of one more forward pass for each step.
    """

    looks_again = False

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()

    @abstractmethod
    def backward(self, losses: Mapping[str, Tensor], features: Tensor, model: MultiTaskModel) -> None:
        """Set `.grad` of every parameter of the model, and of this module, to the gradient for the optimizer.

        losses: each task's own, 0-d, in the order of the tasks; features: the backbone's output that all losses depend
        on, (N, C, h, w). The caller has cleared earlier gradients; the graph is freed.
        """

    def stepped(self, losses: Mapping[str, Tensor]) -> None:
        """Called, if `looks_again`, after each step of the optimizer with the same batch's losses, without a graph."""

    def epoch_ended(self, losses: Mapping[str, float]) -> None:
        """Called after each epoch with each task's mean training loss."""


class WeightedSum(TaskWeighting):
    """The losses become one number, `forward`, and the gradients are its own.

    pure: whether `forward` is a function of the losses and of this module's parameters and buffers alone: it draws
    nothing and remembers nothing.
    """

    pure = False

    @abstractmethod
    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        """The losses as one, 0-d."""

    def backward(self, losses: Mapping[str, Tensor], features: Tensor, model: MultiTaskModel) -> None:
        self(losses).backward()
