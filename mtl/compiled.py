"""The pass through a network as torch.compile makes it, by the name of the recipe's field `compile`.

Both backends add up in another order than eager torch, so that the field counts in a trial's id. On CPU it does not pay
for small networks: minutes to compile, and steps that are no faster (`python -m benchmarks.gpu --device cpu`).
"""

from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor, nn

from mtl.config import Compile
from mtl.errors import BadInput, TrialFailed
from mtl.networks.model import features_and_outputs

LONGEST = 200  # characters of a compiler's message
Forward = Callable[[nn.Module, Tensor], tuple[Tensor, dict[str, Tensor]]]


def network_pass(backend: str) -> Forward:
    """`features_and_outputs`, compiled by this backend of torch.compile; "off": as it is.

    What an earlier trial of this process has compiled is forgotten, since torch keeps few versions of one function. An
    error of the compiler is a TrialFailed that says how to go on without it.
    """
    if backend == "off":
        return features_and_outputs
    if backend == "cudagraphs" and not torch.cuda.is_available():
        allowed = ", ".join(name for name in get_args(Compile) if name != backend)
        raise BadInput(f"compile = {backend!r} without CUDA; allowed: {allowed}")
    torch.compiler.reset()
    compiled = torch.compile(features_and_outputs, backend=backend, dynamic=False)

    def run(model: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        try:
            return compiled(model, images)
        except torch._dynamo.exc.TorchDynamoException as error:
            said = " ".join(str(error).split())[:LONGEST] or type(error).__name__
            raise TrialFailed(f"compile = {backend!r}; `--set compile=off` trains without it. {said}") from error

    return run
