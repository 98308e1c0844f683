"""Conditions on a trial's columns, such as latency_ms<=20."""

import math
import re
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

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
        """COLUMN>=NUMBER or COLUMN<=NUMBER; None for any other text."""
        match = CONDITION.fullmatch(text)
        try:
            bound = float(match[3]) if match else math.nan
        except ValueError:
            return None
        return cls(match[1], ASCII.get(match[2], match[2]), bound) if match and math.isfinite(bound) else None

    def violation(self, value: Number) -> Number:
        """How far values are on the wrong side: 0 or less where they are allowed, as Optuna takes it."""
        return self.bound - value if self.relation == ">=" else value - self.bound

    def __str__(self) -> str:
        return f"{self.column}{self.relation}{self.bound:g}"
