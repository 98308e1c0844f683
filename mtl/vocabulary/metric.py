"""A metric of one task."""

from dataclasses import dataclass

from mtl.vocabulary.objective import Direction, Objective


@dataclass(frozen=True)
class Metric:
    """`name` is the full one without the split, such as depth_mae; `unit` is empty for a bare number."""

    name: str
    label: str
    unit: str
    direction: Direction

    @property
    def maximize(self) -> bool:
        return self.direction == "maximize"

    def objective(self, split: str) -> Objective:
        """The metric of a split, as a column of the results."""
        return Objective(f"{split}_{self.name}", self.direction)
