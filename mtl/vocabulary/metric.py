"""A metric of one task."""

from dataclasses import dataclass

from mtl.vocabulary.objective import Direction, Objective


@dataclass(frozen=True)
class Metric:
    """`name` is the full name without the split, such as depth_mae; `unit` is empty for a plain number."""

    name: str
    label: str
    unit: str
    direction: Direction

    @property
    def maximize(self) -> bool:
        return self.direction == "maximize"

    def objective(self, split: str) -> Objective:
        """The metric's column in the results for this split."""
        return Objective(f"{split}_{self.name}", self.direction)
