"""A trial of edges and a number, from its recipe to its files, its report's table and its predictions."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mtl.errors import BadInput
from mtl.networks.checkpoint import about_trial, load_checkpoint, read_about
from mtl.tasks import Task
from search.cli import main
from tests.support.in_process import words
from tests.support.small import config

TASKS = ("tasks=edges,pitch", "combinations=edges+pitch", "lambdas=0", "augmentation=flip,crop")
ROOMS = ("dataset_options.edges=true", "dataset_options.pitch=true")
Capture = pytest.CaptureFixture[str]


def test_from_a_recipe_to_a_prediction(tmp_path: Path, capsys: Capture) -> None:
    assert main(words("train", tmp_path, sets=(*TASKS, *ROOMS))) == 0
    rows = pd.read_parquet(tmp_path / "rooms" / "results.parquet")
    names = ["edges_ods_f", "edges_ap", "pitch_mae", "pitch_rmse"]
    assert rows[[f"{split}_{name}" for split in ("val", "test") for name in names]].notna().all(axis=None)
    described = json.loads((tmp_path / "rooms" / "sweep.json").read_text())
    assert described["tasks"]["edges"]["primary"] == "edges_ods_f"
    assert described["metrics"]["pitch_mae"] == {"label": "pitch MAE", "direction": "minimize", "unit": "°"}
    assert set(described["constant_predictor"]) == set(names)
    (trial,) = (tmp_path / "rooms" / "trials").iterdir()
    tasks = load_checkpoint(trial / "model.pt").tasks
    assert tasks == [Task("edges", "edges"), Task("pitch", "regression", unit="°", scale=10.0)]

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(tmp_path / "photo.png")
    capsys.readouterr()
    assert main(["predict", str(trial), str(tmp_path / "photo.png"), "--out", str(tmp_path / "out")]) == 0
    assert "pitch: " in (said := capsys.readouterr().out)
    assert said.splitlines()[-1].endswith(" °")
    with Image.open(tmp_path / "out" / "photo-edges.png") as picture:
        pixels = np.asarray(picture)[:40, :60]
    assert (pixels == pixels[..., :1]).all()  # greys


def test_tasks_that_were_not_asked_for_and_fields_out_of_range(tmp_path: Path, capsys: Capture) -> None:
    for sets, said in (
        (TASKS, "tasks: 'edges'; allowed, because dataset rooms has their labels: segmentation, depth, normals"),
        ((*TASKS, *ROOMS, "edge_weight=1"), "edge_weight = 1"),
        ((*TASKS, *ROOMS, "regression_loss=l2"), "regression_loss = l2; allowed: 'l1' or 'mse'"),
        ((*TASKS, "dataset_options.edges=3"), "rooms: edges is 3; allowed: true, false"),
    ):
        assert main(words("train", tmp_path, sets=sets)) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.splitlines()) == 1


POINTS = Task("points", "regression", values=("x", "y"), unit="px", scale=2, points=(0,))
STEREO = Task("stereo", "disparity", unit="px")


def test_a_models_file_has_all_of_a_task_and_nothing_that_cannot_be() -> None:
    settings = config(tasks=("points", "stereo"))
    about = json.loads(json.dumps(about_trial(settings, [POINTS, STEREO])))
    assert read_about("file", about)[1] == [POINTS, STEREO]
    for field, value in (
        ("scale", 0),
        ("scale", "2"),
        ("scale", float("nan")),
        ("unit", "p\nx"),
        ("values", ["x", "x"]),
        ("values", ["x", 3]),
        ("points", [1]),
        ("points", ["a"]),
    ):
        name, kind, classes, more = about["tasks"][0]
        damaged = about | {"tasks": [[name, kind, classes, more | {field: value}], about["tasks"][1]]}
        with pytest.raises(BadInput, match="file: tasks = "):
            read_about("file", damaged)
