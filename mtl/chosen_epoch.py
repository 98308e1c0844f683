"""Which epoch a trial's model is of: the best on validation, of those whose sparsity is the one that it ends with."""

import math
from collections.abc import Mapping, Sequence

from mtl.objectives.metrics import METRICS, primary_metric
from mtl.tasks import Task

# The sparsity has settled where it is within this of another epoch's: a fraction of all groups, and of all weights.
SETTLED = 0.01
# A metric below this, such as a cosine of less than 0, counts as this: it has no logarithm.
LEAST = 1e-6


def takes_over(tasks: Sequence[Task], row: Mapping[str, float], best: Mapping[str, float] | None) -> bool:
    """Whether the epoch of `row` is chosen instead of the best of those before it; both are rows of the history.

    It is where it is better, and also where the sparsity has moved by more than `SETTLED` since: a penalty removes
    groups for as long as a trial runs, and a model from before that is not the one that it has found. So the epoch that
    is chosen in the end is within `SETTLED` of the last one. A dense trial has settled from the start. An epoch with a
    loss that is not finite is never chosen.
    """
    score = validation_score(tasks, row)
    if score == -math.inf or best is None:
        return score > -math.inf
    moved = max(abs(row[name] - best[name]) for name in ("group_sparsity", "parameter_sparsity"))
    return moved > SETTLED or score > validation_score(tasks, best)


def validation_score(tasks: Sequence[Task], row: Mapping[str, float]) -> float:
    """Mean over the tasks of the logarithm of the first metric, negative where less is better; more is better.

    What one epoch has more than another is the mean relative change of the metrics, as in delta_m, whatever they are
    compared with: no task rules the choice by its unit or scale. Tasks without a label in the split are left out. Minus
    infinity where a validation loss is not finite, as the metrics of such a model may well be.
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
