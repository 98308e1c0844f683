"""Gradients that are not finite, found before they reach the weights."""

import ctypes
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from mtl.proximal.compiler import CannotCompile
from mtl.proximal.groups import is_dense
from mtl.proximal.threads import Run, load_threaded, turned_off

SOURCE = Path(__file__).with_name("not_finite.c")


class _Piece(ctypes.Structure):
    """`struct piece` of not_finite.c."""

    _fields_ = (("x", ctypes.c_void_p), ("count", ctypes.c_int64), ("is_bad", ctypes.c_int64))


class _Job(ctypes.Structure):
    """`struct job` of not_finite.c."""

    _fields_ = (("pieces", ctypes.POINTER(_Piece)), ("piece_count", ctypes.c_int64), ("next_chunk", ctypes.c_int64))


@cache
def load() -> Run | None:
    """The compiled search; None where there is none. Asked for once in a process."""
    try:
        return load_threaded(SOURCE, "find_not_finite")
    except CannotCompile:
        return None


def find_not_finite(gradients: Sequence[Tensor]) -> int | None:
    """Index of the first gradient with a NaN or an infinity, None if there is none. Waits for their device."""
    run = load() if gradients and turned_off() is None and all(map(_fits, gradients)) else None
    if run is None:
        return _find_by_sums(gradients)
    # torch's own sums and norms take a pass too, but start their threads anew for each tensor.
    pieces = (_Piece * len(gradients))(*[_Piece(g.data_ptr(), g.numel(), 0) for g in gradients])
    run(_Job(pieces, len(gradients), 0), torch.get_num_threads())
    return next((i for i, piece in enumerate(pieces) if piece.is_bad), None)


def _fits(gradient: Tensor) -> bool:
    return gradient.device.type == "cpu" and gradient.dtype == torch.float32 and is_dense(gradient)


def _find_by_sums(gradients: Sequence[Tensor]) -> int | None:
    """The same for gradients of any kind, without a compiler."""
    if not gradients:
        return None
    # A sum is finite only if all its terms are, and takes one pass; one that overflows is looked at again.
    sums = torch.stack([g.sum() for g in gradients])
    suspects = (~sums.isfinite()).nonzero().flatten().tolist()
    return next((i for i in suspects if not gradients[i].isfinite().all()), None)


def count_not_finite(
    checks: "Sequence[DeferredCheck]", gradients: Sequence[tuple[tuple[str, ...], Sequence[Tensor]]]
) -> list[Tensor]:
    """Note bad gradients in the check of each list, (names, gradients), all in a few calls for the device.

    For each list 1.0 if there is one, else 0.0: 0-d tensors on the first gradient's device.
    """
    if not checks:
        return []
    device = gradients[0][1][0].device
    norms = torch._foreach_norm([gradient for _, own in gradients for gradient in own], torch.inf)
    bad = ~torch.stack([norm.to(device, non_blocking=True).float() for norm in norms]).isfinite()
    counts = [check.counts(names, device) for check, (names, _) in zip(checks, gradients, strict=True)]
    lengths = [len(names) for names, _ in gradients]
    torch._foreach_add_(counts, list(bad.int().split(lengths)))
    if len(set(lengths)) == 1:
        return list(bad.view(len(checks), -1).any(dim=1).float().unbind())
    return [own.any().float() for own in bad.split(lengths)]


class DeferredCheck:
    """The same without waiting for the device, which counts bad gradients until `take` asks for them.

    Can be captured in a CUDA graph after one step outside of it.
    """

    def __init__(self) -> None:
        # By the names of the parameters that had gradients, which may differ from step to step.
        self._counts: dict[tuple[str, ...], Tensor] = {}

    def counts(self, names: tuple[str, ...], device: torch.device) -> Tensor:
        """(names,) int32: how many bad gradients there have been of the parameters of these names."""
        if names not in self._counts:
            self._counts[names] = torch.zeros(len(names), dtype=torch.int32, device=device)
        return self._counts[names]

    def take(self) -> dict[str, int]:
        """By name, how many bad gradients there have been since the last call. Waits for the device."""
        found: Counter[str] = Counter()
        for names, counts in self._counts.items():
            found.update(dict(zip(names, counts.tolist(), strict=True)))
            counts.zero_()
        return +found  # without zeros
