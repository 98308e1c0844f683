"""The report's own tables, as strings: the constant predictor, trials, failures, numbers of a figure."""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis import text
from analysis.compute.everything import Computed
from analysis.compute.text_table import CONSTANT, TextTable, cells, metric_header, setting_cells
from analysis.read.load import Sweep

MOST_ROWS = 500  # of a table in the report; the whole is in the file that its note names
MOST_FAILURES = 20  # different errors
LAST_LETTERS = 2000  # of an error


@dataclass(frozen=True)
class Failure:
    """One error, and the trials that ended with it."""

    trials: tuple[str, ...]
    more: int
    error: str


def written_constants(computed: Computed) -> TextTable:
    """The constant predictor beside the best of the sweep; marked where nothing beats it."""
    table = computed.constant_predictor
    rows = table.to_dict("records")
    digits = [
        text.decimals(row["constant"] if abs(row["constant"]) > abs(row["best"]) else row["best"]) for row in rows
    ]
    metrics = computed.sweep.metrics
    columns = {
        "metric": [metric_header(metrics[name]) for name in table["metric"]],
        CONSTANT: [f"{row['constant']:.{places}f}" for row, places in zip(rows, digits, strict=True)],
        "best of the sweep": [f"{row['best']:.{places}f}" for row, places in zip(rows, digits, strict=True)],
        "which": [f"{row['best_tasks']}, λ = {text.strength(row['best_lambda'])}" for row in rows],
        "beaten": ["yes" if beaten else "no" for beaten in table["beaten"]],
    }
    note = "Test split; the best is the best mean over seeds. The constant predictor ignores the image."
    return TextTable.of(columns, note, [not beaten for beaten in table["beaten"]])


def written_trials(sweep: Sweep) -> TextTable:
    """Every trial, whatever its status, up to `MOST_ROWS`; those that are not done stand out."""
    results = sweep.results.sort_values(["tasks", "lambda", "seed"], kind="stable")
    shown = results.head(MOST_ROWS)
    columns = setting_cells(results, ("tasks", "sweep", "method", "lambda", "seed", "status"), MOST_ROWS)
    columns["Δm [%] ↑"] = [text.percent(value, signed=True) for value in shown["test_delta_m"]]
    columns["groups gone [%]"] = [text.percent(value) for value in shown["group_sparsity"]]
    columns["weights gone [%]"] = [text.percent(value) for value in shown["parameter_sparsity"]]
    for primary in sweep.tasks.values():
        if f"test_{primary}" in shown:
            values = shown[f"test_{primary}"].astype(float)
            digits = text.decimals(float(values.abs().max()))
            columns[metric_header(sweep.metrics[primary])] = [text.mean_std(one, math.nan, digits) for one in values]
    if "train_seconds" in shown:
        columns["training [s]"] = cells(shown["train_seconds"], "{:.0f}".format)
    columns["trial"] = cells(shown["trial_id"])
    note = "Test split. All columns are in trials.csv, beside this report."
    if len(results) > len(shown):
        note = f"The first {len(shown)} of {len(results)} trials by tasks, λ and seed. {note}"
    return TextTable.of(columns, note, shown["status"] != "done")


def written_missing(missing: pd.DataFrame) -> TextTable:
    """Planned trials that are not done, up to `MOST_ROWS`."""
    note = f"{MOST_ROWS} of {len(missing)} are listed." if len(missing) > MOST_ROWS else ""
    columns = setting_cells(missing, ("tasks", "sweep", "method", "lambda", "seed", "state"), MOST_ROWS)
    return TextTable.of(columns, note)


def failures(sweep: Sweep) -> list[Failure]:
    """The failed trials by what they said, the most frequent first."""
    by_error: dict[str, list[str]] = {}
    for row in sweep.trials("failed").to_dict("records"):
        said = str(row["error"]) if pd.notna(row["error"]) else "no error was recorded"
        said = said if len(said) <= LAST_LETTERS else f"… {said[-LAST_LETTERS:]}"
        by_error.setdefault(said, []).append(_trial(row))
    kinds = sorted(by_error.items(), key=lambda kind: -len(kind[1]))
    return [Failure(tuple(trials[:10]), max(0, len(trials) - 10), error) for error, trials in kinds[:MOST_FAILURES]]


def first_rows(table: TextTable, file: str) -> TextTable:
    """The first `MOST_ROWS` of a long table, with a note that says where the whole is."""
    if len(table.rows) <= MOST_ROWS:
        return table
    note = f"The first {MOST_ROWS} of {len(table.rows)} rows; {file} has them all. {table.note}"
    return TextTable(table.header, table.rows[:MOST_ROWS], table.marked[:MOST_ROWS], note)


def written_numbers(data: pd.DataFrame, most: int) -> TextTable:
    """A figure's numbers, up to `most` rows, to four digits."""
    shown = data.head(most)
    columns = {str(name).replace("_", " "): cells(shown[name].tolist(), _number) for name in shown}
    return TextTable.of(columns, f"The first {most} of {len(data)} rows; the file has them all." * (len(data) > most))


def _trial(row: dict[Hashable, Any]) -> str:
    return f"{row['tasks']}, λ = {text.strength(row['lambda'])}, seed {row['seed']:g} ({row['trial_id']})"


def _number(value: Any) -> str:
    return f"{value:.4g}".replace("-", text.MINUS) if isinstance(value, float) else str(value)
