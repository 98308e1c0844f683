"""Any columns as objectives, through the command line as well."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.compute.everything import compute
from analysis.read.load import load_sweep
from analysis.read.objectives import parse_objectives
from mtl.errors import BadInput
from search.cli import main
from tests.support.fake_sweep import write_sweep


@pytest.mark.parametrize(
    "written",
    [
        "train_seconds:minimize,group_sparsity:maximize",
        "lambda:maximize,delta_m:maximize",
        "epochs_run:minimize",
        "delta_m:maximize,group_sparsity:maximize,parameter_sparsity:maximize",
        "delta_m:maximize,group_sparsity:maximize,parameter_sparsity:maximize,train_seconds:minimize",
    ],
)
def test_fronts_over_means_agree_with_brute_force(tmp_path: Path, written: str) -> None:
    objectives = parse_objectives(written)
    results = load_sweep(write_sweep(tmp_path / "source")).results
    results["train_seconds"] = np.random.default_rng(0).integers(1, 5, len(results)).astype(float)
    computed = compute(write_sweep(tmp_path / "own", results=results), objectives)
    signs = [1 if one.maximize else -1 for one in objectives]
    for _, rows in computed.marked.groupby("tasks"):
        points = rows[[f"{one.column}_mean" for one in objectives]].to_numpy() * signs
        beaten = [((points >= one).all(1) & (points > one).any(1)).any() for one in points]
        assert rows["on_front"].tolist() == [not one for one in beaten]
    assert (computed.runs["judged"]).all()


def test_a_combination_without_the_objective_is_judged_by_its_own_metrics(tmp_path: Path) -> None:
    computed = compute(write_sweep(tmp_path), parse_objectives("val_depth_mae:minimize,group_sparsity:maximize"))
    by_tasks = computed.marked.groupby("tasks")["objectives"].first()
    assert by_tasks["depth+normals"] == "val_depth_mae+group_sparsity"
    assert by_tasks["normals"] == "val_normals_cos+group_sparsity"
    row = computed.volumes.set_index("tasks").loc["depth"]
    assert row["objectives"] == "test_depth_mae+group_sparsity"
    assert not math.isnan(row["reference_test_depth_mae"])


def test_columns_that_cannot_be_objectives(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path)).results
    results.assign(val_loss=1.0, train_seconds=np.inf).to_parquet(tmp_path / "results.parquet")
    for written, named in (
        ("val_loss:minimize", "has no column test_loss"),
        ("train_seconds:minimize", "column train_seconds is infinite in trial segmentation-0-0"),
        ("penalty:minimize", "column penalty holds something that is not a number"),
    ):
        with pytest.raises(BadInput, match=named) as caught:
            compute(tmp_path, parse_objectives(written))
        assert "\n" not in str(caught.value)


def test_the_command_takes_several_sweeps_and_objectives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write_sweep(tmp_path / "a"), write_sweep(tmp_path / "b", seeds=[2, 3, 4])
    objectives = "test_delta_m:maximize,parameter_sparsity:maximize"
    assert main(["analyze", str(first), str(second), "--objectives", objectives]) == 0
    assert "report: " in capsys.readouterr().out
    front = pd.read_csv(first / "analysis" / "front.csv")
    assert set(front["objectives"]) == {"test_delta_m+parameter_sparsity"}
    assert set(front["seeds"]) == {5}
    assert not (second / "analysis").exists()


@pytest.mark.parametrize(("written", "named"), [("up", "'up'"), ("speed:maximize", "no column speed"), ("", "''")])
def test_the_command_refuses_objectives_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written: str, named: str
) -> None:
    assert main(["analyze", str(write_sweep(tmp_path)), "--objectives", written]) == 2
    said = capsys.readouterr().err
    assert named in said
    assert said.count("\n") == 1
    assert not (tmp_path / "analysis").exists()


def test_truncated_layers_are_refused_by_name(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    (tmp_path / "layers.parquet").write_bytes((tmp_path / "results.parquet").read_bytes()[:500])
    with pytest.raises(BadInput, match=r"layers.parquet is not a whole Parquet file"):
        load_sweep(tmp_path)
