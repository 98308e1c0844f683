"""The group lasso's proximal step in C, for float32 weights on CPU."""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mtl.proximal.blocks import AdamMetric
from mtl.proximal.compiler import CannotCompile
from mtl.proximal.groups import PLAIN, GroupKind, Layout, as_layouts, is_dense, same_order, split_shape
from mtl.proximal.threads import load_threaded, turned_off

SOURCE = Path(__file__).with_name("group_prox.c")
SMALLEST_THRESHOLD = 1e-20  # the kernel divides by it, in float32


class _Layer(ctypes.Structure):
    """`struct layer` of group_prox.c."""

    _fields_ = (
        ("x", ctypes.c_void_p),
        ("second_moment", ctypes.c_void_p),
        ("parts", ctypes.c_int64),
        ("outer", ctypes.c_int64),
        ("groups", ctypes.c_int64),
        ("inner", ctypes.c_int64),
        ("threshold", ctypes.c_float),
        ("bias_correction", ctypes.c_float),
        ("eps", ctypes.c_float),
    )


class _Job(ctypes.Structure):
    """`struct job` of group_prox.c."""

    _fields_ = (
        ("layers", ctypes.POINTER(_Layer)),
        ("layer_count", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("next_block", ctypes.c_int64),
    )


class Kernel:
    """The compiled function."""

    def __init__(self) -> None:
        self._run = load_threaded(SOURCE, "group_prox")

    def __call__(self, layers: Sequence[_Layer]) -> bool:
        """Whether there was memory to do it; if not, nothing has been done."""
        # The largest first: at the end the threads then wait for a small one.
        ordered = sorted(layers, key=lambda layer: -layer.parts * layer.outer * layer.groups * layer.inner)
        job = _Job((_Layer * len(layers))(*ordered), len(layers), torch.get_num_threads(), 0)
        self._run(job, job.threads)
        return job.next_block > 0


@cache
def load() -> Kernel | CannotCompile:
    """The kernel, or why there is none; asked for once in a process."""
    try:
        return Kernel()
    except CannotCompile as error:
        return error


def why_unavailable() -> str | None:
    """Why the plain path is taken on this machine; None where the kernel is in use. Compiles it if need be."""
    if (reason := turned_off()) is not None:
        return reason
    kernel = load()
    return str(kernel) if isinstance(kernel, CannotCompile) else None


def group_prox_(
    weights: Sequence[Tensor],
    thresholds: Sequence[float],
    metrics: Sequence[AdamMetric] | None,
    kind: GroupKind,
    layouts: Sequence[Layout] | None = None,
) -> list[int]:
    """Apply the group soft threshold to the weights that the kernel takes; the indices of those it does not.

    It takes float32 on CPU, contiguous or channels_last, with second moments in the same order, and input channels of
    all layouts; of plain ones those that lie across memory, as every layer with more than one filter has them.
    """
    layouts = as_layouts(layouts, len(weights))
    layers: dict[int, _Layer] = {}
    for i, weight in enumerate(weights):
        metric = metrics[i] if metrics else None
        if not _fits(weight, metric) or thresholds[i] < SMALLEST_THRESHOLD:
            continue
        parts, outer, groups, inner = split_shape(weight, kind, layouts[i])
        if outer > 1 or (kind == "input_channels" and layouts[i] != PLAIN):
            layers[i] = _Layer(
                x=weight.data_ptr(),
                second_moment=metric.second_moment.data_ptr() if metric else None,
                parts=parts,
                outer=outer,
                groups=groups,
                inner=inner,
                threshold=thresholds[i],
                bias_correction=float(metric.bias_correction) if metric else 1.0,
                eps=metric.eps if metric else 0.0,
            )
    if layers and why_unavailable() is None:
        kernel = load()
        if isinstance(kernel, Kernel) and kernel(list(layers.values())):
            return [i for i in range(len(weights)) if i not in layers]
    return list(range(len(weights)))


def _fits(weight: Tensor, metric: AdamMetric | None) -> bool:
    if weight.device.type != "cpu" or weight.dtype != torch.float32 or not weight.numel() or not is_dense(weight):
        return False
    moment = metric.second_moment if metric else weight
    return moment.dtype == weight.dtype and moment.device == weight.device and same_order(moment, weight)
