"""The report's own tables, as strings: the claims, the constant predictor, trials, failures, numbers of a figure."""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis import text
from analysis.compute.claims import Claim
from analysis.compute.everything import Computed
from analysis.compute.text_table import TextTable, metric_header
from analysis.read.load import Sweep

MOST_ROWS = 500  # of a table in the report; the whole is in the file that its note names
MOST_FAILURES = 20  # kinds of them
LAST_LETTERS = 2000  # of an error


@dataclass(frozen=True)
class WrittenClaim:
    """A claim as the report shows it."""

    statement: str
    verdict: str
    tone: str  # yes, no or open
    why: str
    how: str


@dataclass(frozen=True)
class Failure:
    """One error, and the trials that ended with it."""

    trials: tuple[str, ...]
    more: int
    error: str


def written_claim(claim: Claim) -> WrittenClaim:
    """The verdict as a word and a tone."""
    tone = {"holds": "yes", "does not": "no"}.get(claim.verdict, "open")
    verdict = {"holds": "Holds", "does not": "Does not hold"}.get(claim.verdict, claim.verdict.capitalize())
    return WrittenClaim(claim.statement, verdict, tone, _sentence(claim.why), claim.how)


def written_constants(computed: Computed) -> TextTable:
    """The constant predictor beside the best of the sweep; marked where nothing beats it."""
    rows, marked = [], []
    for row in computed.constant_predictor.to_dict("records"):
        digits = text.decimals(max(abs(float(value)) for value in (row["constant"], row["best"]) if pd.notna(value)))
        unit = f" [{row['unit']}]" if row["unit"] else ""
        known = pd.notna(row["best"])
        rows.append(
            (
                f"{row['label']}{unit} {'↑' if row['maximize'] else '↓'}",
                f"{row['constant']:.{digits}f}",
                f"{row['best']:.{digits}f}" if known else "",
                f"{row['best_tasks']}, λ = {text.strength(float(row['best_lambda']))}" if known else "",
                ("yes" if row["beaten"] else "no") if known else "",
            )
        )
        marked.append(known and not row["beaten"])
    header = ("metric", "constant predictor", "best of the sweep", "which", "beaten")
    note = "Test split; the best is the best mean over seeds. The constant predictor ignores the image."
    return TextTable(header, tuple(rows), tuple(marked), note)


def written_trials(sweep: Sweep) -> TextTable:
    """Every trial, whatever its status, up to `MOST_ROWS`; those that are not done stand out."""
    results = sweep.results.sort_values(["tasks", "lambda", "seed"], kind="stable")
    shown = results.head(MOST_ROWS)
    several = [key for key in ("sweep", "method") if key in shown and results[key].nunique() > 1]
    columns: dict[str, list[str]] = {"tasks": _strings(shown["tasks"])}
    columns |= {key: _strings(shown[key]) for key in several}
    columns["λ"] = ["" if pd.isna(value) else text.strength(value) for value in shown["lambda"]]
    columns["seed"] = ["" if pd.isna(value) else f"{value:g}" for value in shown["seed"]]
    columns["status"] = _strings(shown["status"])
    columns["Δm [%] ↑"] = [_percent(value) for value in shown["test_delta_m"]]
    columns["groups gone [%]"] = [text.percent(value) for value in shown["group_sparsity"]]
    columns["weights gone [%]"] = [text.percent(value) for value in shown["parameter_sparsity"]]
    for primary in sweep.tasks.values():
        if f"test_{primary}" in shown:
            values = shown[f"test_{primary}"].astype(float)
            digits = text.decimals(float(values.abs().max()))
            columns[metric_header(sweep.metrics[primary])] = [text.mean_std(one, math.nan, digits) for one in values]
    if "train_seconds" in shown:
        columns["training [s]"] = ["" if pd.isna(value) else f"{value:.0f}" for value in shown["train_seconds"]]
    columns["trial"] = _strings(shown["trial_id"])
    note = "Test split. All columns are in trials.csv, beside this report."
    if len(results) > len(shown):
        note = f"The first {len(shown)} of {len(results)} trials by tasks, λ and seed. {note}"
    return _table(columns, tuple(status != "done" for status in shown["status"]), note)


def written_missing(missing: pd.DataFrame) -> TextTable:
    """Planned trials that are not done, up to `MOST_ROWS`."""
    shown = missing.head(MOST_ROWS)
    keys = [key for key in ("sweep", "method") if missing[key].nunique() > 1]
    columns = {key: _strings(shown[key]) for key in ("tasks", *keys)}
    columns["λ"] = ["" if pd.isna(value) else text.strength(value) for value in shown["lambda"]]
    columns["seed"] = ["" if pd.isna(value) else f"{value:g}" for value in shown["seed"]]
    columns["state"] = _strings(shown["state"])
    note = f"{len(shown)} of {len(missing)} are listed." if len(missing) > len(shown) else ""
    return _table(columns, (False,) * len(shown), note)


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


def written_numbers(data: pd.DataFrame, most: int = MOST_ROWS) -> TextTable:
    """A figure's numbers, up to `most` rows, to four digits."""
    shown = data.head(most)
    columns = {str(name).replace("_", " "): [_cell(value) for value in shown[name]] for name in shown}
    note = f"The first {most} of {len(data)} rows; the file has them all." if len(data) > most else ""
    return _table(columns, (False,) * len(shown), note)


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."


def _table(columns: dict[str, list[str]], marked: tuple[bool, ...], note: str) -> TextTable:
    return TextTable(tuple(columns), tuple(zip(*columns.values(), strict=True)), marked, note)


def _trial(row: dict[Hashable, Any]) -> str:
    return f"{row['tasks']}, λ = {text.strength(row['lambda'])}, seed {row['seed']:g} ({row['trial_id']})"


def _strings(column: pd.Series) -> list[str]:
    return ["" if pd.isna(value) else str(value) for value in column]


def _percent(share: float) -> str:
    return text.percent(share, signed=True)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}".replace("-", text.MINUS)
    return "" if value is None or value is pd.NA else str(value)
