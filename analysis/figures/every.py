"""All figures for which a sweep has the numbers, and for each other figure a sentence that says why not."""

from dataclasses import dataclass

from analysis.compute.everything import Computed
from analysis.figures.affinity import affinity_figure
from analysis.figures.attainment import attainment_figure
from analysis.figures.claims import claims_figure
from analysis.figures.costs import LATENCY, PARAMETERS, cost_figure
from analysis.figures.drawing import Drawing, style
from analysis.figures.dynamics import dynamics_figure
from analysis.figures.fronts import front_figure
from analysis.figures.lambda_curves import metrics_figure, sparsity_figure
from analysis.figures.latency import latency_figure
from analysis.figures.layers import ABSENT, groups_figure, survival_figure
from analysis.figures.overlap import overlap_figure


@dataclass(frozen=True)
class Figures:
    """What was drawn, and by a figure's name the sentence why it was not."""

    drawn: dict[str, Drawing]
    absent: dict[str, str]


def draw_all(computed: Computed) -> Figures:
    """Every figure of the report, by name."""
    sweep, marked, layers = computed.sweep, computed.marked, computed.layers
    tasks = list(sweep.tasks)
    with style():
        attempts: dict[str, Drawing | str] = {
            "claims": claims_figure(computed.claims),
            "cost": cost_figure(marked),
            "cost_parameters": cost_figure(marked, PARAMETERS),
            "cost_latency": cost_figure(marked, LATENCY),
            "front": front_figure(sweep, marked),
            "attainment": attainment_figure(sweep, marked, computed.attainment),
            "performance_against_lambda": metrics_figure(sweep, marked),
            "sparsity_against_lambda": sparsity_figure(marked),
            "sparsity_while_training": dynamics_figure(sweep, marked),
            "latency_against_lambda": latency_figure(sweep, marked),
            "latency_against_sparsity": latency_figure(sweep, marked, by_sparsity=True),
            "affinity": affinity_figure(computed.affinity, tasks),
        }
        if layers is None:
            attempts |= dict.fromkeys(("groups_by_layer", "stages", "layers", "overlap"), ABSENT)
        else:
            attempts |= {
                "groups_by_layer": groups_figure(marked, layers.layers),
                "stages": survival_figure(marked, layers.stages, "stages"),
                "layers": survival_figure(marked, layers.layers, "layers"),
                "overlap": overlap_figure(layers.overlap, tasks),
            }
    return Figures(
        drawn={name: attempt for name, attempt in attempts.items() if isinstance(attempt, Drawing)},
        absent={name: attempt for name, attempt in attempts.items() if isinstance(attempt, str)},
    )
