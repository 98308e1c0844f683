"""All figures that a sweep's files have the numbers for, and a line for each that they have not."""

from dataclasses import dataclass

import pandas as pd

from analysis.figures.drawing import Drawing, style
from analysis.figures.dynamics import dynamics_figure
from analysis.figures.fronts import front_figure
from analysis.figures.lambda_curves import metrics_figure, sparsity_figure
from analysis.figures.latency import latency_figure
from analysis.load import Sweep


@dataclass(frozen=True)
class Figures:
    """What was drawn, and by a figure's name the sentence why it was not."""

    drawn: tuple[Drawing, ...]
    absent: dict[str, str]


def draw_all(sweep: Sweep, marked: pd.DataFrame) -> Figures:
    """Every figure of the report."""
    with style():
        attempts = {
            "front": front_figure(sweep, marked),
            "fig3a": metrics_figure(sweep, marked),
            "fig3b": sparsity_figure(marked),
            "fig3c": dynamics_figure(sweep, marked),
            "fig3d": latency_figure(sweep, marked),
        }
    return Figures(
        drawn=tuple(attempt for attempt in attempts.values() if isinstance(attempt, Drawing)),
        absent={name: attempt for name, attempt in attempts.items() if isinstance(attempt, str)},
    )
