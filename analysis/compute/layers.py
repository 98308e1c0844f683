"""Where channels survive, and which channels models share, from the groups alive in each convolution."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.compute.settings import KEYS
from analysis.read.load import Sweep
from mtl.errors import BadInput

ALL_STAGES = "all"
HEADS = "heads"  # the stage of a trial's penalised heads
OVERLAP = ["setup", "method", "lambda", "seed", "task", "other", "stage", "jaccard", "expected", "excess"]


def stage_of(layer: str) -> str:
    """The first component of a convolution's name: layer3.0.conv2 is in layer3, conv1 in conv1, a head's in heads."""
    return layer.split(".")[0]


@dataclass(frozen=True)
class LayerTables:
    """What is known of single layers, over done trials.

    Attributes:
        layers: one row per setting and convolution, which share of its groups (input channels) is alive, over seeds:
            `setup`, `tasks`, `method`, `lambda`, `layer`, `position` (order in the network), `stage`, `groups`,
            `alive_mean` and `alive_std` (shares; the sample's deviation, NaN for one seed) and `seeds`.
        stages: the same by stage (all groups of its convolutions together), in the network's order.
        overlap: which groups models share, see `_overlap_table`.
    """

    layers: pd.DataFrame
    stages: pd.DataFrame
    overlap: pd.DataFrame


def layer_tables(sweep: Sweep) -> LayerTables | None:
    """None where the sweep has no layers.parquet.

    Raises:
        BadInput: `alive` has another length than `groups` says, or two models of one setup have other convolutions.
    """
    counts = _counts(sweep)
    if counts is None:
        return None
    stages = counts.groupby([*KEYS, "seed", "trial_id", "stage"], sort=False, dropna=False).agg(
        groups=("groups", "sum"), alive=("alive", "sum"), position=("position", "min")
    )
    return LayerTables(
        _survival(counts, ["layer", "position", "stage"]),
        _survival(stages.reset_index(), ["position", "stage"]).drop(columns="position"),
        _overlap_table(sweep, counts),
    )


def _overlap_table(sweep: Sweep, counts: pd.DataFrame) -> pd.DataFrame:
    """Which groups models of the same setup, method, λ and seed share.

    Each single-task model is compared with every joint model that has its task, and with each other single task.
    `jaccard` is the number of groups alive in both over that of groups alive in either. `expected` is what independent
    choices of as many groups in each convolution would give: expected intersection, Σ |A| |B| / n over convolutions,
    over the union that goes with it. `excess` is their difference. NaN where neither model has a group alive.

    Columns: `setup`, `method`, `lambda`, `seed`, `task`, `other`, `stage` ("all", then each), `jaccard`, `expected`,
    `excess`.
    """
    counts = counts[counts["stage"] != HEADS]  # models of other tasks have other heads
    models = dict(list(counts.sort_values("position").groupby("trial_id")))
    trials = counts.drop_duplicates("trial_id")
    rows: list[tuple[object, ...]] = []
    for keys, some in trials.groupby(["setup", "method", "lambda", "seed"], sort=True):
        # Where a seed has several trials, the first is used: channels cannot be averaged.
        ones = some.drop_duplicates("tasks")
        chosen = {str(tasks): str(trial) for tasks, trial in zip(ones["tasks"], ones["trial_id"], strict=True)}
        for task, other in _pairs(sweep, list(chosen)):
            first, second = models[chosen[task]], models[chosen[other]]
            if first[["layer", "groups"]].to_numpy().tolist() != second[["layer", "groups"]].to_numpy().tolist():
                raise BadInput(
                    f"{sweep.folder}/layers.parquet: trials {chosen[task]} and {chosen[other]} of one setup have "
                    "other convolutions; allowed: the same ones"
                )
            rows += [(*keys, task, other, *row) for row in _overlap(first, second)]
    return pd.DataFrame(rows, columns=OVERLAP)


def _counts(sweep: Sweep) -> pd.DataFrame | None:
    """One row per done trial and convolution: the trial's setting and seed, `stage`, `groups`, `alive` and `mask`."""
    if sweep.layers is None:
        return None
    done = sweep.trials("done")[["trial_id", *KEYS, "seed"]]
    layers = sweep.layers.rename(columns={"alive": "mask"})
    sizes = layers["mask"].map(len)
    wrong = layers[(sizes != layers["groups"]).to_numpy()]
    if len(wrong):
        row = wrong.iloc[0]
        raise BadInput(
            f"{sweep.folder}/layers.parquet: alive has {len(row['mask'])} values in {row['layer']} of trial "
            f"{row['trial_id']}; it must have {row['groups']}, as groups says"
        )
    layers = layers.assign(
        alive=layers["mask"].map(np.count_nonzero), stage=layers["layer"].map(lambda name: stage_of(str(name)))
    )
    return done.merge(layers, on="trial_id")


def _survival(counts: pd.DataFrame, place: list[str]) -> pd.DataFrame:
    shares = counts.assign(share=counts["alive"] / counts["groups"])
    grouped = shares.groupby([*KEYS, *place], sort=False, dropna=False)
    table = pd.concat(
        [
            grouped["groups"].first(),
            grouped["share"].mean().rename("alive_mean"),
            grouped["share"].std(ddof=1).rename("alive_std"),
            grouped["seed"].nunique().rename("seeds"),
        ],
        axis=1,
    ).reset_index()
    return table.sort_values([*KEYS, "position"], ignore_index=True)


def _pairs(sweep: Sweep, there: list[str]) -> Iterator[tuple[str, str]]:
    """A single task and another model: the joint ones with that task, then the other single tasks, each pair once."""
    single = [task for task in sweep.tasks if task in there]
    for task in single:
        for other in there:
            if "+" in other and task in sweep.tasks_of(other):
                yield task, other
    yield from itertools.combinations(single, 2)


def _overlap(first: pd.DataFrame, second: pd.DataFrame) -> Iterator[tuple[str, float, float, float]]:
    """Of two models' rows of `_counts`, by position: each stage with its Jaccard index, expected and excess."""
    a, b, stages = (table[name].to_numpy() for table, name in ((first, "alive"), (second, "alive"), (first, "stage")))
    both = np.array([np.count_nonzero(one & other) for one, other in zip(first["mask"], second["mask"], strict=True)])
    by_chance = a * b / first["groups"].to_numpy()
    for stage in (ALL_STAGES, *dict.fromkeys(stages.tolist())):
        there = np.ones(len(stages), bool) if stage == ALL_STAGES else stages == stage
        alive = int(a[there].sum() + b[there].sum())
        found, chance = float(both[there].sum()), float(by_chance[there].sum())
        if alive == 0:
            yield stage, np.nan, np.nan, np.nan
            continue
        jaccard, expected = found / (alive - found), chance / (alive - chance)
        yield stage, jaccard, expected, jaccard - expected
