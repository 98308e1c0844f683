"""Ways to a small multi-task model, side by side: `python -m benchmarks.strategies`.

Prints what is recorded in `benchmarks/recordings/strategies.parquet`; `--run rooms` or `--run nyuv2 --data DIR` trains
it anew, all three tasks, for each seed:

    dense       the full network
    narrow      what a user would do instead: a narrower network
    torch_pruning_norm   what a user of Torch-Pruning would do instead: the full network for half the epochs, with the
                sparse training of its GroupNormPruner; then its pruner takes channels until the cost is reached, by
                group norms; the other half of the epochs trains what is left
    torch_pruning_taylor   the same without sparse training, by GroupTaylorImportance, in each layer alike
    magnitude, random   channels go while the network trains, by the mean square of their weights, or any
    selection   ours: the same, by Taylor's estimate of their worth for what they cost
    path        ours: from the dense model to each target in turn, a quarter of the epochs each
    penalty     the paper's: the group lasso, at several λ
    penalty_to_target   ours: the penalty until the target is met, then training without it
    penalty + fine_tune   the group lasso for half the epochs, what is left of the network for the other half

`shallow` is not among them: these networks have one block in each stage. All but `path` have the same epochs in all. A
model of a path is the last of a chain of trainings, so the narrow network and Torch-Pruning's also run for as many
epochs as the whole chain has ("longer").

A cost is the share of the dense model's multiply-accumulates, heads included, that the compacted model has. Δm is over
the dense model of the same seed, on the test split, over the tasks' first metrics; with its 95 % interval over seeds
(Student's t). The height of a front is the mean, over the logarithm of the cost from the smallest target to 1, of the
best Δm that costs no more: its hypervolume over Δm and log cost, per unit of log cost, from Δm = 0. A front of more
height is better by so many points of Δm on average. Where nothing is so cheap, the constant predictor counts.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student
from tabulate import tabulate

from analysis import text
from mtl.vocabulary.delta_m import relative_change
from mtl.vocabulary.files import RESULTS, SWEEP
from search.engine.runner import RayRunner
from search.recipe_file import load_recipe
from search.run import run_sweep
from search.sweep import open_sweep

RECORDING = Path(__file__).parent / "recordings" / "strategies.parquet"
SEEDS = 5
TARGETS = (0.5, 0.25, 0.12, 0.06, 0.03)
COMPARED, SMALLEST = (0.5, 0.25, 0.12, 0.06), (0.12, 0.06)
TENTH = (0.5, 0.25, 0.1)
OURS = ("path", "selection", "penalty_to_target")
ALTERNATIVES = ("narrow", "torch_pruning_norm", "torch_pruning_taylor", "magnitude", "random")
WHOLE_FRONTS = ("path", "selection", "narrow")
LONGER = ("narrow", "torch_pruning_taylor", "torch_pruning_norm")
HELD = 0.02
KEPT = ["method", "target_macs", "lambda", "seed", "epochs", "model_macs", "model_parameters", "group_sparsity"]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Study:
    """A recipe, its epochs, and the λ of its penalty.

    fields: what it changes of the recipe; full: whether every strategy is trained, or only those that `rooms` did not
    rule out, without the trainings that are longer or in two halves.
    """

    recipe: str
    epochs: int
    lambdas: tuple[float, ...]
    fields: tuple[str, ...] = ()
    full: bool = True

    @property
    def chain(self) -> int:
        """Epochs of the longest path: the dense model's, and a quarter of them for each target."""
        return self.epochs + len(TARGETS) * math.ceil(self.epochs / 4)

    def parts(self, seeds: int) -> Iterator[tuple[str, list[str]]]:
        """The sweeps that together train every strategy, by name, with their recipes' fields."""
        shared = [*self.fields, "path_epochs=0", "combinations=segmentation+depth+normals", f"seeds={seeds}"]
        lambdas = ",".join(f"{strength:g}" for strength in self.lambdas)

        def small(compressors: Sequence[str], targets: Sequence[float]) -> list[str]:
            return [*shared, f"compressors={','.join(compressors)}", f"targets={','.join(map(str, targets))}"]

        whole = [f"epochs={self.epochs}", f"lambdas=0,{lambdas}"]
        yield "whole", [*small(WHOLE_FRONTS, TARGETS), *whole]
        if not self.full:
            yield "whole", [*small(("penalty", "torch_pruning_norm", "torch_pruning_taylor"), COMPARED), *whole]
            yield "whole", [*small(("path",), TENTH), *whole]
            return
        yield "whole", [*small(("penalty", *OURS, *ALTERNATIVES), COMPARED), *whole]
        yield "whole", [*small(("path", "selection"), TENTH), *whole]
        alone = ["compressors=penalty", "targets="]
        yield "halves", [*shared, *alone, f"epochs={self.epochs // 2}", f"lambdas={lambdas}", "retraining=fine_tune"]
        yield "longer", [*small(LONGER, SMALLEST), f"epochs={self.chain}", "lambdas=0"]


STUDIES = {
    "rooms": Study("rooms", 16, (1e-3, 4e-3, 2e-2)),
    # A size at which five seeds of every strategy take two cores some hours. Δm is relative, and the mean IoU of 40
    # classes stays too near to 0 in so short a training to be a denominator.
    "nyuv2": Study(
        "nyuv2-small",
        16,
        (3e-4, 3e-3),
        ("image_size=[48,64]", "backbone_width=16", "head_channels=32", "dataset_options.classes=13"),
        full=False,
    ),
}


def train(study: Study, storage: str, data: str | None, seeds: int) -> pd.DataFrame:
    """Trains what is not done yet in the storage; one row a trial, with the columns `KEPT`, cost and Δm."""
    folders = []
    for name, sets in study.parts(seeds):
        sweep = open_sweep(load_recipe(study.recipe, sets), storage, name, data, here=True)
        if len(run_sweep(sweep, RayRunner("local"))) < len(sweep.configs):
            sys.exit("broken off; the same command with --storage goes on")
        folders.append(Path(storage) / name)
    return recording(list(dict.fromkeys(folders)))


def recording(folders: Sequence[Path]) -> pd.DataFrame:
    """The rows of a study's sweeps, with `delta_m` over the dense model of the same seed, that of the constant
    predictor, and `cost`, the share of the dense model's multiply-accumulates."""
    rows = pd.concat([read(folder) for folder in folders], ignore_index=True)
    dense = rows[rows["method"] == "dense"].set_index("seed").loc[rows["seed"]].reset_index()
    info = json.loads((folders[0] / SWEEP).read_text())
    gains, constant = [], []
    for task in info["tasks"].values():
        name = task["primary"]
        more = info["metrics"][name]["direction"] == "maximize"
        reference = dense[f"test_{name}"]
        gains.append(relative_change(rows[f"test_{name}"], reference, more))
        constant.append(relative_change(info["constant_predictor"][name], reference, more))
    return rows[KEPT].assign(
        delta_m=np.mean(gains, axis=0),
        constant_delta_m=np.mean(constant, axis=0),
        cost=rows["model_macs"] / dense["model_macs"],
    )


def read(folder: Path) -> pd.DataFrame:
    """The done trials of one of the study's sweeps, by method, with the epochs that each model has had in all."""
    table = pd.read_parquet(folder / RESULTS)
    table = table[table["status"] == "done"].reset_index(drop=True)
    found = table["settings"].str.extract(r"compressor=(?P<compressor>\w+) target_macs=(?P<target>[\d.e-]+)")
    table["target_macs"] = found["target"].astype(float)
    table["method"] = found["compressor"].fillna("penalty")
    table.loc[(table["lambda"] == 0) & (table["settings"] == ""), "method"] = "dense"
    table.loc[table["retraining"] != "none", "method"] = "penalty + fine_tune"
    if folder.name == "longer":
        table["method"] += ", longer"
    return table.assign(epochs=table["epochs_in_all"])


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
        if method in WHOLE_FRONTS:
            some = some[some["target_macs"].isin(TARGETS)]
            heights = [height(pd.concat([dense[dense["seed"] == seed], one])) for seed, one in some.groupby("seed")]
            mean, half = interval(heights)
            epochs = dense["epochs"].max() + some.groupby("target_macs")["epochs"].max().sum()
            if method == "path":  # a chain: the last training's count has those before
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
    return f"{100 * mean:+.1f} ± {100 * half:.1f}".replace("-", text.MINUS)


def main_table(rows: Rows) -> list[dict[str, str]]:
    """Δm by method (rows) and target (columns)."""
    by_method: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["setting"].startswith("target"):
            epochs = "chain" if row["method"] == "path" else str(row["epochs"])
            line = by_method.setdefault(row["method"], {"strategy": row["method"], "epochs": epochs})
            line[percent(float(row["setting"].split()[1]))] = points(row["delta_m"], row["half_interval"])
    known = sorted(
        {float(row["setting"].split()[1]) for row in rows if row["setting"].startswith("target")}, reverse=True
    )
    columns = ["strategy", "epochs", *map(percent, known)]
    return [{column: line.get(column, "") for column in columns} for line in by_method.values()]


def percent(share: float) -> str:
    return f"{100 * share:g} %"


def other_table(rows: Rows) -> list[dict[str, str]]:
    """The dense models, and the strategies that have no target."""
    return [
        {
            "strategy": f"{row['method']} {row['setting']}".strip(),
            "epochs": str(row["epochs"]),
            "share of the MACs": f"{100 * row['cost']:.0f} %",
            "Δm [%]": points(row["delta_m"], row["half_interval"]),
        }
        for row in rows
        if not row["setting"].startswith("target")
    ]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--run", choices=STUDIES, help="train anew and record, instead of reading the recording")
    parser.add_argument("--data", help="NYU-v2's folder")
    parser.add_argument("--storage", help="where trials are kept, so that a broken-off --run goes on")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of each (default {SEEDS})")
    parser.add_argument("--recording", type=Path, default=RECORDING, help="the recording to read or write")
    parser.add_argument("--markdown", action="store_true", help="the tables in Markdown")
    parser.add_argument("--json", action="store_true", help="the summaries as JSON")
    options = parser.parse_args()
    known = pd.read_parquet(options.recording) if options.recording.exists() else pd.DataFrame({"dataset": []})
    if options.run:
        with tempfile.TemporaryDirectory() as scratch:
            rows = train(STUDIES[options.run], options.storage or scratch, options.data, options.seeds)
        known = pd.concat([known[known["dataset"] != options.run], rows.assign(dataset=options.run)])
        known.to_parquet(options.recording, index=False)
    datasets = dict(list(known.groupby("dataset", sort=False)))
    if options.json:
        print(json.dumps({name: as_json(rows) for name, rows in datasets.items()}, indent=1))
    else:
        form = "github" if options.markdown else "simple"
        print("\n\n\n".join(f"{name}\n\n{report(rows, form)}" for name, rows in datasets.items()))


if __name__ == "__main__":
    sys.exit(main())
