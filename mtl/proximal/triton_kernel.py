"""Launches the proximal step in Triton: for float32 weights on CUDA, all layers of one kind of tile at once.

Under TRITON_INTERPRET=1, Triton's own variable for tests, it takes weights on CPU too and is run in Python.
"""

import os
import subprocess
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from mtl.proximal.blocks import AdamMetric
from mtl.proximal.groups import GroupKind, Layout, as_layouts, is_dense, same_order, split_view
from mtl.proximal.prox import MAX_ROOT_STEPS

KINDS = ("input_channels", "filters", "rows")
TOLERANCE = 0.1 * torch.finfo(torch.float32).eps ** 0.5  # the error after a secant step is below its square
MOST_PLANS = 8  # of lists that begin with one weight: other layers had gradients, or they moved
LARGEST_LAYER = 2**31 - 2**20  # elements: places within a layer are int32


@dataclass(frozen=True)
class Tile:
    """What a program of the kernel holds; see `group_prox_triton.group_prox`."""

    neighbours: bool
    elements: int
    groups: int
    resident: bool

    @property
    def warps(self) -> int:
        """16 elements for each thread: with 32, x, a and their places take all of its registers."""
        return self.elements * self.groups // 512


def tile_for(size: int, inner: int) -> Tile:
    """For groups of `size` elements in rows of `inner`.

    4,096 elements, so that one tile loads while another computes; 8,192 for larger groups, and for 8 neighbours or
    half as many, as a device reads 32 bytes at a time. Groups that are too large are passed over in chunks.
    """
    if inner == 1:
        for elements, groups in ((256, 16), (512, 8), (1024, 8), (2048, 4)):
            if size <= elements:
                return Tile(True, elements, groups, True)
        return Tile(True, 512, 8, False)
    for elements, groups in ((1024, 4), (2048, 2), (4096, 1), (8192, 1)):
        if size <= elements:
            return Tile(False, elements, groups, True)
    return Tile(False, 4096, 1, False)


class CannotLaunch(Exception):
    """No triton, a device that it does not compile for, or a compiler that fails; the message says which."""


@dataclass(frozen=True)
class _Launch:
    """The layers that have one kind of tile, as the tables of `group_prox_triton.group_prox` on the device."""

    tile: Tile
    layers: Tensor
    tiles: Tensor
    root_sizes: Tensor


class _Plan:
    """Where the layers lie, the launches that serve them, and the indices of the weights that they do not."""

    def __init__(
        self,
        weights: Sequence[Tensor],
        metrics: Sequence[AdamMetric] | None,
        kind: GroupKind,
        layouts: Sequence[Layout],
    ) -> None:
        self.weights = len(weights)
        self.left: list[int] = []
        alike: dict[Tile, list[tuple[int, int, int, torch.Size]]] = defaultdict(list)
        for i, weight in enumerate(weights):
            metric = metrics[i] if metrics else None
            same = metric is None or metrics is None or metric.eps == metrics[0].eps
            if same and weight.device == weights[0].device and _fits(weight, metric):
                shape = split_view(weight, kind, layouts[i]).shape
                moment = metric.second_moment.data_ptr() if metric else 0
                alike[tile_for(shape[1] * shape[3], shape[3])].append((weight.data_ptr(), moment, i, shape))
            else:
                self.left.append(i)
        self.launches = [_launch(tile, layers, weights[0].device) for tile, layers in alike.items()]


def _launch(tile: Tile, layers: list[tuple[int, int, int, torch.Size]], device: torch.device) -> _Launch:
    rows, tiles, roots = [], [], []
    for index, (x, moment, correction, (parts, outer, groups, inner)) in enumerate(layers):
        rows.append((x, moment, outer * inner, groups * inner, inner, correction))
        roots.append((outer * inner) ** 0.5)
        for part in range(parts):
            for first in range(0, groups, tile.groups):
                start = part * outer * groups * inner + first * inner
                tiles.append((index, start, min(tile.groups, groups - first)))
    return _Launch(
        tile,
        torch.tensor(rows, dtype=torch.int64, device=device),
        torch.tensor(tiles, dtype=torch.int64, device=device),
        torch.tensor(roots, dtype=torch.float32, device=device),
    )


def _fits(weight: Tensor, metric: AdamMetric | None) -> bool:
    if weight.dtype != torch.float32 or not 0 < weight.numel() < LARGEST_LAYER or not is_dense(weight):
        return False
    moment = metric.second_moment if metric else weight
    return moment.dtype == weight.dtype and moment.device == weight.device and same_order(moment, weight)


@cache
def _kernel(in_python: bool) -> Any:
    """The kernel as Triton takes it now; `in_python` is what `interpreted` says. Raises CannotLaunch."""
    try:
        from mtl.proximal import group_prox_triton
    except ImportError as error:
        raise CannotLaunch(f"triton is not installed: {error}") from error
    return group_prox_triton.compiled_or_interpreted()


@contextmanager
def _failing_in_one_line() -> Iterator[None]:
    """Within, what a compiler or a device that is too old raises becomes CannotLaunch."""
    if interpreted():
        yield
        return
    from triton.errors import TritonError

    try:
        yield
    except (TritonError, RuntimeError, OSError, subprocess.SubprocessError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CannotLaunch(lines[-1]) from error


# By the first weight, for as long as there is one: a CUDA graph reads a plan's tables at each replay.
_plans: WeakIdKeyDictionary = WeakIdKeyDictionary()
_failures: dict[torch.device, CannotLaunch] = {}
_tried: set[tuple] = set()


def interpreted() -> bool:
    """Whether Triton runs kernels in Python, on CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def serves(device: torch.device) -> bool:
    """Whether weights on this device are the kernel's, if it can be compiled."""
    return os.environ.get("PARSIMONY_KERNELS") != "0" and (device.type == "cuda" or interpreted())


def why_unavailable(device: torch.device) -> str | None:
    """Why the plain path is taken on this device as far as known: before the first step nothing has been compiled."""
    if os.environ.get("PARSIMONY_KERNELS") == "0":
        return "PARSIMONY_KERNELS=0"
    if not serves(device):
        return f"no kernel for {device.type}"
    try:
        _kernel(interpreted())
    except CannotLaunch as error:
        return str(error)
    return str(_failures[device]) if device in _failures else None


def group_prox_(
    weights: Sequence[Tensor],
    step_strength: Tensor | float,
    element_share: float,
    metrics: Sequence[AdamMetric] | None,
    kind: GroupKind,
    layouts: Sequence[Layout] | None = None,
) -> list[int]:
    """Apply the sparse group soft threshold to the weights that the kernel takes; the indices of those it does not.

    It takes float32 on CUDA, contiguous or channels_last, with second moments in the same order, in groups of input
    channels or filters. The threshold of a group of n is step_strength * (1 - element_share) * sqrt(n), that of
    elements step_strength * element_share; a tensor (weights,) has one for each weight. Never waits for the device:
    `step_strength`, a tensor on it, may come from a captured graph, which reads it at each replay; where the weights
    lie is looked up when they are first seen, before any capture. If the kernel cannot be compiled, the reason is said
    once in a warning, and all weights are left.
    """
    everything = list(range(len(weights)))
    if kind not in KINDS or not weights or not serves(weights[0].device):
        return everything
    device = weights[0].device
    if device in _failures:
        return everything
    try:
        plan = _plan(weights, metrics, kind, as_layouts(layouts, len(weights)))
        corrections = _joined(metrics, device) if metrics else None
        _run(plan, step_strength, element_share, metrics[0].eps if metrics else 0.0, corrections)
    except CannotLaunch as error:
        _failures[device] = error
        warnings.warn(f"the proximal step on {device} takes the plain path, which is slower: {error}", stacklevel=2)
        return everything
    return plan.left


def _plan(
    weights: Sequence[Tensor], metrics: Sequence[AdamMetric] | None, kind: GroupKind, layouts: Sequence[Layout]
) -> _Plan:
    """The plan for these weights, from the last step's if they lie where they lay."""
    moments = [metric.second_moment for metric in metrics] if metrics else []
    place = tuple((t.data_ptr(), t.shape, t.stride(), t.dtype, t.device) for t in (*weights, *moments))
    key = (place, kind, tuple(layouts), interpreted(), len({metric.eps for metric in metrics or ()}))
    known: dict[tuple, _Plan] = _plans.setdefault(weights[0], {})
    if key not in known:
        if len(known) == MOST_PLANS:
            del known[next(iter(known))]
        known[key] = _Plan(weights, metrics, kind, layouts)
    return known[key]


def _joined(metrics: Sequence[AdamMetric], device: torch.device) -> Tensor:
    """The bias corrections, float64 (weights,); those of one step are parts of one tensor already."""
    values = [metric.bias_correction for metric in metrics]
    first = values[0]
    if not isinstance(first, Tensor):
        return torch.tensor([float(value) for value in values], dtype=torch.float64, device=device)
    tensors = [value for value in values if isinstance(value, Tensor)]
    storages = {value.untyped_storage().data_ptr() for value in tensors}
    offsets = [value.storage_offset() for value in tensors]
    if len(storages) == 1 and first.dtype == torch.float64 and offsets == list(range(len(values))):
        return first.as_strided((len(values),), (1,))
    return torch.stack([torch.as_tensor(value, dtype=torch.float64, device=device) for value in values])


def _run(
    plan: _Plan, step_strength: Tensor | float, element_share: float, eps: float, corrections: Tensor | None
) -> None:
    if not plan.launches:
        return
    device = plan.launches[0].layers.device
    if isinstance(step_strength, Tensor):
        strength = step_strength.to(device, torch.float32).expand(plan.weights).contiguous()
    else:
        strength = torch.full((plan.weights,), step_strength, device=device)
    given = {"eps": eps, "element_share": element_share, "max_steps": MAX_ROOT_STEPS, "tolerance": TOLERANCE}
    switches = {"adaptive": corrections is not None, "sparse": element_share > 0}
    kernel = _kernel(interpreted())

    def launch(one: _Launch, its_strength: Tensor) -> None:
        kernel[(len(one.tiles),)](
            one.layers,
            one.tiles,
            one.root_sizes,
            one.root_sizes if corrections is None else corrections,
            its_strength,
            **given,
            **switches,
            neighbours=one.tile.neighbours,
            tile_elements=one.tile.elements,
            tile_groups=one.tile.groups,
            resident=one.tile.resident,
            num_warps=one.tile.warps,
            enable_fp_fusion=True,
        )

    # In Python, numpy would warn of divisions by zero, which are IEEE's. Triton launches on the current device.
    here = torch.cuda.device(device) if device.type == "cuda" else np.errstate(all="ignore")
    with here:
        for one in plan.launches:
            variant = (device, one.tile, interpreted(), *switches.values())
            if variant not in _tried:
                # All are compiled before any changes a weight: with a strength of 0 nothing is written.
                nothing = torch.zeros_like(strength)
                with _failing_in_one_line():
                    launch(one, nothing)
                _tried.add(variant)
        for one in plan.launches:
            launch(one, strength)
