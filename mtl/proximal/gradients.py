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
