"""Tables of small models beside each other: Δm by strategy and cost, gains over the best alternative, whole fronts.

Rows are trials, with the columns `method`, `target_macs` (NaN: none), `lambda`, `seed`, `epochs` (that the model has
had in all), `cost` (the share of the dense model's multiply-accumulates that the compacted model has, heads included),
`delta_m` over the dense model of the same seed on the test split, and `constant_delta_m`, that of the constant
predictor. Fractions; intervals are 95 % over seeds (Student's t).

The height of a front is the mean, over the logarithm of the cost from the smallest target to 1, of the best Δm that
costs no more: its hypervolume over Δm and log cost, per unit of log cost, from Δm = 0. A front of more height is better
by so many points of Δm on average. Where nothing is so cheap, the constant predictor counts.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student
from tabulate import tabulate

from analysis import text

TARGETS = (0.5, 0.25, 0.12, 0.06, 0.03)
COMPARED = (0.5, 0.25, 0.12, 0.06)
OURS = ("path", "selection", "penalty_to_target")
ALTERNATIVES = ("narrow", "torch_pruning_norm", "torch_pruning_taylor", "magnitude", "random")
WHOLE_FRONTS = ("path", "selection", "narrow")
SLOWER = "path, twice the epochs a step"
LONGER = ("narrow", "torch_pruning_taylor", "torch_pruning_norm")
# Of the rows of tables; what is not named here comes last.
ORDER = (*OURS[:1], SLOWER, *OURS[1:], "torch_pruning_norm", "torch_pruning_taylor", "magnitude", "random", "narrow")
HELD = 0.02
Rows = list[dict[str, Any]]


def summary(rows: pd.DataFrame) -> Rows:
    """One row a method and setting: its mean cost, its epochs, Δm with its interval, and over how many seeds."""
    summed: Rows = []
    for (method, target, strength), some in rows.groupby(["method", "target_macs", "lambda"], dropna=False, sort=False):
        mean, half = interval(some["delta_m"].tolist())
        setting = f"target {target:g}" if target == target else f"lambda {strength:g}" if strength else ""
        about = {"method": method, "setting": setting, "cost": some["cost"].mean(), "epochs": int(some["epochs"].max())}
        summed.append(about | {"seeds": len(some), "delta_m": mean, "half_interval": half})
    return sorted(summed, key=lambda row: -row["cost"])


def compared(rows: pd.DataFrame, ours: str, others: Sequence[str]) -> Rows:
    """At each cost, Δm of ours less that of the best of the others there, by seed, with its interval."""
    found: Rows = []
    for target in COMPARED:
        here = rows[rows["target_macs"] == target]
        means = here[here["method"].isin(others)].groupby("method")["delta_m"].mean()
        own = here[here["method"] == ours].set_index("seed")["delta_m"]
        if means.empty or own.empty:
            continue
        best = str(means.idxmax())
        other = here[here["method"] == best].set_index("seed")["delta_m"]
        mean, half = interval((own - other).dropna().tolist())
        found.append({"ours": ours, "target": target, "best_alternative": best, "gain": mean, "half_interval": half})
    return found


def fronts(rows: pd.DataFrame) -> Rows:
    """For each method with a whole front: its height, with the dense model, and the epochs that it took."""
    dense = rows[rows["method"] == "dense"]
    found: Rows = []
    for method, some in rows[rows["target_macs"].notna()].groupby("method", sort=False):
        if method in (*WHOLE_FRONTS, SLOWER):
            some = some[some["target_macs"].isin(TARGETS)]
            heights = [height(pd.concat([dense[dense["seed"] == seed], one])) for seed, one in some.groupby("seed")]
            mean, half = interval(heights)
            epochs = dense["epochs"].max() + some.groupby("target_macs")["epochs"].max().sum()
            if str(method).startswith("path"):  # a chain: the last training's count has those before
                epochs = some["epochs"].max()
            found.append({"method": method, "height": mean, "half_interval": half, "epochs": int(epochs)})
    return sorted(found, key=lambda row: -row["height"])


def height(rows: pd.DataFrame) -> float:
    """Of one seed's front over its models' `cost` and `delta_m`."""
    rows = rows.sort_values("cost")
    ends = np.clip(np.append(rows["cost"].to_numpy(), 1.0), min(TARGETS), 1.0)
    best = np.maximum.accumulate(np.append(rows["constant_delta_m"].iloc[0], rows["delta_m"].to_numpy()))
    widths = np.diff(np.log(np.append(min(TARGETS), ends)))
    return float((widths * best).sum() / -math.log(min(TARGETS)))


def held(rows: pd.DataFrame) -> Rows:
    """For each method with targets: in which share of its trials the cost is within `HELD` of the target."""
    targeted = rows[rows["target_macs"].notna()]
    near = (targeted["cost"] - targeted["target_macs"]).abs() <= HELD
    return [
        {"method": method, "held": float(some.mean()), "trials": len(some)}
        for method, some in near.groupby(targeted["method"], sort=False)
    ]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of its 95 % interval; NaN for one value."""
    series = pd.Series(values, dtype=float)
    return float(series.mean()), float(student.ppf(0.975, len(series) - 1) * series.sem())


def points(mean: float, half: float) -> str:
    """A difference in percentage points, such as −1.2 ± 0.4."""
    spread = f" ± {100 * half:.1f}" if half == half else ""  # one seed has none
    return f"{100 * mean:+.1f}{spread}".replace("-", text.MINUS)


def main_table(rows: Rows) -> list[dict[str, str]]:
    """Δm by method (rows) and target (columns)."""
    by_method: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["setting"].startswith("target"):
            epochs = "chain" if row["method"].startswith("path") else str(row["epochs"])
            line = by_method.setdefault(row["method"], {"strategy": row["method"], "epochs": epochs})
            line[percent(float(row["setting"].split()[1]))] = points(row["delta_m"], row["half_interval"])
    known = sorted(
        {float(row["setting"].split()[1]) for row in rows if row["setting"].startswith("target")}, reverse=True
    )
    columns = ["strategy", "epochs", *map(percent, known)]
    ordered = sorted(by_method, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))
    return [{column: by_method[name].get(column, "") for column in columns} for name in ordered]


def percent(share: float) -> str:
    return f"{100 * share:g} %"


def other_table(rows: Rows) -> list[dict[str, str]]:
    """The dense models, and the strategies that have no target."""
    return [
        {
            "strategy": f"{row['method']} {strength_in_words(row['setting'])}".strip(),
            "epochs": str(row["epochs"]),
            "share of the MACs": f"{100 * row['cost']:.0f} %",
            "Δm [%]": points(row["delta_m"], row["half_interval"]),
        }
        for row in rows
        if not row["setting"].startswith("target")
    ]


def strength_in_words(setting: str) -> str:
    name, _, value = setting.partition(" ")
    return f"λ = {text.strength(float(value))}" if name == "lambda" else setting


def report(rows: pd.DataFrame, form: str) -> str:
    """All tables of one dataset."""
    summed = summary(rows)
    gains = [one for ours in OURS for one in compared(rows, ours, ALTERNATIVES)]
    gains += [one | {"ours": "path"} for one in compared(rows, "path", [f"{name}, longer" for name in LONGER])]
    parts = {
        f"Δm over the dense model [%] by share of its MACs, {rows['seed'].nunique()} seeds": main_table(summed),
        "without a target": other_table(summed),
        "ours less the best alternative, by seed [points of Δm]": [
            {
                "ours": one["ours"],
                "share of the MACs": percent(one["target"]),
                "best alternative": one["best_alternative"],
                "gain": points(one["gain"], one["half_interval"]),
            }
            for one in gains
        ],
        "the whole front": [
            {
                "strategy": one["method"],
                "height [points of Δm]": points(one["height"], one["half_interval"]),
                "epochs in all": str(one["epochs"]),
            }
            for one in fronts(rows)
        ],
        f"trials within {HELD:g} of their target": [
            {"strategy": one["method"], "held": f"{100 * one['held']:.0f} %", "trials": str(one["trials"])}
            for one in held(rows)
        ],
    }
    return "\n\n".join(f"{title}\n\n{tabulate(some, 'keys', form)}" for title, some in parts.items() if some)


def as_json(rows: pd.DataFrame) -> dict[str, Any]:
    gains = [one for ours in OURS for one in compared(rows, ours, ALTERNATIVES)]
    longer = compared(rows, "path", [f"{name}, longer" for name in LONGER])
    return {
        "strategies": summary(rows),
        "gains": gains,
        "gains_over_longer": longer,
        "fronts": fronts(rows),
        "held": held(rows),
    }
