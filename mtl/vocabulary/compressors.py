"""Ways to make a model smaller: which are ours, and which are what a user would do instead."""

from typing import Literal

# The value of a recipe's `compressors` that stands for the penalty, whose strength is λ.
PENALTY = "penalty"
OURS = (PENALTY, "selection", "path", "penalty_to_target")
# Networks of other sizes from the start, and channels chosen by what other people's pruners go by.
ALTERNATIVES = ("narrow", "shallow", "magnitude", "random", "torch_pruning_norm", "torch_pruning_taylor", "oto")
Side = Literal["ours", "alternative"]


def side_of(compressor: str) -> Side:
    """Whether a compressor is ours; an unknown one is an alternative, so that nothing counts as ours by accident."""
    return "ours" if compressor in OURS else "alternative"
