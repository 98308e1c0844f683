"""The group lasso's proximal step in C, for float32 weights on CPU; the threads are torch's own."""

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mtl.proximal.blocks import AdamMetric
from mtl.proximal.compiler import CannotCompile, load_library
from mtl.proximal.groups import PLAIN, GroupKind, Layout, as_layouts, is_dense, same_order, split_view

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

    _fields_ = (("layers", ctypes.POINTER(_Layer)), ("layer_count", ctypes.c_int64), ("next_block", ctypes.c_int64))


class Kernel:
    """The compiled function and the pool of threads that torch's operators run on."""

    def __init__(self) -> None:
        library = load_library(SOURCE)
        self._function = ctypes.cast(library.group_prox, ctypes.c_void_p)
        try:
            # Looked up in torch's library, this is the OpenMP that torch itself was linked with. A second OpenMP would
            # have its own threads, which would wait in a busy loop beside torch's.
            torch_cpu = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
            self._parallel = torch_cpu.GOMP_parallel
        except (OSError, AttributeError) as error:
            raise CannotCompile(f"torch's OpenMP is not to be found: {error}") from error
        self._parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        self._parallel.restype = None

    def __call__(self, layers: Sequence[_Layer]) -> bool:
        """Whether there was memory to do it; if not, nothing has been done."""
        job = _Job((_Layer * len(layers))(*layers), len(layers), 0)
        self._parallel(self._function, ctypes.byref(job), torch.get_num_threads(), 0)
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
    if os.environ.get("PARSIMONY_KERNELS") == "0":
        return "PARSIMONY_KERNELS=0"
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
        view = split_view(weight, kind, layouts[i])
        parts, outer, groups, inner = view.shape
        if outer > 1 or (kind == "input_channels" and layouts[i] != PLAIN):
            layers[i] = _Layer(
                x=view.data_ptr(),
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
