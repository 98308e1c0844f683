"""Objectives: columns of the results, and whether more or less of each is better."""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["maximize", "minimize"]

SPARSITIES: dict[str, Direction] = {"group_sparsity": "maximize", "parameter_sparsity": "maximize"}
# Every trial has these, whatever its tasks.
COMMON: dict[str, Direction] = {"delta_m": "maximize", **SPARSITIES}
# What is measured only where the recipe says so (`measure_latency`).
LATENCIES = ("latency_ms", "model_latency_ms")
# What a model costs without its removed channels: the backbone alone, and (model_…) with its heads. They are known only
# once a trial is done.
MODEL_MACS = "model_macs"  # the cost that a compressor's target is a share of
WHOLE_COSTS = (MODEL_MACS, "model_parameters", "model_latency_ms")
COSTS: dict[str, Direction] = dict.fromkeys(("latency_ms", "macs", "active_parameters", *WHOLE_COSTS), "minimize")
# How small a model is, by whatever measure.
SIZES = COSTS | SPARSITIES


@dataclass(frozen=True)
class Objective:
    """A column of the results, and whether to maximize or minimize it."""

    column: str
    direction: Direction

    @property
    def maximize(self) -> bool:
        return self.direction == "maximize"

    @property
    def sign(self) -> int:
        """Values times this sign: more is better."""
        return 1 if self.maximize else -1
