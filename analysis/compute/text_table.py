"""Tables of strings: how their cells are written, which metrics they show, and how their columns are called."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd
from tabulate import tabulate

from analysis import text
from analysis.compute.costs import SHARES
from analysis.read.load import Sweep
from mtl.vocabulary.metric import Metric
from mtl.vocabulary.objective import MODEL_MACS

CONSTANT = "constant predictor"
# What the tables 1 to 3 of arXiv 2308.12114 report, shown beside the sweep's own primary metrics where it has them.
PAPER_METRICS = ("segmentation_iou_micro", "depth_mae", "normals_cos")
DEVIATION_NOTE = "± is the sample standard deviation over seeds (ddof 1); a value without ± comes from one trial."


@dataclass(frozen=True)
class TextTable:
    """A table of strings. `marked` tells for each row whether it is highlighted."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: tuple[bool, ...]
    note: str

    @classmethod
    def of(cls, columns: Mapping[str, Iterable[str]], note: str = "", marked: Iterable[bool] = ()) -> Self:
        """From the cells of each column, by its header; no row is highlighted where `marked` is empty."""
        rows = tuple(zip(*columns.values(), strict=True))
        return cls(tuple(columns), rows, tuple(map(bool, marked)) or (False,) * len(rows), note)

    def markdown(self) -> str:
        """A pipe table with its note below; marked rows are bold."""
        rows = [
            [f"**{cell}**" if marked and cell else cell for cell in row]
            for row, marked in zip(self.rows, self.marked, strict=True)
        ]
        escaped = [[cell.replace("|", r"\|") for cell in line] for line in (self.header, *rows)]
        return f"{tabulate(escaped, headers='firstrow', tablefmt='github', disable_numparse=True)}\n\n{self.note}\n"


def cells(values: Iterable[Any], write: Callable[[Any], str] = str) -> list[str]:
    """Each value written; empty where there is none."""
    return ["" if pd.isna(value) else write(value) for value in values]


def setting_cells(rows: pd.DataFrame, names: Iterable[str], most: int | None = None) -> dict[str, list[str]]:
    """Of the first `most` rows the columns that say which setting or trial each is.

    Sweep, setup and method are left out where all rows have the same.
    """
    headers = {"lambda": ("λ", text.strength), "seed": ("seed", "{:g}".format)}
    columns = {}
    for name in names:
        if name not in ("sweep", "setup", "method") or rows[name].nunique() > 1:
            header, write = headers.get(name, (name, str))
            columns[header] = cells(rows[name].head(most) if most else rows[name], write)
    return columns


def mean_cells(numbers: pd.DataFrame, name: str, write: Callable[[float, float], str]) -> list[str]:
    """The columns `<name>_mean` and `<name>_std`, written together."""
    return [write(*pair) for pair in zip(numbers[f"{name}_mean"], numbers[f"{name}_std"], strict=True)]


def sparsity_cells(numbers: pd.DataFrame) -> dict[str, list[str]]:
    """The shares of groups and of weights that are gone, in %."""
    headers = {"groups gone [%]": "group_sparsity", "weights gone [%]": "parameter_sparsity"}
    return {header: mean_cells(numbers, name, text.percent) for header, name in headers.items()}


def cost_cells(numbers: pd.DataFrame) -> dict[str, list[str]]:
    """What the whole model costs in % of the dense model's; no column for a cost that no row knows."""
    headers = {"MACs [% of dense]": MODEL_MACS, "parameters [% of dense]": "model_parameters"}
    found = {header: SHARES[cost] for header, cost in headers.items()}
    return {
        header: mean_cells(numbers, name, text.percent)
        for header, name in found.items()
        if f"{name}_mean" in numbers and numbers[f"{name}_mean"].notna().any()
    }


def shown_metrics(sweep: Sweep) -> list[Metric]:
    """Each task's primary metric, and the paper's for that task, as far as the trials report them."""
    names = []
    for task, primary in sweep.tasks.items():
        names += [primary, *(name for name in PAPER_METRICS if name in sweep.metrics and name.startswith(f"{task}_"))]
    return [sweep.metrics[name] for name in dict.fromkeys(names) if f"test_{name}" in sweep.results.columns]


def metric_header(metric: Metric) -> str:
    """The label, the unit if there is one, and the better direction."""
    unit = f" [{metric.unit}]" if metric.unit else ""
    return f"{metric.label}{unit} {'↑' if metric.maximize else '↓'}"
