"""Passes through a network as a training asks for them: whoever drives the training serves them, alone or many at once.

A training is written as a generator that yields a `Pass` wherever its network must run, and is sent what came of it,
and a `Step` where its optimizer must. So `run_alone` trains one network as a plain loop would, and `mtl.packed.Pack`
several at once.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor

if TYPE_CHECKING:
    from mtl.training import Training

Tensors = Mapping[str, Tensor]
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Pass:
    """One batch for a training's network, which is in the mode, train or eval, that it is to run in.

    images: (N, 3, H, W), on the network's device. targets: by task; a pass with targets is a forward pass with each
    task's loss and a backward pass: after it every parameter, of the task weighting too, has its `.grad`, and the
    answer is the losses, 0-d, without a graph. None: a forward pass alone, and the answer is the outputs by task.
    """

    training: "Training"
    images: Tensor
    targets: Tensors | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """A step of a training's optimizer, from the gradients that its last pass has left; the answer is empty."""

    training: "Training"


Asked = Pass | Step
Passes = Generator[Asked, Tensors, Result]


def run_alone(passes: Passes[Result]) -> Result:
    """Drive a generator to its end; each of its passes is served by itself. Gives what the generator returns."""
    try:
        asked = next(passes)
        while True:
            try:
                answer = asked.training.serve(asked)
            except Exception as error:
                asked = passes.throw(error)
            else:
                asked = passes.send(answer)
    except StopIteration as end:
        result: Result = end.value
        return result
