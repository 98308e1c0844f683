"""What was run, when, for how long and with what, as the report lists it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis import text
from analysis.read.load import Sweep
from mtl.vocabulary.units import duration


def run_facts(sweep: Sweep) -> dict[str, dict[str, Any]]:
    """Names and values in groups; of merged sweeps each sweep's recipe and versions, where they differ."""
    parts = sweep.parts or (sweep,)
    facts: dict[str, dict[str, Any]] = {"The run": _when(sweep)}
    recipes: list[dict[str, Any]] = []
    for part in parts:
        recipe = part.info["recipe"]
        recipe = recipe if isinstance(recipe, Mapping) else {"recipe": recipe}
        name = "The recipe" if part is parts[0] else f"Where the recipe of {part.name} differs"
        others = recipes[0] if recipes else {}
        facts[name] = {
            field: value for field, value in recipe.items() if not recipes or others.get(field, _Nothing) != value
        }
        recipes.append(dict(recipe))
    for part in parts:
        versions = dict(part.info.get("versions") or {}) | {"git commit": part.info.get("git_commit") or "not known"}
        if all(versions != other for other in facts.values()):
            facts["Versions" if part is parts[0] else f"Versions of {part.name}"] = versions
    return {name: values for name, values in facts.items() if values}


class _Nothing:
    """A value that no field has."""


def _when(sweep: Sweep) -> dict[str, str]:
    """The time from the first trial's start to the last one's end, and what all of them took together."""
    results = sweep.results
    facts = {}
    if len(sweep.parts) > 1:
        facts["sweeps"] = ", ".join(part.name for part in sweep.parts)
    started, ended = (_moments(results, name) for name in ("started_at", "ended_at"))
    if len(started) and len(ended):
        first, last = started.min(), ended.max()
        facts["first trial began"] = f"{first:%Y-%m-%d %H:%M} UTC"
        facts["last trial ended"] = f"{last:%Y-%m-%d %H:%M} UTC"
        facts["from first to last"] = duration((last - first).total_seconds())
    if "train_seconds" in results and (seconds := results["train_seconds"].astype(float)).notna().any():
        trained = text.count(int(seconds.notna().sum()), "trial")
        facts["training in all"] = f"{duration(float(seconds.sum()))}, the sum over {trained}"
        facts["a trial"] = f"{duration(float(seconds.median()))} (median)"
    hardware = {str(part.info["hardware"]) for part in sweep.parts or (sweep,) if part.info.get("hardware")}
    facts["hardware"] = "; ".join(sorted(hardware)) or "not recorded in the sweep's files"
    return facts


def _moments(results: pd.DataFrame, column: str) -> "pd.Series[pd.Timestamp]":
    """The times that can be read, in UTC."""
    values = results[column].astype(object) if column in results else pd.Series([], dtype=object)
    moments: pd.Series[pd.Timestamp] = pd.to_datetime(values, utc=True, errors="coerce", format="ISO8601").dropna()
    return moments
