"""The forward pass of a training step once more, after the step, as if nothing but the weights had changed."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

Result = TypeVar("Result")


class SamePass:
    """Made before a forward pass; `repeat` then draws the same random numbers as that pass did, for dropout.

    Without them what dropout does to a loss would hide what the step did. Costs a copy of the generators' states.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = [device] if device.type == "cuda" else []
        self._states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(one) for one in self._cuda)]

    @torch.no_grad()
    def repeat(self, model: nn.Module, compute: Callable[[], Result]) -> Result:
        """What `compute` gives, which calls the model. Random generators and the model's buffers, such as the running
        means of batch norm, are afterwards as they were before."""
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        with torch.random.fork_rng(self._cuda):
            torch.set_rng_state(self._states[0])
            for device, state in zip(self._cuda, self._states[1:], strict=True):
                torch.cuda.set_rng_state(state, device)
            result = compute()
        for buffer, before in buffers:
            buffer.copy_(before)
        return result
