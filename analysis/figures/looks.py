"""How each way to a small model is drawn, the same in all figures."""

import pandas as pd

from analysis.compute.costs import DENSE
from analysis.figures.curves import Look
from analysis.figures.drawing import MARKERS, Line
from analysis.figures.palette import INK, SERIES


def strategy_looks(marked: pd.DataFrame) -> dict[str, Look]:
    """By strategy: the dense model first, then ours, then the alternatives."""
    sides = marked.drop_duplicates("strategy").set_index("strategy")["side"]
    looks = {name: Look(INK.light, "*", "") for name in sides.index if name == DENSE}
    others = [name for side in ("ours", "alternative") for name in sides.index[sides == side]]
    # The last of the series is the ink of the dense model.
    colors = SERIES[:-1]
    for place, name in enumerate(others):
        line: Line = "-" if sides[name] == "ours" else "--"
        looks[str(name)] = Look(colors[place % len(colors)].light, MARKERS[place % len(MARKERS)], line)
    return looks
