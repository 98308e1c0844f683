"""How much memory a trial's training takes at most, about, found without taking it.

One step is run on fake tensors, which have shapes but no numbers: a forward pass, the losses and a backward pass, while
the storages that are alive are added up (torch's `MemTracker` does the same, but lies in a private part of
`torch.distributed`, which not every build has). To this come the copies of the weights that live between steps, and
what torch and its libraries keep for themselves.
"""

import contextlib
import functools
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mtl.config import TrialConfig, TrialSettings
from mtl.errors import BadInput
from mtl.networks.built_size import build_on_meta, network_key
from mtl.networks.model import MultiTaskModel, features_and_outputs
from mtl.objectives import losses as objectives
from mtl.tasks import Task

# Between steps, besides weights and gradients: Adam's two moments and the best model so far.
KEPT_COPIES = 3
# Of weights that gradient combinations (PCGrad and the like) hold for each task while they put them together.
COPIES_A_TASK = 2
COMBINING = ("pcgrad", "cagrad", "nash_mtl", "mgda", "aligned_mtl")
# What is taken besides tensors: scratch memory of convolutions, weights in the libraries' own order, and gaps between
# tensors. On a CPU the peak of whole trainings was 1.1 to 1.3 times the tensors'; on CUDA it has not been measured.
MARGIN = {"cpu": 1.25, "cuda": 1.15}
# Taken by a process before its first tensor, and shared with no other: torch and what it imports, or CUDA's context.
OF_PROCESS = {"cpu": 500_000_000, "cuda": 600_000_000}


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that one trial takes on its device (cpu or cuda) at most, about: tensors `fixed`, and `an_image` for each
    image of a batch. K trials in one process take `of_process` once and the rest K times."""

    fixed: float
    an_image: float
    device: str

    @property
    def of_process(self) -> int:
        return OF_PROCESS[self.device]

    def tensors(self, batch: int) -> int:
        """What a trial takes besides the process that it runs in."""
        return round(MARGIN[self.device] * (self.fixed + batch * self.an_image))

    def bytes(self, batch: int) -> int:
        """With batches of so many images."""
        return self.of_process + self.tensors(batch)

    def largest_batch(self, available: int) -> int:
        """The most images of a batch with which a trial fits into the available bytes; 0: with none."""
        room = (available - self.of_process) / MARGIN[self.device] - self.fixed
        batch = max(0, math.floor(room / max(self.an_image, 1.0)))
        return batch + (self.bytes(batch + 1) <= available)  # where rounding took one away


def memory_need(
    settings: TrialSettings, tasks: Sequence[Task], images: int, device_type: str, precision: str
) -> MemoryNeed | None:
    """Of a trial on these tasks; None for a network that cannot be run on fake tensors.

    images: in the training split, which limits a batch. device_type: cpu or cuda. precision: float32 or bfloat16.
    """
    batch = max(2, min(settings.batch_size, images))
    losses = (settings.depth_loss, settings.label_smoothing, settings.regression_loss, settings.edge_weight)
    fields = (settings.protocol, *losses, settings.loss_stride)
    weighting = settings.task_weighting
    try:
        return _need(network_key(settings), tuple(tasks), batch, device_type, precision, fields, weighting)
    except BadInput:
        raise
    # Whatever a network does that fake tensors cannot: it still trains, its need is only not known before.
    except Exception:
        return None


def config_need(config: TrialConfig, tasks: Sequence[Task], images: int, device_type: str) -> MemoryNeed | None:
    """`memory_need` of a trial whose precision is settled."""
    return memory_need(config, tasks, images, device_type, config.precision)


@functools.lru_cache(maxsize=64)
def _need(
    key: Any,
    tasks: tuple[Task, ...],
    batch: int,
    device_type: str,
    precision: str,
    fields: tuple[Any, ...],
    weighting: str,
) -> MemoryNeed:
    peaks, weights, fewer = {}, 0, max(2, batch // 2)
    for count in {batch, fewer if fewer < batch else 2 * batch}:
        peaks[count], weights, shared = _step_peak(key.settings, tasks, count, precision, fields)
    (low, at_low), (high, at_high) = sorted(peaks.items())
    an_image = (at_high - at_low) / (high - low)
    combined = COPIES_A_TASK * len(tasks) * shared if weighting in COMBINING and len(tasks) > 1 else 0
    fixed = at_low - low * an_image + KEPT_COPIES * weights + combined
    return MemoryNeed(fixed, an_image, device_type)


def _step_peak(
    settings: TrialSettings, tasks: Sequence[Task], batch: int, precision: str, fields: tuple[Any, ...]
) -> tuple[int, int, int]:
    """The most bytes of tensors at once in a step with the weights and their gradients, the bytes of the weights, and
    those of the backbone's."""
    protocol, *chosen, stride = fields
    settled = objectives.loss_settings(protocol, *chosen)
    model = build_on_meta(settings, tasks)
    with FakeTensorMode(), _matrices_apart(), torch.random.fork_rng(devices=[]):
        live = LiveBytes()
        with live:
            # No network can be made of fake tensors that asks for a number on its way; on meta it is made already.
            model._apply(lambda x: torch.empty(x.shape, dtype=x.dtype))
            # As they are in memory while the next forward pass runs.
            for parameter in model.parameters():
                parameter.grad = torch.empty_like(parameter)
            weights = [_bytes(parameter) for parameter in model.parameters()]
            backbone = getattr(model, "backbone", None)
            shared = sum(_bytes(p) for p in backbone.parameters()) if isinstance(backbone, nn.Module) else 0
            model.train()
            images = torch.empty(batch, 3, *settings.image_size).contiguous(memory_format=torch.channels_last)
            targets = {task.name: _target(task, batch, settings.image_size) for task in tasks}
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                _, outputs = features_and_outputs(cast(MultiTaskModel, model), images)
            total = torch.zeros(())
            for task in tasks:
                aligned = objectives.align(task, outputs[task.name].float(), targets[task.name], protocol, stride)
                total = total + objectives.task_loss(task, *aligned, settled)
            model.zero_grad()
            total.backward()
    return live.peak, sum(weights), shared


def _target(task: Task, batch: int, image_size: tuple[int, int]) -> Tensor:
    if task.kind == "regression":
        return torch.zeros(batch, *([len(task.values)] if task.values else []))
    if not task.dense:
        return torch.zeros(batch, dtype=torch.uint8)
    if task.kind in ("segmentation", "edges"):
        return torch.zeros(batch, *image_size, dtype=torch.uint8)
    return torch.zeros(batch, *image_size, *([3] if task.kind == "normals" else []))


def _bytes(x: Tensor) -> int:
    return x.numel() * x.element_size()


@contextlib.contextmanager
def _matrices_apart() -> Iterator[None]:
    """The losses remember matrices: neither may ours be found by a real training, nor its matrices by us."""
    objectives._bilinear.cache_clear()
    try:
        yield
    finally:
        objectives._bilinear.cache_clear()


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that are made within it and not yet dropped; `peak` is the most at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._see(value.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        address = storage._cdata
        if address not in self._known:
            self._known[address] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, address)

    def _drop(self, address: int) -> None:
        self.now -= self._known.pop(address)
