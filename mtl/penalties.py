"""Penalties on weights: each knows its value and its proximal step.

`strength` is the paper's lambda, a plain attribute that may be changed between optimizer steps. `prox_` works in place
on a list of weights, so that weights of one shape are handled in one batch.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import isfinite, sqrt

import torch
from torch import Tensor

from mtl.errors import BadInput
from mtl.groups import check_groupable, from_group_rows, group_rows, group_size
from mtl.prox import row_norm, soft_threshold, weighted_group_soft_threshold


class Penalty(ABC):
    """strength * Omega(weights), with Omega the sum over the weights given."""

    def __init__(self, strength: float) -> None:
        if not (isfinite(strength) and strength >= 0):
            raise BadInput(f"{type(self).__name__}: strength {strength!r}; allowed: a finite number >= 0")
        self.strength = float(strength)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(strength={self.strength:g})"

    @abstractmethod
    def check(self, weight: Tensor) -> None:
        """Raise BadInput for a weight that this penalty cannot be put on."""

    @abstractmethod
    def value(self, weights: Iterable[Tensor]) -> Tensor:
        """The penalty, a scalar tensor, strength included."""

    @abstractmethod
    def prox_(self, weights: Sequence[Tensor], step_size: float, metrics: Sequence[Tensor] | None) -> None:
        """Replace each weight x by argmin_z 1/2 ||z - x||^2_D + step_size * penalty(z).

        metrics: the diagonal of D for each weight, in its shape and > 0, or None for the Euclidean metric.
        """


class GroupLasso(Penalty):
    """strength * sum over input channels c of sqrt(n_c) ||W[:, c]||_2 (Yuan & Lin 2006; arXiv 2308.12114, eq. 3)."""

    def check(self, weight: Tensor) -> None:
        check_groupable(weight)

    def value(self, weights: Iterable[Tensor]) -> Tensor:
        terms = [row_norm(group_rows(w)).sum() * sqrt(group_size(w)) for w in weights if w.numel()]
        return self.strength * torch.stack(terms).sum() if terms else torch.zeros(())

    def prox_(self, weights: Sequence[Tensor], step_size: float, metrics: Sequence[Tensor] | None) -> None:
        if self.strength == 0:
            return
        if metrics is None:
            for w in weights:
                threshold = step_size * self.strength * sqrt(group_size(w))
                other_dims = [dim for dim in range(w.ndim) if dim != 1]
                norm = torch.linalg.vector_norm(w, dim=other_dims, keepdim=True)
                # 0/0 would be NaN; a group at zero has scale 0 like any other that the threshold reaches.
                w.mul_(torch.where(norm > threshold, 1 - threshold / norm, torch.zeros_like(norm)))
            return
        for batch in _same_shape(weights):
            n = group_size(weights[batch[0]])
            x = torch.cat([group_rows(weights[i]) for i in batch])
            d = torch.cat([group_rows(metrics[i]) for i in batch])
            z = weighted_group_soft_threshold(x, d, step_size * self.strength * sqrt(n))
            for i, rows in zip(batch, z.split([weights[i].shape[1] for i in batch]), strict=True):
                weights[i].copy_(from_group_rows(rows, weights[i]))


class L1(Penalty):
    """strength * sum_j |w_j|: unstructured sparsity, the paper's table 3."""

    def check(self, weight: Tensor) -> None:
        pass

    def value(self, weights: Iterable[Tensor]) -> Tensor:
        terms = [w.abs().sum() for w in weights]
        return self.strength * torch.stack(terms).sum() if terms else torch.zeros(())

    def prox_(self, weights: Sequence[Tensor], step_size: float, metrics: Sequence[Tensor] | None) -> None:
        threshold = step_size * self.strength
        for i, w in enumerate(weights):
            w.copy_(soft_threshold(w, threshold if metrics is None else threshold / metrics[i]))


PENALTIES: dict[str, type[Penalty]] = {"group_lasso": GroupLasso, "l1": L1}


def _same_shape(weights: Sequence[Tensor]) -> list[list[int]]:
    """Indices of the non-empty weights, those of one shape and type together."""
    batches: dict[tuple, list[int]] = defaultdict(list)
    for i, w in enumerate(weights):
        if w.numel():
            batches[tuple(w.shape), w.dtype, w.device].append(i)
    return list(batches.values())
