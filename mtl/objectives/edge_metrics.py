"""How well edges are found: F at the best threshold of a whole split, and average precision, with a tolerance in
pixels.

A predicted pixel is right where an edge is at most the tolerance away, and an edge pixel is found where a predicted
pixel is. "Away" counts rows and columns, whichever are more, so that what is near is a square of side 2 x tolerance +
1. Precision and recall are over all labelled pixels of the split, at each of `THRESHOLDS` of the predicted probability.

The field's ODS-F (Martin, Fowlkes, Malik 2004; BSDS, SEISM) first thins what is predicted and then matches each pixel
with one of the labels', which takes seconds an image. Ours does neither and so is lower for thick edges; the tolerance
is theirs, 0.0075 of the diagonal. So compare it with nothing that others have published.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Probabilities k / 100 for k = 0 to 99: at 0 every pixel is on an edge, so that no model is below the constant
# predictor.
THRESHOLDS = 100
TOLERANCE = 0.0075  # of the diagonal


def tolerance(height: int, width: int) -> int:
    """Pixels, at least one."""
    return max(1, round(TOLERANCE * math.hypot(height, width)))


class EdgeCounts:
    """Counts of pixels by the highest threshold at which they count, added up over a split."""

    def __init__(self, device: torch.device | str) -> None:
        # predicted; of these near an edge; edge pixels, by the best prediction near them
        self.counts = torch.zeros(3, THRESHOLDS, dtype=torch.int64, device=device)

    def add(self, logits: Tensor, target: Tensor, valid: Tensor) -> None:
        """(N, H, W) each. What has no label is neither predicted nor an edge."""
        reach = tolerance(target.shape[1], target.shape[2])
        step = (logits.sigmoid() * THRESHOLDS).long().clamp(max=THRESHOLDS - 1)
        step = torch.where(valid, step, -1)
        edge = valid & (target == 1)
        near = _widened(edge.float(), reach) > 0
        best = _widened(step.float(), reach).long()
        for row, chosen in zip(self.counts, (step[valid], step[valid & near], best[edge]), strict=True):
            row += torch.bincount(chosen, minlength=THRESHOLDS)

    def compute(self) -> dict[str, float]:
        """`ods_f` and `ap`; none where no pixel has a label or none is on an edge."""
        predicted, right, found = self.counts.double().flip(1).cumsum(dim=1).flip(1)  # at each threshold
        if not found[0]:
            return {}
        # At a threshold without a prediction nothing is wrong, and nothing is found.
        precision, recall = torch.where(predicted > 0, right / predicted.clamp(min=1), 1), found / found[0]
        score = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
        falls = recall - torch.cat([recall[1:], recall.new_zeros(1)])
        return {"ods_f": float(score.max()), "ap": float((precision * falls).sum())}


def _widened(x: Tensor, reach: int) -> Tensor:
    """(N, H, W): the largest value in the square about each pixel."""
    return F.max_pool2d(x[:, None], kernel_size=2 * reach + 1, stride=1, padding=reach)[:, 0]
