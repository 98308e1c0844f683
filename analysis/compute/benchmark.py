"""Our multi-task models on NYU-v2 beside the published ones of MTAN's setting, over its nine metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import pandas as pd

from analysis import text
from analysis.compute.costs import DENSE, SHARES
from analysis.compute.paper_tables import OURS, differing
from analysis.compute.published_benchmark import METRICS, RESNET, SINGLE, SOURCES, WEIGHTINGS, published_benchmark
from analysis.compute.text_table import (
    CONSTANT,
    DEVIATION_NOTE,
    TextTable,
    cells,
    cost_cells,
    mean_cells,
    metric_header,
    setting_cells,
)
from analysis.read.load import Sweep
from mtl.vocabulary.objective import MODEL_MACS

TITLE = "NYU-v2 in MTAN's setting: published results beside ours"
DATASET, PROTOCOL, CLASSES = "nyuv2", "mtan", 13
# As LibMTL trained the published ResNet-50.
SETTING: dict[str, object] = {
    "backbone": "resnet50",
    "backbone_width": 64,
    "backbone_layers": None,
    "weights": "ResNet50_Weights.IMAGENET1K_V1",
    "image_size": [288, 384],
    "augmentation": [],
    "lr": 1e-4,
    "lr_schedule": "halved",
    "batch_size": 8,
    "epochs": 200,
}
DELTA = "delta_m_all"
COSTS = (SHARES[MODEL_MACS], SHARES["model_parameters"])
NAMES = tuple(name for metrics in METRICS.values() for name in metrics)


@dataclass(frozen=True)
class Benchmark:
    """Ours beside the published numbers.

    Attributes:
        title: what it is.
        numbers: `source` ("ours", a key of SOURCES, or "constant predictor"), `network`, `weighting`, `setup`, `method`
            and `lambda` (of ours), `runs` (seeds), and `<column>_mean`, `<column>_std` for each of the nine metrics
            (test split; fractions, metres and degrees) and delta_m_all, and our costs as shares of the dense model's.
        comparable: whether every part of the sweep was trained as the published ResNet-50 was.
        written: the same for people.
    """

    title: str
    numbers: pd.DataFrame
    comparable: bool
    written: TextTable


def benchmark(sweep: Sweep, settings: pd.DataFrame) -> Benchmark | None:
    """The table, where every part of the sweep is of NYU-v2 with 13 classes by MTAN's protocol; else None.

    Args:
        settings: of `analysis.compute.settings.settings_table`, or with more columns.
    """
    parts = sweep.parts or (sweep,)
    recipes = [part.info["recipe"] for part in parts]
    classes = {len(part.info["tasks"].get("segmentation", {}).get("classes", ())) for part in parts}
    if classes != {CLASSES} or any((one.get("dataset"), one.get("protocol")) != (DATASET, PROTOCOL) for one in recipes):
        return None
    published = published_benchmark().rename(columns={name: f"{name}_mean" for name in (*NAMES, DELTA)})
    published = published.sort_values("network", key=lambda one: one != RESNET, kind="stable")
    rows = [_single_tasks(settings, sweep), _multi_tasks(settings, sweep), published]
    if known := {f"{name}_mean": sweep.constant_predictor[name] for name in NAMES if name in sweep.constant_predictor}:
        rows.append(pd.DataFrame([{"source": CONSTANT} | known]))
    values = [f"{name}_{part}" for name in (DELTA, *NAMES, *COSTS) for part in ("mean", "std")]
    columns = ["source", "network", "weighting", "setup", "method", "lambda", "runs", *values]
    numbers = pd.concat(
        [one.reindex(columns=columns).astype({"runs": "Int64"} | dict.fromkeys(values, float)) for one in rows],
        ignore_index=True,
    )
    other = differing(sweep, SETTING)
    return Benchmark(TITLE, numbers, not other, _written(sweep, numbers, other))


def _multi_tasks(settings: pd.DataFrame, sweep: Sweep) -> pd.DataFrame:
    """Ours of all three tasks."""
    rows = settings[[set(one.split("+")) == set(METRICS) for one in settings["tasks"]]]
    searched = rows["settings"].str.extract(r"(?:^|\s)task_weighting=(\w+)")[0]
    recipes = {part.name: part.info["recipe"] for part in sweep.parts or (sweep,)}
    weighting = searched.fillna(rows["setup"].map(lambda setup: recipes[setup].get("task_weighting")))
    tested = {f"test_{name}_{part}": f"{name}_{part}" for name in (DELTA, *NAMES) for part in ("mean", "std")}
    # What stood under these names is of validation.
    ours = rows.drop(columns=[f"{DELTA}_mean", f"{DELTA}_std"]).rename(columns=tested | {"seeds": "runs"})
    return ours.assign(source=OURS, network=_network(rows, recipes), weighting=weighting.replace(WEIGHTINGS))


def _single_tasks(settings: pd.DataFrame, sweep: Sweep) -> pd.DataFrame:
    """One row for each setup with all of its dense single-task models, with each task's metrics from its own."""
    dense = settings[(settings["strategy"] == DENSE) & settings["tasks"].isin(list(METRICS))]
    recipes = {part.name: part.info["recipe"] for part in sweep.parts or (sweep,)}
    found = []
    for setup, rows in dense.groupby("setup", sort=False):
        if set(rows["tasks"]) < set(METRICS):
            continue
        row = {"source": OURS, "weighting": SINGLE, "setup": setup, "lambda": 0.0, "runs": rows["seeds"].min()}
        for task, metrics in METRICS.items():
            own = rows[rows["tasks"] == task].iloc[0]
            row |= {f"{name}_{part}": own[f"test_{name}_{part}"] for name in metrics for part in ("mean", "std")}
        found.append(row | {"network": _network(rows, recipes)[0], f"{DELTA}_mean": 0.0})
    return pd.DataFrame(found)


def _network(rows: pd.DataFrame, recipes: Mapping[str, Mapping[str, object]]) -> list[str]:
    names = {"resnet50": RESNET}
    backbones = [str(recipes[setup].get("backbone")) for setup in rows["setup"]]
    return [names.get(one, one) for one in backbones]


def _written(sweep: Sweep, numbers: pd.DataFrame, other: list[str]) -> TextTable:
    places = {source: f"published [{place}]" for place, source in enumerate(SOURCES, start=1)}
    columns = {"": [places.get(one, one) for one in numbers["source"]]}
    columns |= {"network": cells(numbers["network"]), "weighting": cells(numbers["weighting"])}
    columns |= setting_cells(numbers, ("setup", "method", "lambda", "runs"))
    columns["Δm, all metrics [%] ↑"] = mean_cells(numbers, DELTA, partial(text.percent, signed=True))
    for name in NAMES:
        metric = sweep.metrics[name]
        if metric.maximize:
            columns[f"{metric.label} [%] ↑"] = [
                text.mean_std(100 * mean, 100 * std, 2)
                for mean, std in zip(numbers[f"{name}_mean"], numbers[f"{name}_std"], strict=True)
            ]
        else:
            write = partial(text.mean_std, decimals=4 if name.startswith("depth_") else 2)
            columns[metric_header(metric)] = mean_cells(numbers, name, write)
    columns |= cost_cells(numbers)
    told = [
        f"[{place}] {source.network}: {source.name} ({source.training})."
        for place, source in enumerate(SOURCES.values(), start=1)
    ]
    says = (
        f"Ours do NOT compare with them: {'; '.join(other)}."
        if other
        else "Ours compare with [1], but that theirs is chosen on test and ours on training frames, that ours sees "
        "normalised images and is trained by AdamW; and only on the files that MTAN published."
    )
    note = (
        "Test split. Δm, all metrics, is over these nine, averaged within the task first, against the single-task "
        f"models of the same network and authors; [1] has none. {' '.join(told)} {says} {DEVIATION_NOTE}"
    )
    return TextTable.of(columns, note, [one in SOURCES for one in numbers["source"]])
