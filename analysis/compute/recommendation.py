"""The model to use as the report's head shows it: its name, what it costs and reaches, the command, and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis import text
from analysis.compute import summary
from analysis.compute.best import Best, asked_for
from analysis.compute.costs import SHARES
from analysis.compute.setting_names import setting_name
from analysis.read.load import Sweep
from mtl.vocabulary.objective import MODEL_MACS

COSTS = {MODEL_MACS: "MACs", "model_parameters": "parameters", "model_latency_ms": "latency"}
PERFORMANCE = {
    "test_delta_m": "Δm against dense single-task models",
    "test_over_dense": "Δm against the dense model of the same tasks",
}


@dataclass(frozen=True)
class Recommendation:
    """What the report says of one combination.

    Attributes:
        tasks: the combination.
        name: of the setting; empty where no model will do.
        facts: the numbers that matter, each with what it is.
        why: sentences: how it was chosen, or why there is none.
        beside: what else there is at no more cost; may be empty.
        front: from where to where the front runs; may be empty.
        seeds: how many trials the numbers are means of.
        trial_id, command: its model, and what makes that small.
    """

    tasks: str
    name: str
    facts: tuple[tuple[str, str], ...]
    why: str
    beside: str
    front: str
    seeds: int = 0
    trial_id: str = ""
    command: str = ""


def recommendations(
    sweep: Sweep, marked: pd.DataFrame, bests: Sequence[Best], volumes: pd.DataFrame
) -> list[Recommendation]:
    """One for each combination that the sweep was made for, the first `summary.MOST_COMBINATIONS` of them."""
    by_tasks = {best.tasks: best for best in bests}
    asked = asked_for(list(by_tasks))[: summary.MOST_COMBINATIONS]
    return [_recommendation(sweep, marked, by_tasks[tasks], volumes) for tasks in asked]


def _recommendation(sweep: Sweep, marked: pd.DataFrame, best: Best, volumes: pd.DataFrame) -> Recommendation:
    front = summary.front_range(marked, best.tasks, volumes)
    if best.row is None:
        why = f"No model is worth using: {best.why}."
        return Recommendation(best.tasks, "", (), why, "", front)
    values = marked.loc[best.row].to_dict()
    facts = []
    for cost, label in COSTS.items():
        share = values.get(f"{SHARES[cost]}_mean", math.nan)
        if not math.isnan(share):
            facts.append((f"{100 * share:.0f} %", f"of the dense model's {label}"))
    if not facts:
        facts.append((f"{100 * values['group_sparsity_mean']:.0f} %", "of the channel groups gone"))
    for column, label in PERFORMANCE.items():
        mean = values.get(f"{column}_mean", math.nan)
        # A dense model is no better than itself, and of one task it is the single-task model.
        if not math.isnan(mean) and (column == "test_delta_m" or ("+" in best.tasks and values["side"] != "dense")):
            facts.append((f"{text.percent(mean, values[f'{column}_std'], signed=True)} %", label))
    return Recommendation(
        tasks=best.tasks,
        name=setting_name(values, method=marked["method"].nunique() > 1),
        facts=tuple(facts),
        why=summary.reason(sweep, marked, best),
        beside=summary.beside(sweep, marked, best),
        front=front,
        seeds=int(values["trials"]),
        trial_id=best.trial_id,
        command=summary.command(sweep, best.trial_id),
    )
