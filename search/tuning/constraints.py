"""Conditions on a trial's columns, such as latency_ms<=20."""

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mtl.errors import BadInput

CONDITION = re.compile(r"\s*(\w+)\s*(>=|<=|≥|≤)\s*(\S+)\s*")


@dataclass(frozen=True)
class Constraint:
    """`column` at least (`>=`) or at most (`<=`) `bound`."""

    column: str
    relation: str
    bound: float

    def violation(self, value: float) -> float:
        """How far a value is on the wrong side: 0 or less where it is allowed, as Optuna takes it."""
        return self.bound - value if self.relation == ">=" else value - self.bound

    def __str__(self) -> str:
        return f"{self.column}{self.relation}{self.bound:g}"


def parse_constraint(field: str, text: str, columns: Collection[str]) -> Constraint:
    """COLUMN>=NUMBER or COLUMN<=NUMBER; a metric's name alone is its value on the validation split.

    Raises BadInput, naming the columns, for one that is not among `columns`.
    """
    match = CONDITION.fullmatch(text)
    try:
        bound = float(match[3]) if match else float("nan")
    except ValueError:
        bound = float("nan")
    if match is None or not math.isfinite(bound):
        raise BadInput(f"{field}: {text!r}; allowed: COLUMN>=NUMBER or COLUMN<=NUMBER, such as group_sparsity>=0.7")
    column = match[1] if match[1] in columns else f"val_{match[1]}"
    if column not in columns:
        raise BadInput(f"{field}: {text!r} has no known column; allowed: {', '.join(columns)}")
    return Constraint(column, {"≥": ">=", "≤": "<="}.get(match[2], match[2]), bound)


def parse_constraints(field: str, texts: Sequence[str], columns: Collection[str]) -> tuple[Constraint, ...]:
    """Each of them once. Raises BadInput."""
    return tuple(dict.fromkeys(parse_constraint(field, text, columns) for text in texts))
