"""Means over seeds, what is selected on validation, and the hypervolume of what was selected."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.compute.fronts import hypervolume_table, with_fronts
from analysis.compute.settings import settings_table
from analysis.figures.fronts import front_panels
from analysis.read.load import Sweep, load_sweep
from mtl.errors import BadInput
from tests.support.fake_sweep import METRICS, TASKS, results_table, write_sweep

PRIMARY = {task: about["primary"] for task, about in TASKS.items()}


def made_sweep(folder: Path, values: dict[str, list[float]], combination: str = "depth") -> Sweep:
    """A sweep of one combination: `values` replaces columns, a value a trial, two seeds for each of five λ."""
    results = results_table([combination], [0, 1e-6, 1e-5, 1e-4, 1e-3], [0, 1], PRIMARY, list(METRICS))
    for column, column_values in values.items():
        results[column] = column_values
    return load_sweep(write_sweep(folder, results=results, combinations=[combination]))


def twice(*values: float) -> list[float]:
    return np.repeat(values, 2).tolist()


def test_means_and_sample_deviations_by_hand(tmp_path: Path) -> None:
    sweep = made_sweep(
        tmp_path, {"test_depth_mae": [0.4, 0.6, 1, 1, 1, 1, 1, 1, 1, 1], "group_sparsity": twice(0, 0.1, 0.2, 0.3, 0.4)}
    )
    first = settings_table(sweep).iloc[0]
    assert first["test_depth_mae_mean"] == pytest.approx(0.5)
    assert first["test_depth_mae_std"] == pytest.approx(np.sqrt((0.1**2 + 0.1**2) / (2 - 1)))
    assert (first["seeds"], first["trials"], first["delta_m_trials"]) == (2, 2, 2)


def test_one_trial_has_no_deviation(tmp_path: Path) -> None:
    settings = settings_table(load_sweep(write_sweep(tmp_path, seeds=[3])))
    assert settings.filter(like="_std").isna().all(axis=None)
    assert (settings["trials"] == 1).all()


def test_failed_and_stopped_trials_are_in_no_mean(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "whole")).results
    expected = results.loc[0, "test_segmentation_miou"]
    results.loc[1, ["status", "error"]] = ["failed", "loss is nan"]
    results.loc[3, "status"] = "stopped"
    settings = settings_table(load_sweep(write_sweep(tmp_path / "rest", results=results)))
    assert settings.loc[0, "test_segmentation_miou_mean"] == expected
    assert settings["trials"].tolist() == [1, 1] + [2] * 33


def test_settings_stand_small_combinations_first_and_by_strength(tmp_path: Path) -> None:
    whole = load_sweep(write_sweep(tmp_path / "whole"))
    shuffled = whole.results.sample(frac=1, random_state=0)
    settings = settings_table(load_sweep(write_sweep(tmp_path / "shuffled", results=shuffled)))
    pd.testing.assert_frame_equal(settings, settings_table(whole))
    assert settings["tasks"].drop_duplicates().tolist() == [
        *("segmentation", "depth", "normals"),
        *("segmentation+depth", "segmentation+normals", "depth+normals"),
        "segmentation+depth+normals",
    ]
    assert settings["lambda"].head(5).tolist() == [0, 1e-6, 1e-5, 1e-4, 1e-3]


def test_different_penalties_are_not_averaged(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "one", combinations=["depth"])).results
    other = results.assign(penalty="l1", trial_id="l1-" + results["trial_id"])
    both = write_sweep(tmp_path / "two", combinations=["depth"], results=pd.concat([results, other]))
    settings = settings_table(load_sweep(both))
    assert settings["penalty"].value_counts().to_dict() == {"group_lasso": 5, "l1": 5}
    assert (settings["trials"] == 2).all()


def test_nothing_finished_yet(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "whole")).results.assign(status="failed", error="out of memory")
    with pytest.raises(BadInput, match="nothing finished yet: of 70 planned trials none is done"):
        settings_table(load_sweep(write_sweep(tmp_path / "failed", results=results)))


def test_the_front_is_selected_on_validation_and_measured_on_test(tmp_path: Path) -> None:
    # On validation the third setting is dominated by the fourth; on test it would be the other way round.
    values = {
        "group_sparsity": twice(0.0, 0.2, 0.5, 0.5, 0.9),
        "delta_m": twice(0.0, -0.1, -0.3, -0.1, -0.5),
        "test_delta_m": twice(0.0, -0.1, -0.1, -0.4, -0.5),
    }
    sweep = made_sweep(tmp_path, values)
    marked = with_fronts(sweep, settings_table(sweep))
    assert marked["on_front"].tolist() == [True, False, False, True, True]
    volume = hypervolume_table(sweep, marked).iloc[0]
    # Boxes of the selected points' test values, (0.5, -0.4) and (0.9, -0.5), over no group gone and the Δm of the
    # constant predictor: its MAE of 0.98 over those of the two dense models.
    dense = sweep.results.loc[sweep.results["lambda"] == 0, "test_depth_mae"]
    blind = float((-(0.98 - dense) / dense).mean())
    assert volume["reference_test_delta_m"] == pytest.approx(blind)
    assert volume["hypervolume"] == pytest.approx(0.9 * (-0.5 - blind) + 0.5 * 0.1)
    assert (volume["reference"], volume["reference_group_sparsity"]) == ("constant predictor", 0)
    assert (volume["points_on_front"], volume["points"], volume["seeds"]) == (3, 5, 2)


def test_a_model_without_channels_has_no_volume(tmp_path: Path) -> None:
    """One that is as good as the constant predictor: -100 % as the corner gave it nearly all there is."""
    blind = made_sweep(tmp_path, {"group_sparsity": twice(0, 1, 1, 1, 1), "val_depth_mae": twice(0.4, *[0.98] * 4)})
    results = blind.results
    for split in ("val", "test"):
        results[f"{split}_depth_mae"] = twice(0.4, *[0.98] * 4)
    for column in ("delta_m", "test_delta_m"):
        results[column] = twice(0, *[-0.58 / 0.4] * 4)
    marked = with_fronts(blind, settings_table(blind))
    assert marked["on_front"].all()
    assert hypervolume_table(blind, marked)["hypervolume"].tolist() == [0.0]


def test_without_a_constant_predictor_the_worst_is_the_corner(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path, info={"constant_predictor": {}}))
    marked = with_fronts(sweep, settings_table(sweep))
    volumes = hypervolume_table(sweep, marked).set_index("tasks")
    assert set(volumes["reference"]) == {"worst observed"}
    worst = marked.groupby("tasks")["test_delta_m_mean"].min()
    assert volumes["reference_test_delta_m"].to_dict() == worst.to_dict()


def test_without_baselines_a_combinations_own_metrics_decide(tmp_path: Path) -> None:
    values = {
        "group_sparsity": twice(0.0, 0.2, 0.5, 0.7, 0.9),
        "val_segmentation_miou": twice(0.5, 0.4, 0.3, 0.2, 0.1),
        "val_depth_mae": twice(0.3, 0.4, 0.6, 0.5, 0.9),
        "test_segmentation_miou": twice(0.5, 0.4, 0.3, 0.2, 0.1),
        "test_depth_mae": twice(0.3, 0.4, 0.6, 0.5, 0.9),
    }
    sweep = made_sweep(tmp_path, values, combination="segmentation+depth")
    marked = with_fronts(sweep, settings_table(sweep))
    assert set(marked["objectives"]) == {"val_segmentation_miou+val_depth_mae+group_sparsity"}
    assert marked["on_front"].all()  # the third has the worse depth for its sparsity, but the better segmentation
    volumes = hypervolume_table(sweep, marked)
    assert volumes["tasks"].tolist() == ["segmentation+depth"]
    assert volumes.loc[0, "reference"] == "constant predictor"
    assert volumes.loc[0, "reference_test_depth_mae"] == 0.98
    assert volumes.loc[0, "reference_test_segmentation_miou"] == 0.04


def test_a_setting_without_its_baseline_makes_its_combination_fall_back_rather_than_vanish(tmp_path: Path) -> None:
    results = load_sweep(write_sweep(tmp_path / "whole")).results
    lost = (results["tasks"] == "depth+normals") & (results["lambda"] == 1e-4)
    results.loc[lost, ["delta_m", "test_delta_m"]] = np.nan
    sweep = load_sweep(write_sweep(tmp_path / "lost", results=results))
    marked = with_fronts(sweep, settings_table(sweep))
    own = marked[marked["objectives"] != "delta_m+group_sparsity"]
    assert own["tasks"].tolist() == ["depth+normals"] * 5
    assert set(own["objectives"]) == {"val_depth_mae+val_normals_cos+group_sparsity"}


def test_other_objectives_and_directions(tmp_path: Path) -> None:
    results = results_table(["depth"], [0, 1e-5, 1e-4], [0], PRIMARY, list(METRICS))
    results["val_depth_mae"], results["train_seconds"] = [0.3, 0.2, 0.5], [3.0, 2.0, 1.0]
    objectives = [
        {"column": "val_depth_mae", "direction": "minimize"},
        {"column": "train_seconds", "direction": "minimize"},
    ]
    sweep = load_sweep(write_sweep(tmp_path, results=results, info={"objectives": objectives}))
    marked = with_fronts(sweep, settings_table(sweep))
    assert marked["on_front"].tolist() == [False, True, True]


def test_group_sparsity_as_the_only_objective(tmp_path: Path) -> None:
    write_sweep(tmp_path, info={"objectives": [{"column": "group_sparsity", "direction": "maximize"}]})
    sweep = load_sweep(tmp_path)
    marked = with_fronts(sweep, settings_table(sweep))
    assert marked["on_front"].sum() == 7
    assert len(front_panels(sweep, marked.assign(best=False))) == 7
