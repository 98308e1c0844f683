"""A sweep is read as it was written, and what cannot be analysed is refused with its name."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.read.load import load_sweep
from mtl.errors import BadInput
from tests.support.fake_sweep import METRICS, TASKS, write_sweep


def test_a_whole_sweep(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path))
    assert len(sweep.trials("done")) == sweep.planned == 70
    assert list(sweep.tasks) == ["segmentation", "depth", "normals"]
    assert not sweep.metrics["depth_mae"].maximize
    assert sweep.metrics["depth_mae"].unit == "m"
    assert [(one.column, one.maximize) for one in sweep.objectives] == [("delta_m", True), ("group_sparsity", True)]
    assert sweep.history is not None
    assert len(sweep.history) == 70 * 12


def test_tasks_stand_in_the_recipes_order_even_if_the_file_was_sorted(tmp_path: Path) -> None:
    write_sweep(tmp_path, info={"tasks": dict(sorted(TASKS.items()))})
    assert list(load_sweep(tmp_path).tasks) == ["segmentation", "depth", "normals"]


def test_history_may_be_missing(tmp_path: Path) -> None:
    assert load_sweep(write_sweep(tmp_path, history=False)).history is None


def test_a_sweep_that_only_failed_so_far_can_be_read(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "whole")).results.iloc[:2].copy()
    columns = [name for name in results if name.startswith(("val_", "test_", "delta", "group", "param"))]
    results[columns] = None
    results["status"], results["error"] = "failed", "out of memory"
    sweep = load_sweep(write_sweep(tmp_path / "failed", results=results, history=False))
    assert len(sweep.trials("failed")) == 2
    assert sweep.trials("done").empty


Damage = Callable[[Path], object]


def edit_info(**fields: object) -> Damage:
    def damage(folder: Path) -> None:
        info = json.loads((folder / "sweep.json").read_text())
        (folder / "sweep.json").write_text(json.dumps(info | fields))

    return damage


def edit_results(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Damage:
    def damage(folder: Path) -> None:
        change(pd.read_parquet(folder / "results.parquet")).to_parquet(folder / "results.parquet")

    return damage


def put(column: str, value: object) -> Damage:
    """Puts a value into the fourth row, a done segmentation trial."""

    def change(results: pd.DataFrame) -> pd.DataFrame:
        results[column] = results[column].astype(object) if isinstance(value, str) else results[column]
        results.loc[3, column] = value
        return results.astype({column: str}) if isinstance(value, str) else results

    return edit_results(change)


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
        (edit_info(schema=2), "schema is 2, not 1"),
        (edit_info(trials_planned=None), "trials_planned is None"),
        (edit_info(objectives=[]), "objectives is empty"),
        (edit_info(objectives=[{"column": "speed", "direction": "maximize"}]), "results.parquet has no column speed"),
        (
            edit_info(objectives=[{"column": "delta_m", "direction": "up"}]),
            "direction is up, not 'maximize' or 'minimize'",
        ),
        (edit_info(objectives=["delta_m"]), "objectives.0 is delta_m, not an object"),
        (edit_info(metrics={}), "primary metric segmentation_miou"),
        (lambda folder: (folder / "results.parquet").unlink(), "holds no results.parquet"),
        (truncate("results.parquet"), "results.parquet is not a whole Parquet file"),
        (truncate("history.parquet"), "history.parquet is not a whole Parquet file"),
        (edit_results(lambda rows: rows.drop(columns="delta_m")), "results.parquet has no column delta_m"),
        (
            edit_results(lambda rows: rows.drop(columns="test_depth_mae")),
            "results.parquet has no column test_depth_mae",
        ),
        (edit_results(lambda rows: pd.concat([rows, rows.tail(1)])), "trial_id .* stands in more than one row"),
        (put("status", "lost"), "status is 'lost'"),
        (put("tasks", "segmentation+smell"), "tasks is 'segmentation\\+smell'"),
        (put("test_depth_mae", "far"), "column test_depth_mae holds something that is not a number"),
        (put("delta_m", np.inf), "column delta_m is infinite in trial segmentation-1e-06-1"),
        (put("test_segmentation_miou", -np.inf), "column test_segmentation_miou is infinite in trial segmentation-1e"),
        (put("group_sparsity", np.nan), "column group_sparsity has no number in the done trial segmentation-1e-06-1"),
        (put("val_segmentation_miou", np.nan), "column val_segmentation_miou has no number in the done trial"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, damage: Damage, named: str) -> None:
    damage(write_sweep(tmp_path))
    with pytest.raises(BadInput, match=named) as caught:
        load_sweep(tmp_path)
    assert "\n" not in str(caught.value)


def test_another_sweeps_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere"):
        load_sweep(tmp_path / "nowhere")


def test_metrics_of_absent_tasks_may_be_missing(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "whole", combinations=["depth"])).results
    results = results.drop(
        columns=[f"{split}_{name}" for split in ("val", "test") for name in METRICS if "depth" not in name]
    )
    assert len(load_sweep(write_sweep(tmp_path / "lean", combinations=["depth"], results=results)).results) == 10


def test_reading_and_fronts_need_neither_matplotlib_nor_a_training_library() -> None:
    code = (
        "import sys, analysis.read.load, analysis.pareto, analysis.compute.fronts;"
        "print(sorted({'matplotlib', 'torch', 'ray', 'optuna', 'search'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
