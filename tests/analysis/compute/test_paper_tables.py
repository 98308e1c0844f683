"""The paper's tables: the published numbers are the published ones, ours stand beside them, and are marked."""

from pathlib import Path

import pytest

from analysis.compute.everything import Computed
from analysis.compute.merge import load_sweeps
from analysis.compute.paper_tables import PaperTable, paper_tables
from analysis.compute.published import TABLES, published_numbers
from analysis.compute.settings import settings_table
from analysis.read.load import load_sweep
from search.recipe_file import load_recipe
from tests.support.fake_sweep import METRICS, write_sweep
from tests.support.written import edit_info


def tables_of(*folders: Path) -> dict[int, PaperTable]:
    sweep = load_sweeps(folders)
    return {table.number: table for table in paper_tables(sweep, settings_table(sweep))}


def test_published_numbers() -> None:
    first, second, third = (published_numbers(table) for table in TABLES)
    assert (len(first), len(second), len(third)) == (21, 12, 3)
    row = first[(first["tasks"] == "segmentation+normals+depth") & (first["lambda"] == 1e-5)].iloc[0]
    assert row["segmentation_iou_micro_mean"] == 0.3394
    assert row["depth_mae_std"] == 0.0029
    assert row["group_sparsity_mean"] == pytest.approx(0.6972)
    assert second["male_accuracy_mean"].max() == 0.9726
    assert set(third["penalty"]) == {"l1"}
    assert third["lambda"].isna().all()


def test_ours_stand_beside_with_the_constant_predictor_last(merged: Computed) -> None:
    table = merged.paper_tables[0]
    numbers = table.numbers
    assert numbers["source"].value_counts().to_dict() == {"ours": 15, "published": 21, "constant predictor": 1}
    assert numbers.iloc[-1]["depth_mae_mean"] == merged.sweep.constant_predictor["depth_mae"]
    # The paper writes normals+depth, the sweep depth+normals: they stand together.
    pair = numbers[numbers["tasks"].isin(["normals+depth", "depth+normals"])]
    assert pair.index.tolist() == list(range(pair.index[0], pair.index[0] + 3 + 3))
    trials = merged.sweep.results
    mine = trials[(trials["tasks"] == "depth") & (trials["lambda"] == 1)]["test_depth_mae"]
    row = numbers[(numbers["source"] == "ours") & (numbers["tasks"] == "depth") & (numbers["lambda"] == 1)].iloc[0]
    assert (row["depth_mae_mean"], row["depth_mae_std"]) == pytest.approx((mine.mean(), mine.std(ddof=1)))
    assert row["seeds"] == 2
    assert sum(table.written.marked) == 21


@pytest.mark.parametrize(
    ("recipe", "override", "says"),
    [
        ("nyuv2", "", ""),
        ("nyuv2", "protocol=standard", "protocol standard, not paper"),
        ("nyuv2", "image_size=48", "image_size 48 × 48, not 256 × 256"),
        ("nyuv2", "backbone=resnet18", "backbone resnet18, not resnet50"),
        ("nyuv2", "backbone_layers=[1,1,1,1]", "backbone_layers 1 × 1 × 1 × 1, not left out"),
        ("nyuv2-small", "", "protocol standard, not paper; backbone resnet18, not resnet50"),
        ("rooms", "", "dataset rooms, not nyuv2; "),
    ],
)
def test_comparable_as_the_paper_trained_alone(first: Path, recipe: str, override: str, says: str) -> None:
    asked = load_recipe(recipe, [override] if override else []).model_dump(mode="json")
    edit_info(first, recipe=asked | {"tasks": ["segmentation", "depth", "normals"]})
    table = tables_of(first)[1]
    assert table.comparable == (not says)
    assert (f"Ours do NOT compare with them: {says}" in table.note) == bool(says)


def test_table_3_holds_l1_alone_and_says_where_there_is_none(storage: Path) -> None:
    table = tables_of(storage / "first")[3]
    assert set(table.numbers["source"]) == {"published", "constant predictor"}
    assert table.note.startswith("This sweep has no done trials with penalty l1")
    both = tables_of(storage / "first", storage / "l1")
    assert (both[3].numbers["source"] == "ours").sum() == 1
    assert (both[1].numbers["source"] == "ours").sum() == 15


def test_table_2(tmp_path: Path) -> None:
    tasks = {task: {"kind": "binary", "primary": f"{task}_accuracy"} for task in ("male", "smile")}
    tasks |= {"segmentation": {"kind": "segmentation", "primary": "segmentation_miou"}}
    accuracy = {"direction": "maximize", "label": "accuracy"}
    names = ("segmentation_miou", "segmentation_iou_micro")
    metrics = {name: METRICS[name] for name in names} | {"male_accuracy": accuracy}
    results = load_sweep(write_sweep(tmp_path / "source", combinations=["depth"])).results
    for task in tasks:
        for split in ("val", "test"):
            results[f"{split}_{tasks[task]['primary']}"] = 0.5
    results = results.assign(tasks="male+smile+segmentation")
    write_sweep(
        tmp_path / "faces",
        tasks=tasks,
        metrics=metrics | {"smile_accuracy": accuracy},
        results=results,
        combinations=["male+smile+segmentation"],
    )
    table = tables_of(tmp_path / "faces")
    assert set(table) == {2}
    assert {"male accuracy ↑", "smile accuracy ↑", "micro IoU ↑"} <= set(table[2].written.header)


def test_other_tasks_have_no_table(storage: Path) -> None:
    assert tables_of(storage / "other") == {}
