"""How many operations a GPU is given for a training step of one trial, alone or in a pack: known without a GPU.

A GPU that trains small networks waits for the next operation more than for its numbers, so that their number says what
a pack can gain where no GPU is at hand. Counted are torch's operations but for views, and launches of the proximal
step's kernel. A training on the CPU is made to take the GPU's ways: a resident dataset, all mirrored at once, gradients
that are checked later, the kernel in Triton (which is counted and not run); and bfloat16, if its recipe asks for a GPU.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mtl.datasets.batches import augmentation
from mtl.datasets.batches.load import resident
from mtl.packed import Pack
from mtl.passes import Passes, Step, run_alone
from mtl.proximal import triton_kernel
from mtl.training import Training

STEPS = 2
WARM_UP = 3  # steps: the first of a pack is served both ways
# Neither launches a kernel nor copies anything.
FREE = {"detach", "alias", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh"}
FREE |= {"as_strided_", "_unsafe_view", "_record_function_enter_new", "_record_function_exit", "set_", "is_pinned"}
# Tensors that torch takes in one launch, by the number of lists, as it is built for CUDA 13; and for `cat`.
LIST_LIMITS = {1: 770, 2: 448, 3: 336, 4: 252, 5: 210}
CAT_LIMIT = 128


class Operations(TorchDispatchMode):
    """Counts operations within it, and launches of the proximal step's kernel if these are `counted_launches`."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func._schema.name.partition("::")[2] not in FREE:
            self.count += _launches(func, args)
        return func(*args, **(kwargs or {}))

    def __getitem__(self, grid: Any) -> Any:
        """As a kernel of Triton's: launched on a grid."""

        def launch(*_: Any, **__: Any) -> None:
            self.count += 1

        return launch


def _launches(func: Any, args: Sequence[Any]) -> int:
    """1, or for what works on lists as many as their lengths ask for."""
    name = func._schema.name.partition("::")[2]
    if name in ("cat", "stack"):
        return -(-len(args[0]) // CAT_LIMIT)
    if name.startswith(("_foreach_", "_fused_adamw_")):
        lists = [one for one in args if isinstance(one, (list, tuple)) and one and isinstance(one[0], torch.Tensor)]
        return -(-len(lists[0]) // LIST_LIMITS[min(len(lists), 4)])
    return 1


def count_operations(trainings: Sequence[Training]) -> float:
    """Of a step of one of these, which are on the CPU: alone if there is one, or in a pack of all of them."""
    pack = Pack()

    def run(steps: int) -> None:
        if len(trainings) == 1:
            run_alone(first_steps(trainings[0], steps))
        else:
            pack.run([first_steps(one, steps) for one in trainings])

    counts = []
    with ExitStack() as ways:
        operations = Operations()
        ways.enter_context(_as_on_a_gpu(trainings, operations))
        run(WARM_UP)
        for steps in (1, 1 + STEPS):  # the difference is without what an epoch begins with
            operations.count = 0
            with operations:
                run(steps)
            counts.append(operations.count)
    return (counts[1] - counts[0]) / STEPS / len(trainings)


@contextmanager
def _as_on_a_gpu(trainings: Sequence[Training], kernel: Operations) -> Iterator[None]:
    for one in trainings:
        one.optimizer.check = "later"
        one.arrays = {split: resident(arrays, one.tasks, one.device) for split, arrays in one.arrays.items()}
    with ExitStack() as patches:
        patches.enter_context(patch.object(augmentation, "flip_in_place", augmentation.flip_without_waiting))
        ways = {"serves": lambda _: True, "interpreted": lambda: True, "_kernel": lambda _: kernel}
        patches.enter_context(patch.multiple(triton_kernel, **ways))
        yield


def first_steps(training: Training, count: int) -> Passes[None]:
    """So many steps of an epoch, as a generator of passes; epochs follow one another as long as they are needed."""
    left = count
    while left:
        passes = training._train_epoch(0)
        asked = next(passes)
        while left:
            answer = yield asked
            left -= isinstance(asked, Step)
            try:
                asked = passes.send(answer)
            except StopIteration:
                break
        passes.close()
