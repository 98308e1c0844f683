"""Objectives as they are written on a command line: COLUMN:maximize,COLUMN:minimize."""

from analysis.read.load import DIRECTIONS, Objective
from mtl.errors import BadInput


def parse_objectives(written: str) -> tuple[Objective, ...]:
    """Such as "test_depth_mae:minimize,group_sparsity:maximize"; whether the columns exist is checked on loading.

    Raises:
        BadInput: an entry is not a column and a direction, or a column stands there twice.
    """
    objectives = []
    for entry in written.split(","):
        column, _, direction = entry.strip().partition(":")
        if not column or direction not in DIRECTIONS:
            raise BadInput(f"objectives: {entry.strip()!r}; allowed: COLUMN:maximize or COLUMN:minimize")
        objectives.append(Objective(column, direction == "maximize"))
    columns = [objective.column for objective in objectives]
    for column in columns:
        if columns.count(column) > 1:
            raise BadInput(f"objectives: {column} stands there {columns.count(column)} times; allowed: once")
    return tuple(objectives)
