"""Gradients that are not finite, found before they reach the weights."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor


def find_not_finite(gradients: Sequence[Tensor]) -> int | None:
    """Index of the first gradient with a NaN or an infinity, None if there is none. Waits for their device."""
    if not gradients:
        return None
    # A sum is finite only if all its terms are, and takes one pass; one that overflows is looked at again.
    sums = torch.stack([g.sum() for g in gradients])
    suspects = (~sums.isfinite()).nonzero().flatten().tolist()
    return next((i for i in suspects if not gradients[i].isfinite().all()), None)


class DeferredCheck:
    """The same without waiting for the device, which counts bad gradients until `take` asks for them.

    Can be captured in a CUDA graph after one step outside of it.
    """

    def __init__(self) -> None:
        # By the names of the parameters that had gradients, which may differ from step to step.
        self._counts: dict[tuple[str, ...], Tensor] = {}

    def count(self, names: tuple[str, ...], gradients: Sequence[Tensor]) -> Tensor:
        """Note bad gradients; 1.0 if there is one, else 0.0, a 0-d tensor on the first gradient's device."""
        device = gradients[0].device
        norms = [norm.to(device, non_blocking=True) for norm in torch._foreach_norm(list(gradients), torch.inf)]
        bad = ~torch.stack([norm.float() for norm in norms]).isfinite()
        if names not in self._counts:
            self._counts[names] = torch.zeros(len(names), dtype=torch.int32, device=device)
        self._counts[names] += bad
        return bad.any().float()

    def take(self) -> dict[str, int]:
        """By name, how many bad gradients there have been since the last call. Waits for the device."""
        found: Counter[str] = Counter()
        for names, counts in self._counts.items():
            found.update(dict(zip(names, counts.tolist(), strict=True)))
            counts.zero_()
        return +found  # without zeros
