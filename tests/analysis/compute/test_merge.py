"""Several sweeps become one table: whose trials are averaged together, and what cannot stand beside what."""

import json
from pathlib import Path

import numpy as np
import pytest

from analysis.compute.everything import Computed, compute
from analysis.compute.merge import load_sweeps
from analysis.read.load import load_sweep
from analysis.read.objectives import parse_objectives
from mtl.errors import BadInput
from mtl.vocabulary.delta_m import delta_m
from tests.support.written import copied, edit_info, edit_table


def test_a_trial_of_two_sweeps_counts_once_and_as_done_where_it_is(storage: Path, first: Path) -> None:
    edit_table(first, lambda rows: rows.assign(status=rows["status"].where(rows.index != 5, "failed")))
    edit_info(first, name="again")
    sweep = load_sweeps([first, storage / "first"])
    assert len(sweep.results) == sweep.planned == 15
    assert set(sweep.results["status"]) == {"done"}
    assert sweep.results["sweep"].value_counts().to_dict() == {"again": 14, "first": 1}
    assert len(sweep.layers) == len(load_sweeps([first]).layers)  # type: ignore[arg-type]


def test_sweeps_without_a_setup_are_not_averaged_and_said_so(storage: Path, tmp_path: Path) -> None:
    computed = compute([edit_info(copied(storage / name, tmp_path), setup="") for name in ("first", "second")])
    assert set(computed.marked["seeds"]) == {1}
    assert any("of an earlier version, which did not write the setup" in one for one in computed.cautions)


def test_another_penalty_is_the_same_setup_and_gets_its_missing_delta_m(storage: Path) -> None:
    assert load_sweep(storage / "l1").results["delta_m"].isna().all()
    both = load_sweeps([storage / "first", storage / "second", storage / "l1"])
    assert set(both.results["setup"]) == {"first"}
    ours, theirs = (both.results[both.results["penalty"] == one] for one in ("l1", "group_lasso"))
    for row in ours.to_dict("records"):
        dense = theirs[(theirs["lambda"] == 0) & (theirs["seed"] == row["seed"])].set_index("tasks")
        gains = [
            1 - row[f"test_{name}"] / dense.loc[task, f"test_{name}"]
            for task, name in (("depth", "depth_mae"), ("normals", "normals_mean_angle"))
        ]
        assert row["test_delta_m"] == pytest.approx(np.mean(gains))


def test_delta_m_is_the_sweeps_own(merged: Computed) -> None:
    sweep = merged.sweep
    for column, split in (("delta_m", "val"), ("test_delta_m", "test")):
        primaries = {task: [sweep.metrics[primary]] for task, primary in sweep.tasks.items()}
        found = delta_m(sweep.results, split, primaries)
        np.testing.assert_allclose(found, sweep.results[column], atol=1e-12)


def test_two_sweeps_of_one_name_are_told_apart(storage: Path, first: Path) -> None:
    second = edit_info(copied(storage / "second", first.parent), name="first")
    names = set(load_sweeps([first, second]).results["sweep"])
    assert names == {f"first ({first})", f"first ({second})"}


def test_the_model_of_merged_sweeps_lies_in_its_own(merged: Computed, storage: Path) -> None:
    for trial, name in merged.sweep.results[["trial_id", "sweep"]].iloc[[0, -1]].to_numpy():
        assert merged.sweep.model_path(trial) == f"{storage / name}/trials/{trial}/model.pt"


def test_a_constant_predictor_of_other_data_is_shown_nowhere(storage: Path, first: Path) -> None:
    known = load_sweep(first).constant_predictor
    edit_info(first, constant_predictor=known | {"depth_mae": 0.5})
    computed = compute([first, storage / "second"])
    assert "depth_mae" not in computed.sweep.constant_predictor
    assert computed.sweep.constant_predictor["normals_cos"] == known["normals_cos"]
    assert any("disagree on the constant predictor of depth_mae" in sentence for sentence in computed.cautions)


def test_what_cannot_stand_in_one_table_is_refused(storage: Path, first: Path) -> None:
    metrics = json.loads((first / "sweep.json").read_text())["metrics"]
    edit_info(first, metrics=metrics | {"depth_mae": metrics["depth_mae"] | {"unit": "of image maximum"}})
    with pytest.raises(BadInput, match="metric depth_mae is in m, in another sweep in of image maximum"):
        load_sweeps([first, storage / "second"])
    edit_info(first, metrics=metrics, objectives=[{"column": "delta_m", "direction": "maximize"}])
    with pytest.raises(BadInput, match=r"the objectives are delta_m, group_sparsity, in .* others"):
        load_sweeps([first, storage / "second"])
    assert len(load_sweeps([first, storage / "second"], parse_objectives("delta_m:maximize")).objectives) == 1
    with pytest.raises(BadInput, match="no sweep was named"):
        load_sweeps([])


def test_objectives_by_name() -> None:
    found = parse_objectives("test_depth_mae:minimize, group_sparsity:maximize")
    assert [(one.column, one.maximize) for one in found] == [("test_depth_mae", False), ("group_sparsity", True)]


@pytest.mark.parametrize("written", ["", "delta_m", "delta_m:up", ":maximize", "delta_m:maximize,"])
def test_objectives_that_are_none(written: str) -> None:
    with pytest.raises(BadInput, match="allowed: COLUMN:maximize or COLUMN:minimize"):
        parse_objectives(written)


def test_an_objective_named_twice_or_of_no_column(storage: Path) -> None:
    with pytest.raises(BadInput, match="delta_m stands there 2 times"):
        parse_objectives("delta_m:maximize,delta_m:minimize")
    with pytest.raises(BadInput, match=r"results.parquet has no column speed"):
        load_sweeps([storage / "first"], parse_objectives("speed:maximize"))
