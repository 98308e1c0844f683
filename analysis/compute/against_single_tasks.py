"""One multi-task model against the single-task models that cover the same tasks, at what they cost together.

The question is that of Standley et al. 2020 (arXiv 1905.07553): within a budget, is one network for all tasks better
than a smaller one for each? Single-task models are there as dense ones, and as the best compressed ones of the sweep
whose costs together are no more than the multi-task model's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.compute.best import NO_MORE
from analysis.compute.setting_names import short_names
from analysis.compute.settings import KEYS, seed_means
from analysis.read.load import Sweep
from mtl.vocabulary.objective import MODEL_MACS, WHOLE_COSTS

MOST_CHOICES = 5000
SHARES = {cost: f"{cost.removeprefix('model_').removesuffix('_ms')}_of_single_task" for cost in WHOLE_COSTS}
COLUMNS = [
    *("tasks", "setup", "method", "lambda", "strategy", "name", "seeds"),
    *WHOLE_COSTS,
    *(f"single_task_{cost}" for cost in WHOLE_COSTS),
    *SHARES.values(),
    *("test_delta_m_mean", "test_delta_m_std"),
    *("equal_cost_models", "equal_cost_macs", "equal_cost_delta_m_mean", "equal_cost_delta_m_std"),
    *("gain_mean", "gain_std", "gain_seeds"),
]


@dataclass(frozen=True)
class _Choice:
    """Some single-task models: their cost together, the sum of their Δm on validation, and their settings' indices."""

    cost: float
    gain: float
    rows: tuple[int, ...]


def against_single_tasks(sweep: Sweep, marked: pd.DataFrame) -> pd.DataFrame:
    """One row for each combination of several tasks and each of its settings on the front over performance and MACs,
    and for its dense model; none where costs or the dense single-task models are not known. Models without a channel
    are left out, on both sides.

    Columns, costs as means over seeds, shares and Δm as fractions:

    - the setting: `tasks`, `setup`, `method`, `lambda`, `strategy`, `name` (in words), `seeds`;
    - `model_macs`, `model_parameters`, `model_latency_ms` of the one model; `single_task_…`, the same of the dense
      single-task models together; `macs_of_single_task`, …, the one as a share of the other;
    - `test_delta_m_mean` and `…_std`: against the dense single-task models;
    - `equal_cost_models`: of all single-task models of the sweep, one for each task, those that together are best on
      validation at no more than `best.NO_MORE` times the one model's MACs; `equal_cost_macs`, theirs together;
      `equal_cost_delta_m_mean` and `…_std`, their mean Δm on test; empty where nothing is so cheap;
    - `gain_mean`, `gain_std`, `gain_seeds`: the one model's Δm less theirs, paired over the seeds that all have.
    """
    if f"{MODEL_MACS}_mean" not in marked or not marked["test_delta_m_mean"].notna().any():
        return pd.DataFrame(columns=COLUMNS)
    names = dict(zip(marked.index, short_names(marked), strict=True))
    deltas = seed_means(sweep).pivot_table("test_delta_m", KEYS, "seed", dropna=False)
    costs = [cost for cost in WHOLE_COSTS if f"{cost}_mean" in marked]
    table = []
    # A model without a channel sees nothing of the image: to beat it says nothing.
    seeing = marked[(marked[f"{MODEL_MACS}_mean"] > 0) & (marked["group_sparsity_mean"] < 1)]
    joint = seeing["tasks"].str.contains("+", regex=False) & (seeing["on_cost_front"] | (seeing["side"] == "dense"))
    falling = seeing[joint].sort_values(f"{MODEL_MACS}_mean", ascending=False, kind="stable")
    order = np.argsort(pd.Categorical(falling["tasks"], marked["tasks"].unique()).codes, kind="stable")
    for index, one in falling.iloc[order].iterrows():
        tasks = sweep.tasks_of(str(one["tasks"]))
        singles = [seeing[(seeing["tasks"] == task) & (seeing["setup"] == one["setup"])] for task in tasks]
        dense = [rows[rows["side"] == "dense"] for rows in singles]
        if any(rows.empty for rows in dense):
            continue
        row: dict[str, object] = {"name": names[index], "seeds": one["seeds"]}
        row |= {name: one[name] for name in (*KEYS, "strategy", "test_delta_m_mean", "test_delta_m_std")}
        for cost in costs:
            together = sum(float(rows[f"{cost}_mean"].iloc[0]) for rows in dense)
            row |= {cost: one[f"{cost}_mean"], f"single_task_{cost}": together}
            row[SHARES[cost]] = one[f"{cost}_mean"] / together if together > 0 else math.nan
        chosen = best_within([_choices(rows) for rows in singles], NO_MORE * float(one[f"{MODEL_MACS}_mean"]))
        if chosen is not None:
            theirs = deltas.loc[[tuple(marked.loc[place, KEYS]) for place in chosen.rows]].mean(skipna=False).dropna()
            gains = (deltas.loc[tuple(one[KEYS])] - theirs).dropna()
            row |= {
                "equal_cost_models": ", ".join(
                    f"{task} {names[place]}" for task, place in zip(tasks, chosen.rows, strict=True)
                ),
                "equal_cost_macs": chosen.cost,
                "equal_cost_delta_m_mean": theirs.mean(),
                "equal_cost_delta_m_std": theirs.std(ddof=1),
                "gain_mean": gains.mean(),
                "gain_std": gains.std(ddof=1),
                "gain_seeds": len(gains),
            }
        table.append(row)
    return pd.DataFrame(table, columns=COLUMNS)


def best_within(choices: Sequence[Sequence[_Choice]], budget: float) -> _Choice | None:
    """One of each task's choices, with the largest sum of gains whose costs together are within the budget; None where
    even the cheapest are not. It is exact while at most `MOST_CHOICES` partial choices are worth keeping, as for any
    few tasks; of more, those next to each other in cost are thinned out."""
    partial = [_Choice(0.0, 0.0, ())]
    for some in choices:
        added = [
            _Choice(before.cost + one.cost, before.gain + one.gain, (*before.rows, *one.rows))
            for before in partial
            for one in some
            if before.cost + one.cost <= budget
        ]
        partial = []
        for one in sorted(added, key=lambda choice: (choice.cost, -choice.gain)):
            if not partial or one.gain > partial[-1].gain:
                partial.append(one)
        if len(partial) > MOST_CHOICES:
            partial = [partial[place] for place in np.linspace(0, len(partial) - 1, MOST_CHOICES).astype(int)]
    return partial[-1] if partial else None


def _choices(rows: pd.DataFrame) -> list[_Choice]:
    """Of one task's settings those whose cost and Δm are known."""
    there = rows[rows[[f"{MODEL_MACS}_mean", "delta_m_mean", "test_delta_m_mean"]].notna().all(axis=1)]
    return [
        _Choice(float(cost), float(gain), (int(place),))
        for place, cost, gain in zip(there.index, there[f"{MODEL_MACS}_mean"], there["delta_m_mean"], strict=True)
    ]
