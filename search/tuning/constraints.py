"""Conditions on a trial's columns, such as latency_ms<=20."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from mtl.errors import BadInput
from mtl.vocabulary.constraint import Constraint


def parse_constraint(field: str, text: str, columns: Collection[str]) -> Constraint:
    """COLUMN>=NUMBER or COLUMN<=NUMBER; a metric's name alone is its value on the validation split.

    Raises BadInput, naming the columns, for one that is not among `columns`.
    """
    found = Constraint.read(text)
    if found is None:
        raise BadInput(f"{field}: {text!r}; allowed: COLUMN>=NUMBER or COLUMN<=NUMBER, such as group_sparsity>=0.7")
    column = found.column if found.column in columns else f"val_{found.column}"
    if column not in columns:
        raise BadInput(f"{field}: {text!r} has no known column; allowed: {', '.join(columns)}")
    return replace(found, column=column)


def parse_constraints(field: str, texts: Sequence[str], columns: Collection[str]) -> tuple[Constraint, ...]:
    """Each of them once. Raises BadInput."""
    return tuple(dict.fromkeys(parse_constraint(field, text, columns) for text in texts))
