"""What was run, when, for how long and with what, as the report lists it."""

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis import text
from analysis.read.load import Sweep
from mtl.vocabulary.sweep_file import Machine
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
        if gpu_seconds := float((seconds * _gpus_of_trials(sweep)).sum()):
            facts["of GPUs"] = f"{gpu_seconds / 3600:.1f} GPU hours" if gpu_seconds >= 3600 else duration(gpu_seconds)
        facts["a trial"] = f"{duration(float(seconds.median()))} (median)"
    facts["hardware"] = "; ".join(_machines(sweep)) or "not recorded"
    return facts


def _gpus_of_trials(sweep: Sweep) -> "pd.Series[float]":
    """(trials,) how many GPUs each trial had."""
    gpus: dict[str, float] = {}
    for part in reversed(sweep.parts or (sweep,)):  # a trial that several sweeps have is the first one's
        recipe = part.info["recipe"]
        found = recipe.get("gpus_per_trial") if isinstance(recipe, Mapping) else None
        gpus |= dict.fromkeys(part.results["trial_id"], float(found) if isinstance(found, int | float) else 0.0)
    return sweep.results["trial_id"].map(gpus).fillna(0.0)


def _machines(sweep: Sweep) -> list[str]:
    """Each kind of machine in words: processor, cores, memory, GPUs, system, software."""
    listed = [one for part in sweep.parts or (sweep,) for one in part.info.get("hardware") or []]
    # Checked as sweep.json was read, which has lists where the class has tuples.
    known = [Machine.model_validate_json(json.dumps(one)) for one in listed]
    return list(dict.fromkeys(filter(None, map(_in_words, known))))


def _in_words(machine: Machine) -> str:
    """Such as AMD EPYC 9654, 96 cores, 512 GB of memory, 4 × NVIDIA A100 (86 GB), Debian 12, Python 3.12.3."""
    sizes = {**dict.fromkeys(machine.gpus, 0), **dict(zip(machine.gpus, machine.gpu_memory_gb, strict=False))}
    gpus = [f"{machine.gpus.count(name)} × {name}" + (f" ({size} GB)" if size else "") for name, size in sizes.items()]
    parts = [
        machine.cpu,
        text.count(machine.cores, "core") if machine.cores else "",
        f"{machine.memory_gb} GB of memory" if machine.memory_gb else "",
        *(gpus or ["no GPU"]),
        machine.system,
        f"Python {machine.python}" if machine.python else "",
        f"torch {machine.torch}" if machine.torch else "",
    ]
    return ", ".join(filter(None, parts)) if machine != Machine() else ""


def _moments(results: pd.DataFrame, column: str) -> "pd.Series[pd.Timestamp]":
    """The times that can be read, in UTC."""
    values = results[column].astype(object) if column in results else pd.Series([], dtype=object)
    moments: pd.Series[pd.Timestamp] = pd.to_datetime(values, utc=True, errors="coerce", format="ISO8601").dropna()
    return moments
