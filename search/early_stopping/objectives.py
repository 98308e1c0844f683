"""The objectives by which running trials are compared: their columns, directions and values."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mtl.errors import BadInput
from mtl.vocabulary.delta_m import relative_change
from mtl.vocabulary.metric import Metric
from mtl.vocabulary.objective import COMMON, COSTS, Objective


def parse_objectives(columns: Sequence[str], metrics: Mapping[str, Metric]) -> tuple[Objective, ...]:
    """The objectives of these names; metrics: the metrics by full name, which are known as val_NAME.

    Raises BadInput for a column that is not known.
    """
    known = known_objectives(metrics)
    for column in columns:
        if column not in known:
            raise BadInput(f"objectives: {column!r}; allowed: {', '.join(known)}")
    return tuple(known[column] for column in columns)


def known_objectives(metrics: Mapping[str, Metric]) -> dict[str, Objective]:
    """Every column that may be an objective or a constraint, by its name."""
    directions = COMMON | COSTS | {f"val_{name}": info.direction for name, info in metrics.items()}
    return {column: Objective(column, direction) for column, direction in directions.items()}


def check_running(columns: Sequence[str]) -> None:
    """Raise BadInput for an objective by which trials cannot be compared while they run."""
    for column in columns:
        if column in COSTS:
            raise BadInput(
                f"objectives: {column!r} is known only of a trial that is done; allowed with early_stopping: "
                f"{', '.join(COMMON)}, or a metric as val_NAME"
            )


def objective_costs(
    rows: Sequence[Mapping[str, float]], objectives: Sequence[Objective], primaries: Sequence[Objective]
) -> NDArray[np.float64]:
    """The objectives' values in rows of histories, signed so that less is better.

    Args:
        rows: one of each trial, all trained for the same number of epochs and on the same tasks.
        objectives: what to read from them.
        primaries: the primary metric of each of those tasks, of which delta_m is made.

    Returns:
        (rows, objectives); NaN where a row lacks a value or it is not finite.
    """
    columns = [
        running_delta_m(rows, primaries) if objective.column == "delta_m" else _column(rows, objective.column)
        for objective in objectives
    ]
    # Adding 0 makes one zero of the two, which are the same value.
    return np.column_stack([-o.sign * values + 0.0 for o, values in zip(objectives, columns, strict=True)])


def running_delta_m(rows: Sequence[Mapping[str, float]], primaries: Sequence[Objective]) -> NDArray[np.float64]:
    """A stand-in for delta_m among trials that still run, when their dense baselines may not have come as far:

        delta_i = 1/T Σ_t s_t (m_it - r_t) / |r_t|,   r_t = mean_j m_jt

    with m_it the primary metric of task t in row i, and s_t = 1 where more is better, else -1.

    delta_m itself has the same form, with the dense single-task model's b_t for r_t (Maninis et al. 2019, eq. 7). Both
    are affine in the metrics, with the weights s_t / (T |r_t|) or s_t / (T |b_t|): the reference shifts all rows alike
    and otherwise only weighs the tasks. Rows are ranked as by delta_m exactly for a single task, and for several where
    r_t / b_t is the same for all tasks; else the tasks' weights differ by the ratio of these.

    Returns:
        (rows,) fractions, better is positive; NaN where a metric of the row is missing or not finite, or r_t is 0.
    """
    changes = []
    for metric in primaries:
        values = _column(rows, metric.column)
        finite = values[np.isfinite(values)]
        reference = finite.mean() if len(finite) else math.nan
        changes.append(relative_change(values, reference, metric.maximize))
    return np.mean(changes, axis=0)


def _column(rows: Sequence[Mapping[str, float]], name: str) -> NDArray[np.float64]:
    values = np.array([row.get(name, math.nan) for row in rows], dtype=float)
    values[~np.isfinite(values)] = math.nan
    return values
