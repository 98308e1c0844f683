"""Ways to a small multi-task model, at equal total epochs: `python -m benchmarks.strategies`.

Prints what is recorded in `benchmarks/recordings/strategies.parquet`; `--run` trains it anew: on `rooms`, all three
tasks, for each seed

    dense       the full network, at all the epochs
    narrow      what a user would do instead: a narrower network, at all the epochs
    selection   channels go while the network trains, by Taylor's estimate of their worth for what they cost
    magnitude   the same, by the mean square of their weights
    random      the same, any
    torch_pruning_norm  what a user of Torch-Pruning would do instead: the full network for half the epochs, with the
                sparse training of its GroupNormPruner; then its pruner takes channels until the cost is reached, by
                group norms; the other half of the epochs trains what is left
    torch_pruning_taylor   the same without sparse training, by GroupTaylorImportance, in each layer alike
    penalty     the group lasso for all the epochs, at several λ
    penalty + fine_tune   the group lasso for half the epochs, what is left of the network for the other half

`shallow` is not among them: the network of `rooms` has one block in each stage.

A cost is the share of the dense model's multiply-accumulates, heads included, that the compacted model has. Δm is over
the dense model of the same seed, on the test split, over the tasks' first metrics; with its 95 % interval over seeds
(Student's t).
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import t as student
from tabulate import tabulate

from analysis import text
from mtl.vocabulary.delta_m import relative_change
from mtl.vocabulary.files import RESULTS
from search.engine.runner import RayRunner
from search.recipe_file import load_recipe
from search.run import run_sweep
from search.sweep import Sweep, open_sweep

RECORDING = Path(__file__).parent / "recordings" / "strategies.parquet"
EPOCHS, SEEDS = 16, 5
TARGETS = (0.5, 0.25, 0.12, 0.06)
LAMBDAS = (1e-3, 4e-3, 2e-2)
COMPRESSORS = ("narrow", "selection", "magnitude", "random", "torch_pruning_norm", "torch_pruning_taylor")
KEPT = ["method", "target_macs", "lambda", "seed", "epochs_run", "model_macs", "model_parameters", "group_sparsity"]
Interval = tuple[float, float]


def strategies(storage: str, epochs: int, seeds: int) -> list[tuple[str, Sweep]]:
    """The sweeps that together train every strategy, each with the retraining that its penalty is followed by."""
    recipe = ["combinations=segmentation+depth+normals", f"seeds={seeds}"]
    lambdas = ",".join(f"{strength:g}" for strength in LAMBDAS)
    of_compressors = [f"compressors=penalty,{','.join(COMPRESSORS)}", f"targets={','.join(map(str, TARGETS))}"]
    whole = [*recipe, f"epochs={epochs}", f"lambdas=0,{lambdas}", *of_compressors]
    halves = [*recipe, f"epochs={epochs // 2}", f"lambdas={lambdas}", "retraining=fine_tune"]
    return [
        (name, open_sweep(load_recipe("rooms", sets), storage, name, None, here=True))
        for name, sets in (("whole", whole), ("halves", halves))
    ]


def train(storage: str, epochs: int, seeds: int) -> pd.DataFrame:
    """Trains what is not done yet in the storage; one row a trial, with the columns `KEPT` and the test metrics."""
    tables = []
    for name, sweep in strategies(storage, epochs, seeds):
        if len(run_sweep(sweep, RayRunner("local"))) < len(sweep.configs):
            sys.exit("broken off; the same command with --storage goes on")
        table = pd.read_parquet(Path(storage) / name / RESULTS)
        found = table["settings"].str.extract(r"compressor=(?P<compressor>\w+) target_macs=(?P<target>[\d.e-]+)")
        table["target_macs"] = found["target"].astype(float)
        table["method"] = found["compressor"].fillna("penalty").where(table["lambda"] == 0, "penalty")
        table.loc[(table["lambda"] == 0) & (table["settings"] == ""), "method"] = "dense"
        table.loc[table["retraining"] != "none", "method"] = "penalty + fine_tune"
        primaries = [f"test_{metric.name}" for metric in sweep.primaries.values()]
        tables.append(table[table["status"] == "done"][[*KEPT, *primaries]])
    directions = {f"test_{metric.name}": metric.maximize for metric in sweep.primaries.values()}
    return with_delta_m(pd.concat(tables, ignore_index=True), directions)


def with_delta_m(rows: pd.DataFrame, directions: dict[str, bool]) -> pd.DataFrame:
    """With `delta_m` over the dense model of the same seed, and `cost`, the share of its multiply-accumulates."""
    dense = rows[rows["method"] == "dense"].set_index("seed").loc[rows["seed"]]
    changes = [relative_change(rows[name], dense[name], more) for name, more in directions.items()]
    return rows.assign(delta_m=sum(changes) / len(changes), cost=rows["model_macs"] / dense["model_macs"].to_numpy())


def summary(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """One row a method and setting: its mean cost, Δm with its interval, and over how many seeds."""
    summed: list[dict[str, Any]] = []
    for (method, target, strength), some in rows.groupby(["method", "target_macs", "lambda"], dropna=False, sort=False):
        mean, half = interval(some["delta_m"].tolist())
        setting = f"target {target:g}" if target == target else f"lambda {strength:g}" if strength else ""
        about = {"method": method, "setting": setting, "cost": some["cost"].mean(), "seeds": len(some)}
        summed.append(about | {"delta_m": mean, "half_interval": half})
    return sorted(summed, key=lambda row: -row["cost"])


def interval(values: Sequence[float]) -> Interval:
    """The mean, and half of its 95 % interval; NaN for one value."""
    series = pd.Series(values)
    return float(series.mean()), float(student.ppf(0.975, len(series) - 1) * series.sem())


def table(rows: list[dict[str, Any]], form: str) -> str:
    """The summary as tabulate lays it out in this form."""
    cells = [
        (
            f"{row['method']} {row['setting']}".strip(),
            f"{100 * row['cost']:.1f} %",
            f"{100 * row['delta_m']:+.1f} ± {100 * row['half_interval']:.1f} %".replace("-", text.MINUS),
            row["seeds"],
        )
        for row in rows
    ]
    heads = ("strategy", "share of the MACs", "Δm over the dense model", "seeds")
    return tabulate(cells, heads, form, disable_numparse=True, colalign=("left", "right", "right", "right"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--run", action="store_true", help="train anew and record, instead of reading the recording")
    parser.add_argument("--storage", help="where trials are kept, so that a broken-off --run goes on")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"of every strategy (default {EPOCHS})")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of each (default {SEEDS})")
    parser.add_argument("--out", type=Path, default=RECORDING, help="the recording to read or write")
    parser.add_argument("--markdown", action="store_true", help="the table in Markdown")
    parser.add_argument("--json", action="store_true", help="the summary as JSON")
    options = parser.parse_args()
    if options.run:
        with tempfile.TemporaryDirectory() as scratch:
            rows = train(options.storage or scratch, options.epochs, options.seeds)
        rows.to_parquet(options.out, index=False)
    rows = summary(pd.read_parquet(options.out))
    print(json.dumps(rows, indent=1) if options.json else table(rows, "github" if options.markdown else "simple"))


if __name__ == "__main__":
    sys.exit(main())
