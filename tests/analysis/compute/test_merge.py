"""Several sweeps become one table: whose trials are averaged together, and what cannot stand beside what."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.compute.everything import compute
from analysis.compute.merge import load_sweeps
from analysis.compute.settings import settings_table
from analysis.read.load import load_sweep
from analysis.read.objectives import parse_objectives
from mtl.errors import BadInput
from mtl.vocabulary.delta_m import delta_m
from tests.support.fake_sweep import METRICS, write_sweep


def part(folder: Path, name: str, seeds: list[int], *, recipe: dict[str, Any] | None = None, **options: Any) -> Path:
    """A sweep of its own name, its trials' ids made of its recipe's changes."""
    write_sweep(folder / name, seeds=seeds, **options)
    info = json.loads((folder / name / "sweep.json").read_text())
    info["name"] = name
    info["recipe"] |= recipe or {}
    info["setup"] += str(sorted(field for field in recipe or {} if field != "penalty"))
    (folder / name / "sweep.json").write_text(json.dumps(info))
    if recipe:
        results = pd.read_parquet(folder / name / "results.parquet")
        results["trial_id"] = f"{sorted(recipe)}-" + results["trial_id"]
        results["penalty"] = recipe.get("penalty", "group_lasso")
        results.to_parquet(folder / name / "results.parquet")
    return folder / name


def test_seeds_of_the_same_recipe_are_averaged_together(tmp_path: Path) -> None:
    first, second = part(tmp_path, "first", [0, 1]), part(tmp_path, "second", [2, 3, 4])
    sweep = load_sweeps([first, second])
    assert sweep.results["sweep"].value_counts().to_dict() == {"first": 70, "second": 105}
    assert set(sweep.results["setup"]) == {"first"}
    settings = settings_table(sweep)
    assert len(settings) == 35
    assert set(settings["seeds"]) == {5}
    assert sweep.name == "first + second"
    assert sweep.planned == 175


def test_a_trial_of_two_sweeps_counts_once_and_as_done_where_it_is(tmp_path: Path) -> None:
    first, second = part(tmp_path, "first", [0, 1]), part(tmp_path, "second", [0, 1])
    results = pd.read_parquet(first / "results.parquet")
    results.loc[5, ["status", "error"]] = ["failed", "out of memory"]
    results.to_parquet(first / "results.parquet")
    sweep = load_sweeps([first, second])
    assert len(sweep.results) == 70
    assert set(sweep.results["status"]) == {"done"}
    assert sweep.results["sweep"].value_counts().to_dict() == {"first": 69, "second": 1}


def test_sweeps_without_a_setup_are_not_averaged_and_said_so(tmp_path: Path) -> None:
    sweeps = [write_sweep(tmp_path / name, seeds=[seed], info={"setup": ""}) for seed, name in enumerate("ab")]
    computed = compute(sweeps)
    assert set(computed.marked["seeds"]) == {1}
    assert any("of an earlier version, which did not write the setup" in one for one in computed.cautions)


def test_other_recipes_are_other_setups(tmp_path: Path) -> None:
    first = part(tmp_path, "narrow", [0, 1])
    second = part(tmp_path, "wide", [0, 1], recipe={"backbone_width": 32})
    computed = compute([first, second])
    assert set(computed.sweep.results["setup"]) == {"narrow", "wide"}
    assert len(computed.marked) == 70
    assert set(computed.marked["seeds"]) == {2}
    assert any("2 setups (narrow, wide)" in sentence for sentence in computed.cautions)


def test_another_penalty_is_the_same_setup_and_gets_its_missing_delta_m(tmp_path: Path) -> None:
    lasso = part(tmp_path, "lasso", [0, 1])
    l1 = part(tmp_path, "l1", [0, 1], recipe={"penalty": "l1"}, combinations=["depth+normals"])
    assert load_sweep(l1).results["delta_m"].isna().all()
    both = load_sweeps([lasso, l1])
    assert set(both.results["setup"]) == {"lasso"}
    ours, theirs = (both.results[both.results["penalty"] == one] for one in ("l1", "group_lasso"))
    row = ours.iloc[3]
    base = theirs[(theirs["lambda"] == 0) & (theirs["seed"] == row["seed"])].set_index("tasks")
    depth, normals = base.loc["depth", "test_depth_mae"], base.loc["normals", "test_normals_cos"]
    expected = -(row["test_depth_mae"] - depth) / depth + (row["test_normals_cos"] - normals) / normals
    assert row["test_delta_m"] == pytest.approx(expected / 2)


def test_delta_m_is_the_sweeps_own(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path))
    for column, split in (("delta_m", "val"), ("test_delta_m", "test")):
        primaries = {task: [sweep.metrics[primary]] for task, primary in sweep.tasks.items()}
        found = delta_m(sweep.results, split, primaries)
        np.testing.assert_allclose(found, sweep.results[column], atol=1e-12)


def test_two_sweeps_of_one_name_are_told_apart(tmp_path: Path) -> None:
    first, second = write_sweep(tmp_path / "a"), write_sweep(tmp_path / "b", seeds=[2])
    names = set(load_sweeps([first, second]).results["sweep"])
    assert names == {f"rooms ({first})", f"rooms ({second})"}


def test_a_constant_predictor_of_other_data_is_shown_nowhere(tmp_path: Path) -> None:
    first = part(tmp_path, "first", [0])
    second = part(tmp_path, "second", [1], info={"constant_predictor": {"depth_mae": 0.5, "normals_cos": 0.72}})
    computed = compute([first, second])
    assert "depth_mae" not in computed.sweep.constant_predictor
    assert computed.sweep.constant_predictor["normals_cos"] == 0.72
    assert any("disagree on the constant predictor of depth_mae" in sentence for sentence in computed.cautions)


def test_what_cannot_stand_in_one_table_is_refused(tmp_path: Path) -> None:
    first = part(tmp_path, "first", [0])
    metres = METRICS["depth_mae"] | {"unit": "of image maximum"}
    second = part(tmp_path, "second", [1], metrics=METRICS | {"depth_mae": metres})
    with pytest.raises(BadInput, match="metric depth_mae is in of image maximum, in another sweep in m"):
        load_sweeps([first, second])
    third = part(tmp_path, "third", [1], info={"objectives": [{"column": "delta_m", "direction": "maximize"}]})
    with pytest.raises(BadInput, match=r"the objectives are delta_m, in .* others"):
        load_sweeps([first, third])
    assert len(load_sweeps([first, third], parse_objectives("delta_m:maximize")).objectives) == 1
    with pytest.raises(BadInput, match="no sweep was named"):
        load_sweeps([])


def test_objectives_by_name() -> None:
    found = parse_objectives("test_depth_mae:minimize, group_sparsity:maximize")
    assert [(one.column, one.maximize) for one in found] == [("test_depth_mae", False), ("group_sparsity", True)]


@pytest.mark.parametrize("written", ["", "delta_m", "delta_m:up", ":maximize", "delta_m:maximize,"])
def test_objectives_that_are_none(written: str) -> None:
    with pytest.raises(BadInput, match="allowed: COLUMN:maximize or COLUMN:minimize"):
        parse_objectives(written)


def test_an_objective_named_twice_or_of_no_column(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="delta_m stands there 2 times"):
        parse_objectives("delta_m:maximize,delta_m:minimize")
    with pytest.raises(BadInput, match=r"results.parquet has no column speed"):
        load_sweeps([write_sweep(tmp_path)], parse_objectives("speed:maximize"))
