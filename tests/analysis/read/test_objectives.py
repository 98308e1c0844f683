"""Any columns as objectives, through the command line as well."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from analysis.compute.everything import compute
from analysis.read.load import load_sweep
from analysis.read.objectives import parse_objectives
from mtl.errors import BadInput
from search.cli import main
from tests.support.written import copied, edit_table


def beaten(points: NDArray[np.float64]) -> list[bool]:
    """Of each point whether another one is at least as good everywhere and better somewhere; more is better."""
    return [bool(((points >= one).all(1) & (points > one).any(1)).any()) for one in points]


@pytest.mark.parametrize(
    "written",
    [
        "lambda:maximize,delta_m:maximize",
        "epochs_run:minimize",
        "delta_m:maximize,group_sparsity:maximize,parameter_sparsity:maximize,train_seconds:minimize",
    ],
)
def test_fronts_over_means_and_single_runs_agree_with_brute_force(storage: Path, written: str) -> None:
    objectives = parse_objectives(written)
    computed = compute([storage / "first", storage / "second"], objectives)
    signs = [1 if one.maximize else -1 for one in objectives]
    for _, rows in computed.marked.groupby("tasks"):
        points = rows[[f"{one.column}_mean" for one in objectives]].to_numpy() * signs
        assert rows["on_front"].tolist() == [not worse for worse in beaten(points)]
    assert computed.runs["judged"].all()
    for _, rows in computed.runs.groupby("tasks"):
        points = rows[[one.column for one in objectives]].to_numpy() * signs
        assert rows["on_front"].tolist() == [not worse for worse in beaten(points)]


def test_a_combination_without_the_objective_is_judged_by_its_own_metrics(storage: Path) -> None:
    objectives = parse_objectives("val_depth_mae:minimize,group_sparsity:maximize")
    computed = compute([storage / "first", storage / "second"], objectives)
    by_tasks = computed.marked.groupby("tasks")["objectives"].first()
    assert by_tasks["depth+normals"] == "val_depth_mae+group_sparsity"
    assert by_tasks["normals"] == "val_normals_mean_angle+group_sparsity"
    row = computed.volumes.set_index("tasks").loc["depth"]
    assert row["objectives"] == "test_depth_mae+group_sparsity"
    assert not math.isnan(row["reference_test_depth_mae"])


def test_columns_that_cannot_be_objectives(first: Path) -> None:
    edit_table(first, lambda results: results.assign(val_loss=1.0, train_seconds=np.inf))
    for written, named in (
        ("val_loss:minimize", "has no column test_loss"),
        ("train_seconds:minimize", "column train_seconds is infinite in trial [0-9a-f]{16}$"),
        ("penalty:minimize", "column penalty holds something that is not a number"),
    ):
        with pytest.raises(BadInput, match=named) as caught:
            compute(first, parse_objectives(written))
        assert "\n" not in str(caught.value)


def test_the_command_takes_several_sweeps_and_objectives(
    storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (copied(storage / name, tmp_path) for name in ("first", "second"))
    objectives = "test_delta_m:maximize,parameter_sparsity:maximize"
    assert main(["analyze", str(first), str(second), "--objectives", objectives]) == 0
    assert "report: " in capsys.readouterr().out
    front = pd.read_csv(first / "analysis-with-second" / "front.csv")
    assert set(front["objectives"]) == {"test_delta_m+parameter_sparsity"}
    assert set(front["seeds"]) == {2}
    assert not any((one / "analysis").exists() for one in (first, second))


@pytest.mark.parametrize(("written", "named"), [("up", "'up'"), ("speed:maximize", "no column speed"), ("", "''")])
def test_the_command_refuses_objectives_in_one_line(
    first: Path, capsys: pytest.CaptureFixture[str], written: str, named: str
) -> None:
    assert main(["analyze", str(first), "--objectives", written]) == 2
    said = capsys.readouterr().err
    assert named in said
    assert said.count("\n") == 1
    assert not (first / "analysis").exists()


def test_truncated_layers_are_refused_by_name(first: Path) -> None:
    (first / "layers.parquet").write_bytes((first / "results.parquet").read_bytes()[:500])
    with pytest.raises(BadInput, match=r"layers.parquet is not a whole Parquet file"):
        load_sweep(first)
