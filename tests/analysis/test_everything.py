"""All that is computed, on sweeps whole and broken: nothing is dropped in silence."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.analyze import computed_files
from analysis.compute.everything import compute
from analysis.pareto import hypervolume
from analysis.read.load import load_sweep
from analysis.read.objectives import parse_objectives
from tests.support.fake_sweep import write_sweep


def test_failed_stopped_and_missing_trials_are_marked_and_on_no_front(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "whole")).results
    # The best that could be, were it not stopped or failed.
    results.loc[[13, 14], ["delta_m", "test_delta_m", "group_sparsity"]] = 5.0
    results.loc[13, "status"] = "stopped"
    results.loc[14, ["status", "error"]] = ["failed", "loss is nan"]
    computed = compute(write_sweep(tmp_path / "half", results=results.iloc[:48]))
    runs = computed.runs.set_index("trial_id")
    assert len(runs) == 48
    lost = results.loc[[13, 14], "trial_id"].tolist()
    assert runs.loc[lost, "why_not"].tolist() == ["stopped", "failed"]
    assert not runs.loc[lost, ["judged", "on_front"]].any(axis=None)
    assert runs["judged"].sum() == 46
    states = computed.missing["state"].value_counts().to_dict()
    assert states == {"stopped": 1, "failed": 1, "not finished": 22}
    assert computed.marked["group_sparsity_mean"].max() <= 1


def test_a_trial_without_its_objective_is_named(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "whole")).results
    results.loc[2, "train_seconds"] = np.nan
    objectives = parse_objectives("train_seconds:minimize,group_sparsity:maximize")
    computed = compute(write_sweep(tmp_path / "nan", results=results), objectives)
    lost = computed.runs[~computed.runs["judged"]]
    assert lost["trial_id"].tolist() == [results.loc[2, "trial_id"]]
    assert lost["why_not"].tolist() == ["no train_seconds"]
    assert any(
        f"1 done trial has no train_seconds and is on no front of single runs: {results.loc[2, 'trial_id']}" in sentence
        for sentence in computed.cautions
    )


def test_fronts_over_single_runs_agree_with_brute_force(tmp_path: Path) -> None:
    computed = compute(write_sweep(tmp_path, seeds=[0, 1, 2]))
    for _, rows in computed.runs.groupby("tasks"):
        points = rows[["delta_m", "group_sparsity"]].to_numpy()
        beaten = [((points >= one).all(1) & (points > one).any(1)).any() for one in points]
        assert rows["on_front"].tolist() == [not one for one in beaten]


def test_hypervolume_of_each_seed_is_that_of_its_own_front(tmp_path: Path) -> None:
    computed = compute(write_sweep(tmp_path, seeds=[0, 1, 2]))
    assert len(computed.run_volumes) == 7 * 3
    row = computed.run_volumes[(computed.run_volumes["tasks"] == "depth") & (computed.run_volumes["seed"] == 1)].iloc[0]
    trials = computed.runs[(computed.runs["tasks"] == "depth") & (computed.runs["seed"] == 1)]
    points = trials[["delta_m", "group_sparsity"]].to_numpy()
    kept = [not ((points >= one).all(1) & (points > one).any(1)).any() for one in points]
    corner = float(computed.volumes.set_index("tasks").loc["depth", "reference_test_delta_m"])
    expected = hypervolume(trials.loc[kept, ["test_delta_m", "group_sparsity"]], [corner, 0], [True, True])
    assert (row["hypervolume"], row["runs"], row["reference_test_delta_m"]) == (pytest.approx(expected), 5, corner)


def test_one_seed(tmp_path: Path) -> None:
    computed = compute(write_sweep(tmp_path, seeds=[0]))
    assert all(claim.verdict == "cannot tell with these seeds" for claim in computed.claims)
    assert computed.affinity["low"].isna().all()
    assert set(computed.attainment["seeds"]) == {1}
    surfaces = [rows.drop(columns="level").to_numpy().tolist() for _, rows in computed.attainment.groupby("level")]
    assert surfaces[0] == surfaces[1] == surfaces[2]
    assert any("one seed" in sentence for sentence in computed.cautions)


def test_the_constant_predictor_beside_the_best(tmp_path: Path) -> None:
    computed = compute(write_sweep(tmp_path))
    table = computed.constant_predictor.set_index("metric")
    assert table["beaten"].all()
    settings = computed.marked
    assert table.loc["depth_mae", "best"] == settings["test_depth_mae_mean"].min()
    assert table.loc["normals_cos", "best"] == settings["test_normals_cos_mean"].max()
    results = computed.sweep.results.assign(test_depth_mae=1.5)
    again = compute(write_sweep(tmp_path / "bad", results=results)).constant_predictor.set_index("metric")
    assert not again.loc["depth_mae", "beaten"]


def test_other_peoples_tasks_and_metrics(tmp_path: Path) -> None:
    tasks = {"leaf": {"kind": "segmentation", "primary": "leaf_dice"}, "age": {"kind": "depth", "primary": "age_error"}}
    metrics = {"leaf_dice": {"direction": "maximize"}, "age_error": {"direction": "minimize", "unit": "a"}}
    names = ["leaf", "age", "leaf+age"]
    source = load_sweep(write_sweep(tmp_path / "source", combinations=["depth", "normals", "depth+normals"])).results
    rename = {"depth": "age", "normals": "leaf", "depth+normals": "leaf+age"}
    results = source.assign(tasks=source["tasks"].map(rename))
    for split in ("val", "test"):
        results[f"{split}_leaf_dice"], results[f"{split}_age_error"] = (
            results[f"{split}_normals_cos"],
            results[f"{split}_depth_mae"],
        )
    computed = compute(write_sweep(tmp_path / "own", tasks=tasks, metrics=metrics, results=results, combinations=names))
    assert computed.paper_tables == ()
    assert set(computed.affinity["task"]) == {"leaf", "age"}
    assert {claim.name: claim.seeds for claim in computed.claims}["gains"] == 2


def test_half_done_sweeps_and_sweeps_without_baselines_are_computed(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "whole")).results
    for size in (1, 11, 37, 66):
        computed = compute(write_sweep(tmp_path / str(size), results=results.iloc[:size]))
        assert len(computed.missing) == 70 - size
        assert computed_files(computed)
    lone = compute(write_sweep(tmp_path / "lone", combinations=["segmentation+depth"]))
    assert lone.affinity.empty
    assert lone.run_volumes["tasks"].unique().tolist() == ["segmentation+depth"]


def test_files_survive_csv(tmp_path: Path) -> None:
    computed = compute(write_sweep(tmp_path))
    files = computed_files(computed)
    assert {"tables/claims.csv", "tables/affinity.csv", "tables/paper_table_1.md", "tables/runs.csv"} <= set(files)
    (tmp_path / "runs.csv").write_bytes(files["tables/runs.csv"])
    again = pd.read_csv(tmp_path / "runs.csv", keep_default_na=False)
    assert again["on_front"].tolist() == computed.runs["on_front"].tolist()


def test_computing_needs_neither_matplotlib_nor_a_training_library() -> None:
    code = (
        "import sys, analysis.compute.everything;"
        "print(sorted({'matplotlib', 'torch', 'ray', 'optuna', 'search'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
