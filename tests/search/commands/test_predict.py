"""`parsimony predict`: maps at the image's own resolution, their pictures, and words for the rest."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mtl.datasets.inspect.panels import fixed_class_key
from mtl.networks.checkpoint import load_checkpoint
from mtl.networks.export import load_export
from mtl.networks.prediction import predict
from mtl.networks.prediction_pictures import map_picture
from mtl.tasks import Task
from search.cli import main
from search.commands.predict_files import probability_lines
from tests.support.checkpoints import time_nothing, write_checkpoint
from tests.support.small import TASKS

MAPS = ("segmentation", "depth", "normals")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def constant_network(images: Tensor) -> Mapping[str, Tensor]:
    """Class 2 on the left and 4 on the right, 2 m and 8 m, normals of length 5, and sure of the rest."""
    assert images.shape == (1, 3, 32, 48)
    left = torch.tensor([1.0, 1, 1, 0, 0, 0]).expand(1, 1, 4, 6)
    classes = torch.zeros(1, 6, 4, 6)
    classes[:, 2], classes[:, 4] = left, 1 - left
    normals = torch.zeros(1, 3, 4, 6)
    normals[:, 0], normals[:, 2] = 3, 4
    light = torch.tensor([[0.1, 0.2, 0.7]]).log()
    male = torch.logit(torch.tensor([[0.9]]))
    return {
        "segmentation": classes,
        "depth": 8 - 6 * left,
        "normals": normals,
        "light": light,
        "male": male,
    }


def test_predictions_of_a_known_network() -> None:
    result = predict(constant_network, TASKS, np.zeros((50, 71, 3), np.uint8), (32, 48))
    segmentation, depth, normals = (result.maps[name] for name in MAPS)
    assert (segmentation.dtype, segmentation.shape) == (np.uint8, (50, 71))
    assert (segmentation[:, :35] == 2).all()
    assert (segmentation[:, 36:] == 4).all()
    assert (depth[:, 0] == 2).all()
    assert (depth[:, -1] == 8).all()
    assert (np.diff(depth, axis=1) >= 0).all()
    np.testing.assert_allclose(normals, np.broadcast_to([0.6, 0, 0.8], (50, 71, 3)), atol=1e-6)
    assert result.probabilities["light"] == pytest.approx({"dark": 0.1, "dim": 0.2, "bright": 0.7})
    assert result.probabilities["male"] == pytest.approx({"yes": 0.9})
    assert probability_lines(result) == ["light: bright 70.0 %, dim 20.0 %, dark 10.0 %", "male: yes 90.0 %"]


def test_a_class_has_the_same_colour_on_every_picture() -> None:
    task = Task("segmentation", "segmentation", tuple(f"c{k}" for k in range(60)))
    key = fixed_class_key(task)
    one, other = np.full((30, 200), 41, np.uint8), np.zeros((30, 200), np.uint8)
    other[:, 100:] = 41
    pictures = [map_picture(task, x, "m") for x in (one, other)]
    assert (pictures[0][:30] == key.colors[41]).all()
    assert (pictures[1][:30, 100:] == key.colors[41]).all()
    assert (pictures[1][:30, :100] == key.colors[0]).all()


def test_the_map_is_pixel_for_pixel_above_its_key_and_depth_has_one_key_a_picture() -> None:
    depth = np.geomspace(0.5, 8, 300, dtype=np.float32)[None].repeat(20, 0)
    depth[0, 0] = -3  # what a network may say
    picture = map_picture(Task("depth", "depth"), depth, "m")
    assert picture.shape[1] == 300
    assert picture.shape[0] > 20
    assert (picture[1:20] == picture[1]).all()
    brightness = picture[1].astype(int).sum(axis=1)
    assert brightness[-1] > brightness[0]
    tiny = map_picture(Task("normals", "normals"), np.broadcast_to([0, 0, 1.0], (5, 7, 3)).astype(np.float32), "m")
    assert (tiny[:5, :7] == [128, 128, 255]).all()
    assert (tiny[:5, 7:] == 255).all()


def test_round_trip_from_a_checkpoint_over_its_compact_form_to_the_same_pictures(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_checkpoint(tmp_path / "trial")
    time_nothing(monkeypatch)
    assert main(["compact", str(folder)]) == 0
    capsys.readouterr()
    pictures, words = {}, {}
    for name in ("model.pt", "compact.pt"):
        out = tmp_path / name
        assert main(["predict", str(folder / name), str(image), "--out", str(out)]) == 0
        lines = capsys.readouterr().out.splitlines()
        files = [f"photo-{task}.png" for task in (*MAPS, "attributes")]
        assert lines[:4] == [str(out / file) for file in files]
        words[name] = lines[4:]
        assert {path.name for path in out.iterdir()} == set(files)
        pictures[name] = {task: np.asarray(Image.open(out / f"photo-{task}.png")).astype(int) for task in MAPS}
    assert [line.split(": ")[1] for line in words["model.pt"]] == ["light", "male"]
    assert words["model.pt"] == words["compact.pt"]
    for task in MAPS:
        one, other = (pictures[name][task] for name in pictures)
        assert one.shape == other.shape
        assert one.shape[0] > 50
        # Some pixel may lie on the border between two colours, where rounding decides.
        assert (np.abs(one - other).max(axis=2) > 2).mean() < 0.01


def test_images_of_one_name_do_not_overwrite_each_other(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_checkpoint(tmp_path / "trial", tasks=("depth",))
    (tmp_path / "b").mkdir()
    other = tmp_path / "b" / "photo.jpg"
    Image.new("RGB", (30, 40)).save(other)
    assert main(["predict", str(folder), str(image), str(other)]) == 0
    written = tmp_path / "predictions"
    assert {path.name for path in written.iterdir()} == {"photo-1-depth.png", "photo-2-depth.png"}


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["predict", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_bad_input(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_checkpoint(tmp_path / "trial", tasks=("depth",))
    (tmp_path / "text.png").write_text("no image")
    Image.new("F", (4, 4)).save(tmp_path / "deep.tiff")
    line = refused([str(folder), str(image), "text.png", "deep.tiff", "nowhere.png"], capsys)
    for name in ("text.png: cannot be read", "deep.tiff: holds float32", "nowhere.png: cannot be read"):
        assert name in line
    assert "nothing.pt: no such file" in refused(["nothing.pt", str(image)], capsys)
    (tmp_path / "text.onnx").write_text("no model")
    assert "text.onnx: cannot be read as ONNX" in refused(["text.onnx", str(image)], capsys)
    assert "cannot be written" in refused([str(folder), str(image), "--out", str(image)], capsys)
    assert not (tmp_path / "predictions").exists()


def test_an_onnx_file_of_another_kind(tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:])
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "relu.onnx")
    assert "an ONNX file of another kind" in refused([str(tmp_path / "relu.onnx"), str(image)], capsys)


def test_an_onnx_file_predicts_as_its_model_does(tmp_path: Path, image: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = write_checkpoint(tmp_path / "trial", tasks=("male",))
    assert main(["compact", str(folder), "--export", "onnx"]) == 0
    pixels = np.asarray(Image.open(image))
    assert main(["predict", str(folder / "compact.onnx"), str(image)]) == 0
    network, _ = load_export(folder / "compact.onnx")
    tasks = [TASKS[-1]]
    shares = [
        predict(n, tasks, pixels, (32, 48)).probabilities for n in (network, load_checkpoint(folder / "model.pt").model)
    ]
    assert shares[0]["male"] == pytest.approx(shares[1]["male"], abs=1e-5)
