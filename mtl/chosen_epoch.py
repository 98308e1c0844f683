"""From which epoch a trial keeps the model: the best on validation among those with the final sparsity."""

import math
from collections.abc import Mapping, Sequence

from mtl.objectives.metrics import METRICS, primary_metric
from mtl.tasks import Task

SETTLED = 0.01  # the sparsity has changed if it differs by more: a fraction of all groups, or of all weights
LEAST = 1e-6  # what a smaller metric, such as a negative cosine, counts as: it has no logarithm


def takes_over(tasks: Sequence[Task], row: Mapping[str, float], best: Mapping[str, float] | None) -> bool:
    """Whether the epoch of `row` is chosen instead of the best one before it; both are rows of the history.

    It is chosen if it is better, and also if the sparsity has changed by more than `SETTLED` since then: a penalty
    removes groups as long as a trial runs, and an earlier model is not the one that the trial found. So the sparsity of
    the finally chosen epoch is within `SETTLED` of the last one's. Without a penalty the sparsity never changes. An
    epoch with a loss that is not finite is never chosen.
    """
    score = validation_score(tasks, row)
    if score == -math.inf or best is None:
        return score > -math.inf
    moved = max(abs(row[name] - best[name]) for name in ("group_sparsity", "parameter_sparsity"))
    return moved > SETTLED or score > validation_score(tasks, best)


def validation_score(tasks: Sequence[Task], row: Mapping[str, float]) -> float:
    """Mean over the tasks of the logarithm of the first metric, negated where less is better; more is better.

    The difference between two epochs is the mean relative change of the metrics, as in delta_m, so that no task
    dominates by its unit or scale. Tasks without a label in the split are left out. Minus infinity where a validation
    loss is not finite, even if the metrics are.
    """
    if not all(math.isfinite(row[f"val_{task.name}_loss"]) for task in tasks):
        return -math.inf
    terms = []
    for task in tasks:
        value = row[f"val_{primary_metric(task)}"]
        if not math.isnan(value):
            maximize = next(iter(METRICS[task.kind].values())).direction == "maximize"
            terms.append((1 if maximize else -1) * math.log(max(value, LEAST)))
    return sum(terms) / len(terms) if terms else 0.0
