"""Tables 1, 2 and 3 of arXiv 2308.12114 from a sweep, beside the published numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import pandas as pd

from analysis import text
from analysis.compute.published import METRICS, SOURCE, TABLES, PublishedTable, published_numbers
from analysis.compute.text_table import (
    CONSTANT,
    DEVIATION_NOTE,
    TextTable,
    cells,
    mean_cells,
    metric_header,
    setting_cells,
    sparsity_cells,
)
from analysis.read.load import Sweep
from mtl.vocabulary.delta_m import NO_RETRAINING

OURS, PUBLISHED = "ours", "published"
# Of a recipe, what the published numbers depend on most; the dataset is the table's.
PUBLISHED_SETTING: dict[str, object] = {
    "protocol": "paper",
    "backbone": "resnet50",
    "backbone_width": 64,
    "backbone_layers": None,
    "image_size": [256, 256],
    "task_weighting": "uncertainty",
    "metric": "adaptive",
}


@dataclass(frozen=True)
class PaperTable:
    """One of the paper's tables.

    Attributes:
        number: 1, 2 or 3.
        title: what it is of.
        numbers: `source` ("ours", "published" or "constant predictor"), `setup` (of ours), `tasks`, `penalty`,
            `lambda` (NaN where not printed), `seeds`, and `<column>_mean`, `<column>_std` for each metric (test split),
            `group_sparsity` and `parameter_sparsity` (fractions). Combinations stand as in the paper, each with our
            rows first.
        comparable: whether the sweep was trained and measured as the published numbers were: on that dataset, with
            that network at that resolution, by that protocol.
        note: where the published numbers are from, and in what ours differ from them.
        written: the same for people.
    """

    number: int
    title: str
    numbers: pd.DataFrame
    comparable: bool
    note: str
    written: TextTable


def paper_tables(sweep: Sweep, settings: pd.DataFrame) -> tuple[PaperTable, ...]:
    """The tables whose tasks the sweep has: all of a table's tasks, among those that have done trials.

    Table 3 is there wherever table 1 is, and says so where the sweep has no ℓ1 trials.

    Args:
        settings: of `analysis.compute.settings.settings_table`, or with more columns.
    """
    done = {task for tasks in settings["tasks"].unique() for task in str(tasks).split("+")}
    return tuple(_table(sweep, settings, table) for table in TABLES if set(table.tasks) <= done)


def _table(sweep: Sweep, settings: pd.DataFrame, table: PublishedTable) -> PaperTable:
    published = published_numbers(table)
    metrics = [name for name in METRICS.values() if f"{name}_mean" in published]
    columns = [*metrics, "group_sparsity", "parameter_sparsity"]
    values = [f"{column}_{part}" for column in columns for part in ("mean", "std")]
    published = published.reindex(columns=[*published.columns, *(one for one in values if one not in published)])

    tests = {f"test_{name}_{part}": f"{name}_{part}" for name in metrics for part in ("mean", "std")}
    ours = settings.rename(columns=tests)
    as_printed = (ours["penalty"] == table.penalty) & (ours["retraining"] == NO_RETRAINING) & (ours["settings"] == "")
    ours = ours[as_printed & ours["tasks"].map(lambda one: set(one.split("+")) <= set(table.tasks))]
    ours = ours.reindex(columns=["setup", "tasks", "penalty", "lambda", "seeds", *values])

    numbers = pd.concat([ours.assign(source=OURS), published.assign(source=PUBLISHED)], ignore_index=True)
    order = {frozenset(tasks.split("+")): place for place, tasks in enumerate(published["tasks"].unique())}
    places = [order.get(frozenset(tasks.split("+")), len(order)) for tasks in numbers["tasks"]]
    numbers = numbers.assign(place=places).sort_values(["place", "source", "setup", "lambda"], kind="stable")
    known = sweep.constant_predictor
    if constant := {f"{name}_mean": known[name] for name in metrics if name in known}:
        row = pd.DataFrame([{"source": CONSTANT, "tasks": ""} | constant])
        numbers = pd.concat([numbers, row.reindex(columns=numbers.columns)], ignore_index=True)
    numbers = numbers[["source", "setup", "tasks", "penalty", "lambda", "seeds", *values]].reset_index(drop=True)
    numbers = numbers.astype({"seeds": "Int64"})

    comparable, note = _protocol(sweep, table)
    if ours.empty:
        note = f"This sweep has no done trials with penalty {table.penalty} of these combinations. {note}"
    title = f"Table {table.number}: {table.title}"
    return PaperTable(table.number, title, numbers, comparable, note, _written(sweep, numbers, metrics, note))


def _protocol(sweep: Sweep, table: PublishedTable) -> tuple[bool, str]:
    """Whether every part of the sweep was run as the paper ran it, and a note that says in what it was not."""
    other = differing(sweep, {"dataset": table.dataset} | PUBLISHED_SETTING)
    says = (
        f"Ours do NOT compare with them: {'; '.join(other)}."
        if other
        else "Ours compare with them as far as splits and optimizer of our own allow."
    )
    where = f"Rows marked published are from {SOURCE}, table {table.number}, their ± divided by n."
    return not other, f"{where} {says}"


def differing(sweep: Sweep, wanted: Mapping[str, object]) -> list[str]:
    """In which of these fields a part of the sweep was run otherwise, such as "protocol standard, not paper"."""
    found = [
        f"{name} {_shown(recipe.get(name))}, not {_shown(value)}"
        for name, value in wanted.items()
        for recipe in (part.info["recipe"] for part in sweep.parts or (sweep,))
        if recipe.get(name) != value
    ]
    return list(dict.fromkeys(found))


def _shown(value: object) -> str:
    if value in (None, [], ""):
        return "left out"
    if isinstance(value, list):
        return (", " if isinstance(value[0], str) else " × ").join(map(str, value))
    return str(value)


def _written(sweep: Sweep, numbers: pd.DataFrame, metrics: list[str], note: str) -> TextTable:
    columns = {"": cells(numbers["source"])}
    columns |= setting_cells(numbers, ("setup", "tasks", "lambda", "seeds")) | sparsity_cells(numbers)
    headers = [metric_header(sweep.metrics[name]) if name in sweep.metrics else name for name in metrics]
    for name, header in zip(metrics, headers, strict=True):
        # Two tasks of one kind have metrics of one label.
        header = f"{name.rpartition('_')[0]} {header}" if headers.count(header) > 1 else header
        columns[header] = mean_cells(numbers, name, partial(text.mean_std, decimals=3))
    return TextTable.of(columns, f"{note} {DEVIATION_NOTE}", numbers["source"] == PUBLISHED)
