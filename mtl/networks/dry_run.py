"""What a network from a file would give, found on the meta device before it is run."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mtl.errors import BadInput
from mtl.networks.measurement import run_on_meta
from mtl.own_code import first_line
from mtl.tasks import Task

MOST_NUMBERS = 2**28  # in one value of one image: 1 GB in float32, a ResNet's stem on 4096 x 4096 pixels


class _Bounded(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and value.numel() > MOST_NUMBERS:
                raise BadInput(f"its network computes {value.numel():.1e} numbers at once; allowed: {MOST_NUMBERS:.1e}")
        return result


def check_outputs(model: nn.Module, tasks: Sequence[Task], image_size: tuple[int, int]) -> None:
    """Raise BadInput, whose line the caller begins, where a model does not give its tasks' outputs."""
    try:
        outputs = run_on_meta(model, image_size, _Bounded())
    except BadInput:
        raise
    # Whatever torch's operations raise for sizes, types and settings that do not fit each other.
    except Exception as error:
        reason = f"{type(error).__name__}: {first_line(error)}"
        size = f"{image_size[0]} x {image_size[1]}"
        raise BadInput(f"its network does not take images of {size} ({reason}); allowed: one that does") from error
    check_shapes(outputs, tasks)


def check_shapes(outputs: Any, tasks: Sequence[Task]) -> None:
    """Raise BadInput where a model's outputs of one image are not those of its tasks.

    A dense task has (1, channels, h, w), another task (1, channels).
    """
    names = [task.name for task in tasks]
    if not isinstance(outputs, Mapping) or sorted(map(str, outputs)) != sorted(names):
        found = ", ".join(map(str, outputs)) if isinstance(outputs, Mapping) else type(outputs).__name__
        raise BadInput(f"its network gives {found[:80]!r}; allowed: {', '.join(names)}, as its tasks say")
    for task in tasks:
        value = outputs[task.name]
        shape = tuple(value.shape) if isinstance(value, Tensor) else ()
        if shape[:2] != (1, task.channels) or len(shape) != (4 if task.dense else 2) or 0 in shape:
            wanted = f"(1, {task.channels}, height, width)" if task.dense else f"(1, {task.channels})"
            raise BadInput(f"its network gives {task.name} of shape {shape}; allowed: {wanted}, as its tasks say")
