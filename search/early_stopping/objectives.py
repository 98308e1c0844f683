"""The objectives that compare running trials: their columns, directions and values."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mtl.errors import BadInput
from mtl.vocabulary.delta_m import relative_change
from mtl.vocabulary.metric import Metric
from mtl.vocabulary.objective import COMMON, COSTS, MODEL_MACS, Objective


def parse_objectives(columns: Sequence[str], metrics: Mapping[str, Metric]) -> tuple[Objective, ...]:
    """The objectives with these names. `metrics` has the metrics by full name; as columns they are called val_NAME.

    Raises BadInput for an unknown column.
    """
    known = known_objectives(metrics)
    for column in columns:
        if column not in known:
            raise BadInput(f"objectives: {column!r}; allowed: {', '.join(known)}")
    return tuple(known[column] for column in columns)


def known_objectives(metrics: Mapping[str, Metric]) -> dict[str, Objective]:
    """Every column that may be an objective or in a constraint, by its name."""
    directions = COMMON | COSTS | {f"val_{name}": info.direction for name, info in metrics.items()}
    return {column: Objective(column, direction) for column, direction in directions.items()}


def check_running(columns: Sequence[str], *, cost_follows: bool = False) -> None:
    """Raise BadInput for an objective that cannot compare trials while they run.

    cost_follows: whether the target of every trial that may be stopped tells its `model_macs`.
    """
    for column in columns:
        if column in COSTS and not (cost_follows and column == MODEL_MACS):
            raise BadInput(
                f"objectives: {column!r} is known only of a trial that is done; allowed with early_stopping: "
                f"{', '.join(COMMON)}, or a metric as val_NAME; {MODEL_MACS} where all trials have targets"
            )


def objective_costs(
    rows: Sequence[Mapping[str, float]], objectives: Sequence[Objective], primaries: Sequence[Objective]
) -> NDArray[np.float64]:
    """The objectives' values in rows of histories, signed so that less is better.

    Args:
        rows: one row of each trial; all trials have run the same number of epochs on the same tasks.
        objectives: what to read from the rows.
        primaries: the primary metric of each task, of which delta_m is made.

    Returns:
        (rows, objectives); NaN if a row lacks a value or it is not finite.
    """
    columns = [
        running_delta_m(rows, primaries) if objective.column == "delta_m" else _column(rows, objective.column)
        for objective in objectives
    ]
    # Adding 0 turns -0.0 into 0.0.
    return np.column_stack([-o.sign * values + 0.0 for o, values in zip(objectives, columns, strict=True)])


def running_delta_m(rows: Sequence[Mapping[str, float]], primaries: Sequence[Objective]) -> NDArray[np.float64]:
    """A stand-in for delta_m among running trials, because their dense baselines may have run fewer epochs:

        delta_i = 1/T Σ_t s_t (m_it - r_t) / |r_t|,   r_t = mean_j m_jt

    where m_it is the primary metric of task t in row i, and s_t = 1 if more is better, else -1.

    delta_m has the same form with the dense single-task model's b_t in place of r_t (Maninis et al. 2019, eq. 7). Both
    are affine in the metrics, with the weights s_t / (T |r_t|) or s_t / (T |b_t|). So the reference only shifts all
    rows equally and weights the tasks. For a single task the order of the rows is exactly that of delta_m. For
    several tasks it is if r_t / b_t is equal for all tasks; else the tasks' weights differ by these ratios.

    Returns:
        (rows,) fractions, better is positive; NaN if a metric of the row is missing or not finite, or if r_t is 0.
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
