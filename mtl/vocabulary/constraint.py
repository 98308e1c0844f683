"""Conditions on a trial's columns, such as latency_ms<=20."""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mtl.errors import BadInput

CONDITION = re.compile(r"\s*(\w+)\s*(>=|<=|≥|≤)\s*(\S+)\s*")
Number = TypeVar("Number", float, NDArray[np.float64])
ASCII = {"≥": ">=", "≤": "<="}


@dataclass(frozen=True)
class Constraint:
    """`column` at least (`>=`) or at most (`<=`) `bound`."""

    column: str
    relation: str
    bound: float

    @classmethod
    def read(cls, text: str) -> "Constraint | None":
        """Reads COLUMN>=NUMBER or COLUMN<=NUMBER; None for any other text."""
        match = CONDITION.fullmatch(text)
        try:
            bound = float(match[3]) if match else math.nan
        except ValueError:
            return None
        return cls(match[1], ASCII.get(match[2], match[2]), bound) if match and math.isfinite(bound) else None

    def violation(self, value: Number) -> Number:
        """How far values are on the wrong side; 0 or less if they are allowed, as Optuna expects it."""
        return self.bound - value if self.relation == ">=" else value - self.bound

    def __str__(self) -> str:
        short = f"{self.bound:g}"
        # Of a number of many digits, such as a cost, all of them: the text is read again.
        return f"{self.column}{self.relation}{short if float(short) == self.bound else repr(self.bound)}"


def parse_constraint(field: str, text: str, columns: Collection[str]) -> Constraint:
    """Reads COLUMN>=NUMBER or COLUMN<=NUMBER; the name of a metric means its value on the validation split.

    Raises BadInput for a column that is not among `columns`.
    """
    found = Constraint.read(text)
    if found is None:
        raise BadInput(f"{field}: {text!r}; allowed: COLUMN>=NUMBER or COLUMN<=NUMBER, such as group_sparsity>=0.7")
    column = found.column if found.column in columns else f"val_{found.column}"
    if column not in columns:
        raise BadInput(f"{field}: {text!r} has no known column; allowed: {', '.join(columns)}")
    return replace(found, column=column)
