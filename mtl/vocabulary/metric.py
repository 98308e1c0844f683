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

    def text(self, value: float, form: str) -> str:
        """A value in a number format such as .4g, with its unit: 0.5588 m, 31.2°, 0.121."""
        gap = "" if self.unit in ("", "°") else " "
        return f"{value:{form}}{gap}{self.unit}"

    def objective(self, split: str) -> Objective:
        """The metric's column in the results for this split."""
        return Objective(f"{split}_{self.name}", self.direction)
