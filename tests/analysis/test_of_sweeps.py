"""The analysis of what sweeps and searches really write: small ones, whose trials run in this process."""

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.compute.answer import answer
from analysis.compute.everything import Computed, compute
from analysis.read.load import load_sweep
from mtl.vocabulary.files import SWEEP
from search.cli import main
from tests.support.in_process import without_ray, words

TASKS = ("tasks=depth,normals", "combinations=all")


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sweeps of one setup, whose recipes differ in what is no part of it, and one of another."""
    storage = tmp_path_factory.mktemp("storage")
    runs = {
        "first": ("seeds=[0]",),
        "second": ("seeds=[1]", "racing=false", "early_stopping=asha", "sampler=tpe", "search_space.lr=[1e-3,1e-2]"),
        "other": ("seeds=[0]", "lr=3e-3"),
    }
    with without_ray():
        for name, sets in runs.items():
            assert main(words("sweep", storage, "--name", name, sets=(*TASKS, *sets))) == 0
    return storage


@pytest.fixture(scope="module")
def merged(storage: Path) -> Computed:
    return compute([storage / "first", storage / "second"])


def test_sweeps_of_one_setup_are_averaged_and_of_another_not(storage: Path, merged: Computed) -> None:
    assert merged.marked["seeds"].tolist() == [2] * 6
    assert set(merged.sweep.results["setup"]) == {"first"}
    three = compute([storage / "first", storage / "second", storage / "other"])
    assert three.marked.groupby("setup")["seeds"].max().to_dict() == {"first": 2, "other": 1}
    assert any("2 setups (first, other)" in sentence for sentence in three.cautions)


def test_a_sweep_of_before_there_were_setups_writes_it_as_its_command_is_given_again(storage: Path) -> None:
    path = storage / "first" / SWEEP
    before = path.read_bytes()
    old = json.loads(before)
    del old["setup"], old["constant_predictor_val"]
    path.write_text(json.dumps(old))
    with without_ray():
        assert main(words("sweep", storage, "--name", "first", sets=(*TASKS, "seeds=[0]"))) == 0
    assert json.loads(path.read_text()) == json.loads(before)


def test_delta_m_is_of_the_angle_and_beside_it_of_all_metrics(merged: Computed) -> None:
    assert merged.sweep.tasks == {"depth": "depth_mae", "normals": "normals_mean_angle"}
    results = merged.sweep.results.set_index(["tasks", "lambda", "seed"])
    row, depth, normals = results.loc[[("depth+normals", 1e-2, 1), ("depth", 0.0, 1), ("normals", 0.0, 1)]].iloc
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
    """Eight images and one epoch: any model will do where the constant predictor is as bad as can be."""
    path = storage / "first" / SWEEP
    before = path.read_text()
    bad = {"depth_mae": 1e6, "normals_mean_angle": 180.0}
    path.write_text(json.dumps(json.loads(before) | {"constant_predictor": bad, "constant_predictor_val": bad}))
    try:
        lines = answer(storage / "first")
    finally:
        path.write_text(before)
    (line,) = [line for line in lines if line.startswith("Model to use for depth+normals: ")]
    command = shlex.split(line.rpartition(": ")[2])
    assert command[:2] == ["parsimony", "compact"]
    trial = Path(command[2]).parent.name
    table = pd.read_parquet(storage / "first" / "results.parquet").set_index("trial_id")
    assert table.loc[trial, "tasks"] == "depth+normals"
    assert main([*command[1:], "--out", str(tmp_path / "compact.pt")]) == 0
    assert (tmp_path / "compact.pt").is_file()


def test_that_the_validation_images_were_trained_on_is_a_caution(storage: Path) -> None:
    path = storage / "first" / SWEEP
    before = path.read_text()
    assert json.loads(before)["validates_on_train"] is False
    path.write_text(json.dumps(json.loads(before) | {"validates_on_train": True}))
    try:
        found = compute([storage / "first", storage / "second"])
    finally:
        path.write_text(before)
    assert any(one.startswith("first: the images that validate were trained on") for one in found.cautions)
    assert not any("were trained on" in one for one in compute(storage / "first").cautions)
