"""Objectives as they are written on a command line: COLUMN:maximize,COLUMN:minimize."""

from typing import get_args

from mtl.errors import BadInput
from mtl.vocabulary.objective import Direction, Objective


def parse_objectives(written: str) -> tuple[Objective, ...]:
    """Such as "test_depth_mae:minimize,group_sparsity:maximize"; whether the columns exist is checked on loading.

    Raises:
        BadInput: an entry is not a column and a direction, or a column stands there twice.
    """
    objectives = []
    for entry in written.split(","):
        column, _, direction = entry.strip().partition(":")
        if not column or direction not in get_args(Direction):
            raise BadInput(f"objectives: {entry.strip()!r}; allowed: COLUMN:maximize or COLUMN:minimize")
        objectives.append(Objective(column, "maximize" if direction == "maximize" else "minimize"))
    columns = [objective.column for objective in objectives]
    for column in columns:
        if columns.count(column) > 1:
            raise BadInput(f"objectives: {column} stands there {columns.count(column)} times; allowed: once")
    return tuple(objectives)
