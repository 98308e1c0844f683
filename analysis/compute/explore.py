"""What the report's explorable front can show: its axes, and each setting's numbers on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.compute.costs import SHARES, known
from analysis.compute.settings import ALL_METRICS
from analysis.compute.text_table import metric_header
from analysis.read.load import Sweep
from mtl.vocabulary.objective import MODEL_MACS

MOST_POINTS = 500


@dataclass(frozen=True)
class Axis:
    """A number of the settings as an axis.

    Attributes:
        key: of the axis, in the page.
        column: what is shown: its mean and deviation over seeds.
        chosen_by: the column that decides who is on a front: of metrics that of the validation split.
        label: with its unit.
        scale: what a value is multiplied with.
        maximize: whether more is better.
        log: whether the axis is logarithmic.
        zero: what stands at 0, where that is a model to compare with.
        group: where a list of axes has groups, the name of its group.
    """

    key: str
    column: str
    chosen_by: str
    label: str
    scale: float
    maximize: bool
    log: bool = False
    zero: str = ""
    group: str = ""


def cost_axes(marked: pd.DataFrame) -> list[Axis]:
    """What a model costs, as far as any setting knows it; the MACs first."""
    shares = {MODEL_MACS: "MACs", "model_parameters": "parameters", "model_latency_ms": "latency"}
    axes = [_cost(SHARES[cost], f"{label} [% of dense]", 100) for cost, label in shares.items()]
    axes += [
        _cost(MODEL_MACS, "MACs for one image [millions]", 1e-6),
        _cost("model_parameters", "parameters [thousands]", 1e-3),
        _cost("model_latency_ms", "latency for one image [ms]", 1.0),
    ]
    axes = [axis for axis in axes if _positive(marked, axis.column)]
    gone = {"group_sparsity": "groups gone [%]", "parameter_sparsity": "weights gone [%]"}
    return axes + [Axis(name, name, name, label, 100, True) for name, label in gone.items()]


def performance_axes(sweep: Sweep, marked: pd.DataFrame) -> list[Axis]:
    """How good a model is, on the test split: Δm, each task's primary metric, and the other metrics."""
    deltas = {
        "delta_m": ("Δm over dense single-task models [%] ↑", "the dense single-task models"),
        "over_dense": ("Δm over the dense model of the same tasks [%] ↑", "the dense model of the same tasks"),
        ALL_METRICS[0]: ("Δm over all metrics, over dense single-task models [%] ↑", "the dense single-task models"),
    }
    axes = [
        Axis(name, f"test_{name}", name, label, 100, True, zero=zero, group="All tasks together")
        for name, (label, zero) in deltas.items()
    ]
    primaries = list(sweep.tasks.values())
    for name in [*primaries, *(name for name in sweep.metrics if name not in primaries)]:
        metric = sweep.metrics[name]
        group = "The tasks' first metrics" if name in primaries else "Other metrics"
        column = f"test_{name}"
        axes.append(Axis(name, column, f"val_{name}", metric_header(metric), 1.0, metric.maximize, group=group))
    there = [axis for axis in axes if _known(marked, axis.column) and _known(marked, axis.chosen_by)]
    # Models of one task each have no other dense model than the single-task one.
    alike = not (marked["tasks"].str.contains("+", regex=False)).any() and _known(marked, "test_delta_m")
    return [axis for axis in there if not (alike and axis.key == "over_dense")]


def first_axes(marked: pd.DataFrame, tasks: Sequence[str], x: Sequence[Axis], y: Sequence[Axis]) -> tuple[str, str]:
    """The keys of the axes that are shown at first: the first cost, and the first performance that all settings of
    these combinations know."""
    rows = marked[marked["tasks"].isin(tasks)]
    whole = [axis.key for axis in y if known(rows, axis.column)]
    return x[0].key, (whole or [y[0].key])[0]


def points(marked: pd.DataFrame, most: int = MOST_POINTS) -> pd.DataFrame:
    """The settings that the page shows: all, or where they are too many those that are on a front or the ones to use,
    and as many others; in the settings' order."""
    kept = marked["best"] | marked["on_front"] | marked["on_cost_front"]
    order = np.argsort(~kept.to_numpy(dtype=bool), kind="stable")[:most]
    return marked.iloc[np.sort(order)]


def _cost(column: str, label: str, scale: float) -> Axis:
    return Axis(column, column, column, label, scale, False, log=True)


def _known(rows: pd.DataFrame, column: str) -> bool:
    return f"{column}_mean" in rows and bool(rows[f"{column}_mean"].notna().any())


def _positive(rows: pd.DataFrame, column: str) -> bool:
    """As a logarithm needs it."""
    return _known(rows, column) and bool((rows[f"{column}_mean"].dropna() > 0).all())
