"""Ways to a small multi-task model, side by side: `python -m benchmarks.strategies`.

Prints what is recorded in `benchmarks/recordings/strategies.parquet`; `--run` trains it anew, about an hour on two
cores: the recipe `rooms` with all three tasks, for each seed:

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
epochs as the whole chain has ("longer"). `python -m benchmarks.study` has the same on real images.

What the columns mean: `benchmarks.strategy_tables`.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.strategy_tables import ALTERNATIVES, COMPARED, LONGER, OURS, TARGETS, WHOLE_FRONTS, as_json, report
from mtl.vocabulary.delta_m import relative_change
from mtl.vocabulary.files import RESULTS, SWEEP
from search.engine.runner import RayRunner
from search.recipe_file import load_recipe
from search.run import run_sweep
from search.sweep import open_sweep

RECORDING = Path(__file__).parent / "recordings" / "strategies.parquet"
RECIPE = "rooms"
SEEDS, EPOCHS = 5, 16
# Of the longest path: the dense model's, and a quarter of them for each target.
CHAIN = EPOCHS + len(TARGETS) * math.ceil(EPOCHS / 4)
LAMBDAS = "1e-3,4e-3,2e-2"
SMALLEST = (0.12, 0.06)
TENTH = (0.5, 0.25, 0.1)
KEPT = ["method", "target_macs", "lambda", "seed", "epochs", "model_macs", "model_parameters", "group_sparsity"]


def parts(seeds: int) -> Iterator[tuple[str, list[str]]]:
    """The sweeps that together train every strategy, by name, with their recipes' fields."""
    shared = ["path_epochs=0", "combinations=segmentation+depth+normals", f"seeds={seeds}"]

    def small(compressors: Sequence[str], targets: Sequence[float]) -> list[str]:
        return [*shared, f"compressors={','.join(compressors)}", f"targets={','.join(map(str, targets))}"]

    whole = [f"epochs={EPOCHS}", f"lambdas=0,{LAMBDAS}"]
    yield "whole", [*small(WHOLE_FRONTS, TARGETS), *whole]
    yield "whole", [*small(("penalty", *OURS, *ALTERNATIVES), COMPARED), *whole]
    yield "whole", [*small(("path", "selection"), TENTH), *whole]
    alone = ["compressors=penalty", "targets="]
    yield "halves", [*shared, *alone, f"epochs={EPOCHS // 2}", f"lambdas={LAMBDAS}", "retraining=fine_tune"]
    yield "longer", [*small(LONGER, SMALLEST), f"epochs={CHAIN}", "lambdas=0"]


def train(storage: str, seeds: int) -> pd.DataFrame:
    """Trains what is not done yet in the storage; one row a trial, with the columns `KEPT`, cost and Δm."""
    folders = []
    for name, sets in parts(seeds):
        sweep = open_sweep(load_recipe(RECIPE, sets), storage, name, None, here=True)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--run", action="store_true", help="train anew and record, instead of reading the recording")
    parser.add_argument("--storage", help="where trials are kept, so that a broken-off --run goes on")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of each (default {SEEDS})")
    parser.add_argument("--recording", type=Path, default=RECORDING, help="the recording to read or write")
    parser.add_argument("--markdown", action="store_true", help="the tables in Markdown")
    parser.add_argument("--json", action="store_true", help="the summaries as JSON")
    options = parser.parse_args()
    if options.run:
        with tempfile.TemporaryDirectory() as scratch:
            train(options.storage or scratch, options.seeds).to_parquet(options.recording, index=False)
    rows = pd.read_parquet(options.recording)
    if options.json:
        print(json.dumps(as_json(rows), indent=1))
    else:
        print(report(rows, "github" if options.markdown else "simple"))


if __name__ == "__main__":
    sys.exit(main())
