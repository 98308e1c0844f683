"""Proximal operators over lists of weights, in blocks that a cache holds: small layers together, large ones cut."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mtl.proximal.groups import GroupKind, Layout, as_layouts, dense, group_view, like, set_groups_

# Elements. On CPU a block and its temporaries then stay in the caches and take less memory than the largest layer of a
# ResNet-50. On CUDA, what costs most is the number of kernels that are started.
CPU_BLOCK = 2**17
CUDA_BLOCK = 2**22

# (x, d, elements of a group, numbers …) -> z; x, d and z of shape (outer, groups, inner), d None in the Euclidean
# metric.
Operator = Callable[..., Tensor]


@dataclass(frozen=True)
class AdamMetric:
    """The diagonal d = sqrt(second_moment / bias_correction) + eps by which Adam divides the mean gradient.

    It keeps the parts, as d itself would take as much memory as the weights. second_moment: in the weight's shape.
    """

    second_moment: Tensor
    bias_correction: Tensor | float
    eps: float

    def diagonal(self, second_moment: Tensor) -> Tensor:
        """d for a part of the second moment, a new tensor."""
        return (second_moment / self.bias_correction).sqrt_().add_(self.eps)


@dataclass(frozen=True)
class _Piece:
    """Some consecutive groups of one weight."""

    index: int
    groups: slice

    def __len__(self) -> int:
        return self.groups.stop - self.groups.start


def apply_in_blocks_(
    weights: Sequence[Tensor],
    metrics: Sequence[AdamMetric] | None,
    kind: GroupKind,
    operator: Operator,
    layouts: Sequence[Layout] | None = None,
    numbers: Sequence[Tensor] = (),
) -> None:
    """Replace each weight's groups x by operator(x, d, group size, *numbers), d from the weight's metric.

    numbers: (weights,) each, on their device; the operator is given them for each group, (groups,) each.
    Weights of less than 32 bits are computed in float32 and rounded at the end.
    """
    layouts = as_layouts(layouts, len(weights))
    copies = [dense(w) for w in weights]
    views = [group_view(w, kind, layout) for w, layout in zip(copies, layouts, strict=True)]
    moments = [
        group_view(like(m.second_moment, w), kind, layout)
        for m, w, layout in zip(metrics or (), copies, layouts, strict=False)
    ]
    for pieces in _blocks(views):
        dtype = torch.promote_types(views[pieces[0].index].dtype, torch.float32)
        x = _joined([views[p.index][:, p.groups] for p in pieces]).to(dtype)
        d = None
        if metrics:
            parts = [metrics[p.index].diagonal(moments[p.index][:, p.groups].to(dtype)).to(dtype) for p in pieces]
            d = _joined(parts)
        own: list[Tensor] = []
        if numbers:
            owners = np.repeat([p.index for p in pieces], [len(p) for p in pieces])
            index = on_device(torch.from_numpy(owners), x.device)
            own = [values[index].to(dtype) for values in numbers]
        z = operator(x, d, x.shape[0] * x.shape[2], *own)
        for p, part in zip(pieces, z.split([len(p) for p in pieces], dim=1), strict=True):
            views[p.index][:, p.groups] = part
    for weight, copy, view, layout in zip(weights, copies, views, layouts, strict=True):
        set_groups_(copy, view, kind, layout)
        if copy is not weight:
            weight.copy_(copy)


def _blocks(views: Sequence[Tensor]) -> Iterator[list[_Piece]]:
    """Pieces of weights with groups of one shape: as many as a block holds, at least one group."""
    alike: dict[tuple, list[int]] = defaultdict(list)
    for index, view in enumerate(views):
        if view.numel():
            alike[view.shape[0], view.shape[2], view.dtype, view.device].append(index)
    for (outer, inner, _, device), indices in alike.items():
        room = max(1, (CUDA_BLOCK if device.type == "cuda" else CPU_BLOCK) // (outer * inner))
        pieces: list[_Piece] = []
        for index in indices:
            groups = views[index].shape[1]
            for first in range(0, groups, room):
                piece = _Piece(index, slice(first, min(first + room, groups)))
                if pieces and sum(map(len, pieces)) + len(piece) > room:
                    yield pieces
                    pieces = []
                pieces.append(piece)
        yield pieces


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU's, brought to a device without waiting for it."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)
