"""What sweeps write is what the analysis takes it for: setups, Δm, the constant predictor, the models' places."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.compute.answer import answer
from analysis.compute.everything import Computed, compute
from analysis.read.load import load_sweep
from mtl.vocabulary.files import SWEEP
from search.cli import main
from tests.analysis.conftest import RUNS, SMALL
from tests.support.in_process import without_ray, words
from tests.support.written import copied, edit_info


def test_sweeps_of_one_setup_are_averaged_and_of_another_not(storage: Path, merged: Computed) -> None:
    assert merged.marked["seeds"].tolist() == [2] * 15
    assert set(merged.sweep.results["setup"]) == {"first"}
    assert merged.sweep.results["sweep"].value_counts().to_dict() == {"first": 15, "second": 15}
    assert (merged.sweep.name, merged.sweep.planned) == ("first + second", 30)
    three = compute([storage / "first", storage / "second", storage / "other"])
    assert three.marked.groupby("setup")["seeds"].max().to_dict() == {"first": 2, "other": 1}
    assert any("2 setups (first, other)" in sentence for sentence in three.cautions)


def test_a_sweep_of_before_there_were_setups_writes_it_as_its_command_is_given_again(
    storage: Path, tmp_path: Path
) -> None:
    shutil.copytree(storage / "other", tmp_path / "other")
    path = tmp_path / "other" / SWEEP
    before = json.loads(path.read_text())
    path.write_text(json.dumps({key: before[key] for key in before.keys() - {"setup", "constant_predictor_val"}}))
    with without_ray():
        assert main(words("sweep", tmp_path, "--name", "other", sets=(*SMALL, *RUNS["other"]))) == 0
    assert json.loads(path.read_text()) == before


def test_delta_m_is_of_the_angle_and_beside_it_of_all_metrics(merged: Computed) -> None:
    assert merged.sweep.tasks == {
        "segmentation": "segmentation_miou",
        "depth": "depth_mae",
        "normals": "normals_mean_angle",
    }
    results = merged.sweep.results.set_index(["tasks", "lambda", "seed"])
    row, depth, normals = results.loc[[("depth+normals", 3e-2, 1), ("depth", 0.0, 1), ("normals", 0.0, 1)]].iloc
    primaries = [(depth, "test_depth_mae"), (normals, "test_normals_mean_angle")]
    assert row["test_delta_m"] == pytest.approx(
        np.mean([(one[name] - row[name]) / one[name] for one, name in primaries])
    )
    signs = {True: 1, False: -1}
    of_tasks = []
    for task, dense in (("depth", depth), ("normals", normals)):
        names = [name for name in merged.sweep.metrics if name.startswith(task)]
        assert len(names) >= 6
        gains = [
            signs[merged.sweep.metrics[name].maximize] * (row[f"test_{name}"] / dense[f"test_{name}"] - 1)
            for name in names
            if dense[f"test_{name}"]
        ]
        of_tasks.append(np.mean(gains))
    assert row["test_delta_m_all"] == pytest.approx(np.mean(of_tasks))


def test_the_corner_of_the_hypervolume_is_the_constant_predictors_delta_m(merged: Computed) -> None:
    sweep = merged.sweep
    dense = sweep.results[sweep.results["lambda"] == 0].set_index(["tasks", "seed"])
    constants = sweep.constants("test")
    blind = [
        np.mean(
            [
                1 - constants[name] / dense.loc[(task, seed), f"test_{name}"]
                for task, name in (("depth", "depth_mae"), ("normals", "normals_mean_angle"))
            ]
        )
        for seed in (0, 1)
    ]
    row = merged.volumes.set_index("tasks").loc["depth+normals"]
    assert row["reference"] == "constant predictor"
    assert row["reference_test_delta_m"] == pytest.approx(np.mean(blind))
    assert "all" not in set(merged.volumes["tasks"])


def test_the_constant_predictor_is_known_on_both_splits(storage: Path) -> None:
    sweep = load_sweep(storage / "first")
    assert set(sweep.constants("val")) == set(sweep.constants("test")) == set(sweep.metrics)
    assert sweep.constants("val") != sweep.constants("test")


def test_the_command_of_the_model_to_use_compacts_it(
    storage: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Eight images and two epochs: any model will do where the constant predictor is as bad as can be."""
    bad = {"depth_mae": 1e6, "normals_mean_angle": 180.0, "segmentation_miou": 0.0}
    folder = edit_info(copied(storage / "first", tmp_path), constant_predictor=bad, constant_predictor_val=bad)
    lines = answer(folder, str(storage / "first"))
    (line,) = [line for line in lines if line.startswith("Model to use for segmentation+depth+normals: ")]
    command = shlex.split(line.rpartition(": ")[2])
    assert command[:2] == ["parsimony", "compact"]
    trial = Path(command[2]).parent.name
    table = pd.read_parquet(folder / "results.parquet").set_index("trial_id")
    assert table.loc[trial, "tasks"] == "segmentation+depth+normals"
    assert main([*command[1:], "--out", str(tmp_path / "compact.pt")]) == 0
    assert (tmp_path / "compact.pt").is_file()


def test_that_the_validation_images_were_trained_on_is_a_caution(storage: Path, first: Path) -> None:
    assert not any("were trained on" in one for one in compute(first).cautions)
    edit_info(first, validates_on_train=True)
    found = compute([first, storage / "second"])
    assert any(one.startswith("first: the images that validate were trained on") for one in found.cautions)
