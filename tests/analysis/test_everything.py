"""All that is computed, on sweeps whole and broken: nothing is dropped in silence."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.analyze import computed_files
from analysis.compute.everything import Computed, compute
from analysis.pareto import hypervolume
from analysis.read.load import load_sweep
from analysis.read.objectives import parse_objectives
from tests.support.written import edit_table


def test_failed_stopped_and_missing_trials_are_marked_and_on_no_front(first: Path) -> None:
    def change(results: pd.DataFrame) -> pd.DataFrame:
        results = results.astype({"error": object})
        # The best that could be, were it not stopped or failed.
        results.loc[[3, 4], ["delta_m", "test_delta_m", "group_sparsity"]] = 5.0
        results.loc[3, "status"] = "stopped"
        results.loc[4, ["status", "error"]] = ["failed", "loss is nan"]
        return results.iloc[:12]

    computed = compute(edit_table(first, change))
    runs = computed.runs
    assert len(runs) == 12
    assert runs.loc[[3, 4], "why_not"].tolist() == ["stopped", "failed"]
    assert not runs.loc[[3, 4], ["judged", "on_front"]].any(axis=None)
    assert runs["judged"].sum() == 10
    states = computed.missing["state"].value_counts().to_dict()
    assert states == {"stopped": 1, "failed": 1, "not finished": 3}
    assert computed.marked["group_sparsity_mean"].max() <= 1


def test_a_trial_without_its_objective_is_named(storage: Path, first: Path) -> None:
    edit_table(first, lambda results: results.assign(train_seconds=results["train_seconds"].where(results.index != 2)))
    objectives = parse_objectives("train_seconds:minimize,group_sparsity:maximize")
    computed = compute([first, storage / "second"], objectives)
    lost = computed.runs[~computed.runs["judged"]]
    assert lost["trial_id"].tolist() == [computed.sweep.results.loc[2, "trial_id"]]
    assert lost["why_not"].tolist() == ["no train_seconds"]
    sentence = f"1 done trial has no train_seconds and is on no front of single runs: {lost['trial_id'].iloc[0]}."
    assert sentence in computed.cautions


def test_hypervolume_of_each_seed_is_that_of_its_own_front(merged: Computed) -> None:
    assert len(merged.run_volumes) == 5 * 2
    row = merged.run_volumes[(merged.run_volumes["tasks"] == "depth") & (merged.run_volumes["seed"] == 1)].iloc[0]
    trials = merged.runs[(merged.runs["tasks"] == "depth") & (merged.runs["seed"] == 1)]
    points = trials[["delta_m", "group_sparsity"]].to_numpy()
    kept = [not ((points >= one).all(1) & (points > one).any(1)).any() for one in points]
    corner = float(merged.volumes.set_index("tasks").loc["depth", "reference_test_delta_m"])
    expected = hypervolume(trials.loc[kept, ["test_delta_m", "group_sparsity"]], [corner, 0], [True, True])
    assert (row["hypervolume"], row["runs"], row["reference_test_delta_m"]) == (pytest.approx(expected), 3, corner)


def test_one_seed(storage: Path) -> None:
    computed = compute(storage / "first")
    assert all(claim.verdict == "cannot tell with these seeds" for claim in computed.claims)
    assert len(computed.affinity)
    assert computed.affinity[["low", "high", "p_value", "adjusted_p"]].isna().all(axis=None)
    assert computed.affinity["gain"].notna().all()
    assert set(computed.attainment["seeds"]) == {1}
    surfaces = [rows.drop(columns="level").to_numpy().tolist() for _, rows in computed.attainment.groupby("level")]
    assert surfaces[0] == surfaces[1] == surfaces[2]
    assert any("one seed" in sentence for sentence in computed.cautions)


def test_the_constant_predictor_beside_the_best(merged: Computed) -> None:
    table, settings = merged.constant_predictor.set_index("metric"), merged.marked
    assert set(table.index) == set(merged.sweep.metrics)
    for name, best in (("depth_mae", "min"), ("normals_cos", "max")):
        value = settings[f"test_{name}_mean"].agg(best)
        assert table.loc[name, "best"] == value
        assert table.loc[name, "beaten"] == ((value - table.loc[name, "constant"]) * (1 if best == "max" else -1) > 0)


@pytest.mark.parametrize("size", [1, 4, 11])
def test_half_done_sweeps_are_computed(first: Path, size: int) -> None:
    computed = compute(edit_table(first, lambda results: results.iloc[:size]))
    assert len(computed.missing) == 15 - size
    assert computed_files(computed)


def test_sweeps_without_baselines_are_computed(storage: Path) -> None:
    lone = compute(storage / "l1")
    assert lone.sweep.results["delta_m"].isna().all()
    assert lone.affinity.empty
    assert lone.run_volumes["tasks"].unique().tolist() == ["depth+normals"]


def test_a_search_is_computed_and_its_dense_models_are_trained_as_long_beside(storage: Path) -> None:
    computed = compute(storage / "search")
    assert computed.missing.empty
    assert any("Retrained models have had twice the epochs" in sentence for sentence in computed.cautions)
    assert set(computed.marked["retraining"]) == {"none", "longer", "fine_tune"}
    assert (computed.marked["seeds"] == 2).all()


def test_trials_without_layers_are_counted(first: Path) -> None:
    lost = load_sweep(first).results["trial_id"].iloc[:2]
    edit_table(first, lambda layers: layers[~layers["trial_id"].isin(lost)], "layers")
    assert "2 of 15 done trials have no rows in layers.parquet." in compute(first).cautions


def test_files_survive_csv(merged: Computed, tmp_path: Path) -> None:
    files = computed_files(merged)
    assert {"tables/claims.csv", "tables/affinity.csv", "tables/paper_table_1.md", "tables/runs.csv"} <= set(files)
    (tmp_path / "runs.csv").write_bytes(files["tables/runs.csv"])
    again = pd.read_csv(tmp_path / "runs.csv", keep_default_na=False)
    assert again["on_front"].tolist() == merged.runs["on_front"].tolist()
    assert np.array_equal(again["group_sparsity"], merged.runs["group_sparsity"])
