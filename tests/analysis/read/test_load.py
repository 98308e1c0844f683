"""A sweep is read as it was written, and what cannot be analysed is refused with its name."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.compute.layers import layer_tables
from analysis.read.load import load_sweep
from mtl.errors import BadInput
from tests.support.written import copied, edit_info, edit_table


def test_a_whole_sweep(storage: Path) -> None:
    sweep = load_sweep(storage / "first")
    assert len(sweep.trials("done")) == sweep.planned == 15
    assert list(sweep.tasks) == ["segmentation", "depth", "normals"]
    assert not sweep.metrics["depth_mae"].maximize
    assert sweep.metrics["depth_mae"].unit == "m"
    assert [(one.column, one.maximize) for one in sweep.objectives] == [("delta_m", True), ("group_sparsity", True)]
    assert sweep.history is not None
    assert sweep.history["epoch"].tolist() == [0, 1] * 15
    assert sweep.layers is not None
    assert sweep.layers["trial_id"].nunique() == 15


def test_a_search_has_methods(storage: Path) -> None:
    sweep = load_sweep(storage / "search")
    methods = sweep.results["method"].unique().tolist()
    assert methods[:2] == ["group_lasso", "dense, 2 × epochs"]
    assert all(method.startswith("group_lasso + fine_tune · lr=") for method in methods[2:])
    assert len(methods) == 4


def test_tasks_stand_in_the_recipes_order_even_if_the_file_was_sorted(first: Path) -> None:
    tasks = json.loads((first / "sweep.json").read_text())["tasks"]
    edit_info(first, tasks=dict(sorted(tasks.items())))
    assert list(load_sweep(first).tasks) == ["segmentation", "depth", "normals"]


def test_history_and_layers_may_be_missing(first: Path) -> None:
    (first / "history.parquet").unlink()
    (first / "layers.parquet").unlink()
    sweep = load_sweep(first)
    assert sweep.history is sweep.layers is layer_tables(sweep) is None


def test_a_sweep_that_only_failed_so_far_can_be_read(first: Path) -> None:
    def fail(results: pd.DataFrame) -> pd.DataFrame:
        columns = [name for name in results if name.startswith(("val_", "test_", "delta", "group", "param"))]
        return results.iloc[:2].assign(**dict.fromkeys(columns), status="failed", error="out of memory")

    sweep = load_sweep(edit_table(first, fail))
    assert len(sweep.trials("failed")) == 2
    assert sweep.trials("done").empty


Damage = Callable[[Path], object]


def info(**fields: object) -> Damage:
    return lambda folder: edit_info(folder, **fields)


def results(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Damage:
    return lambda folder: edit_table(folder, change)


def put(column: str, value: object) -> Damage:
    """Puts a value into the row of a done segmentation trial."""

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        rows = rows.astype({column: object}) if isinstance(value, str) else rows
        rows.loc[rows["tasks"] == "segmentation", column] = value
        return rows.astype({column: str}) if isinstance(value, str) else rows

    return results(change)


def truncate(name: str) -> Damage:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return damage


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / "sweep.json").unlink(), "is no sweep: it holds no sweep.json"),
        (lambda folder: (folder / "sweep.json").write_text("{"), "sweep.json: is not a whole JSON file"),
        (lambda folder: (folder / "sweep.json").write_text("[]"), r"sweep.json: the content is \[\], not an object"),
        (info(schema=2), "schema is 2, not 1"),
        (info(trials_planned=None), "trials_planned is None"),
        (info(objectives=[]), "objectives is empty"),
        (info(objectives=[{"column": "speed", "direction": "maximize"}]), "results.parquet has no column speed"),
        (
            info(objectives=[{"column": "delta_m", "direction": "up"}]),
            "direction is up, not 'maximize' or 'minimize'",
        ),
        (info(objectives=["delta_m"]), "objectives.0 is delta_m, not an object"),
        (info(metrics={}), "primary metric segmentation_miou"),
        (lambda folder: (folder / "results.parquet").unlink(), "holds no results.parquet"),
        (truncate("results.parquet"), "results.parquet is not a whole Parquet file"),
        (truncate("history.parquet"), "history.parquet is not a whole Parquet file"),
        (results(lambda rows: rows.drop(columns="delta_m")), "results.parquet has no column delta_m"),
        (
            results(lambda rows: rows.drop(columns="test_depth_mae")),
            "results.parquet has no column test_depth_mae",
        ),
        (results(lambda rows: pd.concat([rows, rows.tail(1)])), "trial_id .* stands in more than one row"),
        (put("status", "lost"), "status is 'lost'"),
        (put("tasks", "segmentation+smell"), "tasks is 'segmentation\\+smell'"),
        (put("test_depth_mae", "far"), "column test_depth_mae holds something that is not a number"),
        (put("delta_m", np.inf), "column delta_m is infinite in trial [0-9a-f]{16}$"),
        (put("test_segmentation_miou", -np.inf), "column test_segmentation_miou is infinite in trial"),
        (put("group_sparsity", np.nan), "column group_sparsity has no number in the done trial [0-9a-f]{16}$"),
        (put("val_segmentation_miou", np.nan), "column val_segmentation_miou has no number in the done trial"),
    ],
)
def test_bad_files_are_refused_in_one_line(first: Path, damage: Damage, named: str) -> None:
    damage(first)
    with pytest.raises(BadInput, match=named) as caught:
        load_sweep(first)
    assert "\n" not in str(caught.value)


def test_another_sweeps_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere"):
        load_sweep(tmp_path / "nowhere")


def test_metrics_of_absent_tasks_may_be_missing(storage: Path, tmp_path: Path) -> None:
    def lean(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.drop(columns=[name for name in rows if "_normals_" in name or "_segmentation_" in name])

    assert len(load_sweep(edit_table(copied(storage / "other", tmp_path), lean)).results) == 2


def test_reading_and_computing_need_neither_matplotlib_nor_a_training_library() -> None:
    code = (
        "import sys, analysis.compute.everything;"
        "print(sorted({'matplotlib', 'torch', 'ray', 'optuna', 'search'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
