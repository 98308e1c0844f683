"""The best of several settings, chosen and measured so that no seed has a part in the choice that it is measured by.

The obvious ways are wrong. To choose on the validation split and measure on the test split of the same models has a
winner's curse, as a lucky model does well on both. To leave each seed out in turn has none in the mean, but the values
it gives are correlated: a seed that is left out takes part in all other choices, and Student's interval is too narrow.
Choosing for each seed on the seeds before it gives values that have, without an effect and with equal variances,
independent normal distributions of mean zero whatever was chosen: Student's interval is exact.
`python -m benchmarks.claims` measures all three.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ForwardChoice:
    """What was chosen for each seed, and what it gave.

    Attributes:
        rows: (k,) the seeds that were measured, by their places; the first seed only chooses.
        columns: (k,) what was chosen for each of them.
        measured: (k,) what that gave on the seed itself.
        final: what all seeds together choose.
        seeds: the places of all that took part in a choice or were measured, in order.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    measured: NDArray[np.float64]
    final: int
    seeds: NDArray[np.intp]


def forward_choice(chooses: NDArray[np.float64], measures: NDArray[np.float64]) -> ForwardChoice | None:
    """Choose a column for each row on the rows before it.

    Of the columns that the row itself has a number in, the one with the largest mean among those with the most earlier
    rows, as one seed alone may be lucky; of equal ones the first.

    Args:
        chooses, measures: (seeds, settings) values of which more is better, on validation and on test, the seeds in an
            order that says nothing of their values; NaN where there is none.

    Returns:
        None where no row could be measured.
    """
    if chooses.size == 0:
        return None
    known = ~np.isnan(chooses)
    counts, sums = known.cumsum(axis=0), np.where(known, chooses, 0.0).cumsum(axis=0)
    rows, columns = [], []
    for row in range(1, len(measures)):
        best = _best(np.where(np.isnan(measures[row]), 0, counts[row - 1]), sums[row - 1])
        if best is not None:
            rows.append(row)
            columns.append(best)
    final = _best(counts[-1], sums[-1])
    if not rows or final is None:
        return None
    chose = np.flatnonzero(known.any(axis=1) & (np.arange(len(known)) < rows[-1]))
    measured = measures[rows, columns]
    return ForwardChoice(np.array(rows), np.array(columns), measured, final, np.union1d(chose, rows))


def _best(counts: NDArray[np.int_], sums: NDArray[np.float64]) -> int | None:
    """Among the columns with the most rows, the one with the largest mean; None where there is no number."""
    most = counts.max()
    if most == 0:
        return None
    return int(np.where(counts == most, sums, -np.inf).argmax())
