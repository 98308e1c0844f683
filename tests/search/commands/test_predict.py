"""`parsimony predict`: maps at the image's own resolution, their pictures, and words for the rest."""

import importlib.util
import json
from collections.abc import Mapping
from fractions import Fraction
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
from mtl.networks.video import VideoWriter, read_frames
from mtl.tasks import Task
from search.cli import main
from search.commands.predict_files import probability_lines
from search.commands.predict_inputs import distinct
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
    assert main(["predict", str(folder / "compact.onnx"), str(image), "--out", str(tmp_path / "out")]) == 0
    network, _ = load_export(folder / "compact.onnx")
    tasks = [TASKS[-1]]
    shares = [
        predict(n, tasks, pixels, (32, 48)).probabilities for n in (network, load_checkpoint(folder / "model.pt").model)
    ]
    assert shares[0]["male"] == pytest.approx(shares[1]["male"], abs=1e-5)


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_checkpoint(tmp_path / "trial", tasks=("segmentation", "depth", "male"))


def test_a_folder_is_done_but_for_what_cannot_be_read(
    trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("b.png", "a.png", "A.jpg", "c.bmp"):
        Image.new("RGB", (9, 7), (90, 20, 30)).save(photos / name)
    (photos / "broken.jpg").write_bytes((photos / "A.jpg").read_bytes()[:300])
    (photos / "notes.txt").write_text("no photo")
    (photos / ".hidden.jpg").write_text("no photo")
    assert main(["predict", str(trial), str(photos), "--out", "out", "--batch-size", "2", "--raw", "--overlay"]) == 1
    captured = capsys.readouterr()
    kinds = ("attributes.png", "depth.png", "segmentation-overlay.png", "segmentation.png")
    stems = ("A-1", "a-2", "b", "c")
    expected = {f"{stem}-{kind}" for stem in stems for kind in kinds} | {f"{stem}.npz" for stem in stems}
    assert {path.name for path in Path("out").iterdir()} == expected
    named, passed_over, summary, failed = captured.err.splitlines()
    assert named.startswith(f"parsimony: file {photos / 'broken.jpg'}: cannot be read as an image")
    assert passed_over.startswith("1 file passed over in folders")
    assert summary.startswith("all but 1 of 5 photos: 8 maps, 4 overlays, 4 attribute pictures, 4 array files in out, ")
    assert failed == "parsimony: 1 of 5 photos could not be done; each is named above"
    assert [line for line in captured.out.splitlines() if ": male: " in line] != []


def test_photos_in_batches_are_as_photos_alone(trial: Path, image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (31, 90, 3), dtype=np.uint8)).save(other)
    assert main(["predict", str(trial), str(other), "--raw", "--out", "alone"]) == 0
    assert main(["predict", str(trial), str(image), str(other), str(image), "--raw", "--out", "batch"]) == 0
    alone, batch = (np.load(f"{folder}/other.npz", allow_pickle=False) for folder in ("alone", "batch"))
    assert alone["depth"].shape == (31, 90)
    np.testing.assert_allclose(alone["depth"], batch["depth"], atol=1e-5)
    assert (alone["segmentation"] == batch["segmentation"]).mean() > 0.999


def test_names_are_distinct() -> None:
    assert distinct(["a", "b", "A", "a-1", "c"]) == ["a-2", "b", "A-3", "a-1", "c"]


def test_a_video_has_one_key_and_a_table(trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    rate = Fraction(24)
    with VideoWriter(tmp_path / "walk.mp4", rate) as writer:
        for number in range(40):
            writer.add(np.full((30, 50, 3), 5 * number, np.uint8), number / rate)
    words = ["predict", str(trial), str(tmp_path / "walk.mp4"), "--out", "out", "--overlay", "--raw"]
    assert main(words) == 0
    names = {"walk-segmentation.mp4", "walk-segmentation-overlay.mp4", "walk-depth.mp4", "walk-attributes.csv"}
    assert {path.name for path in Path("out").iterdir()} == {*names, "walk-raw"}
    captured = capsys.readouterr()
    assert set(captured.out.splitlines()) == {f"out/{name}" for name in names}
    assert captured.err.startswith("1 video: 40 array files, 2 map videos, 1 overlay video, 1 table in out, ")
    for name in names - {"walk-attributes.csv"}:
        frames = list(read_frames(Path("out") / name))
        assert [frame.at * rate for frame in frames] == list(range(40))
        first, last = (frames[k].pixels.astype(int) for k in (0, -1))
        assert np.abs(first[32:] - last[32:]).mean() < 3  # the key below the map stays
    header, *rows = (Path("out") / "walk-attributes.csv").read_text().splitlines()
    assert header == "frame,seconds,male"
    assert [row.split(",")[0] for row in rows] == [str(number) for number in range(1, 41)]
    with np.load("out/walk-raw/000040.npz", allow_pickle=False) as arrays:
        about = json.loads(arrays["about.json"])
        assert (about["video"], about["frame"], about["seconds"]) == ("walk.mp4", 40, 39 / 24)
        assert float(arrays["male"]) == pytest.approx(float(rows[-1].split(",")[2]), abs=1e-5)


def test_a_damaged_video_leaves_nothing(trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    noise = np.random.default_rng(0)
    with VideoWriter(tmp_path / "walk.mp4", Fraction(24)) as writer:
        for number in range(60):
            writer.add(noise.integers(0, 256, (64, 64, 3), dtype=np.uint8), Fraction(number, 24))
    content = bytearray((tmp_path / "walk.mp4").read_bytes())
    (tmp_path / "text.mp4").write_text("no video")
    assert "text.mp4: cannot be read as a video" in refused([str(trial), "text.mp4"], capsys)
    assert "nowhere.mp4: is no file" in refused([str(trial), "nowhere.mp4"], capsys)
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    (tmp_path / "hurt.mp4").write_bytes(content)
    status = main(["predict", str(trial), "hurt.mp4", "--out", "out"])
    if status:  # not every decoder minds
        assert status == 1
        assert "hurt.mp4: cannot be read as a video" in capsys.readouterr().err
        assert not Path("out").exists() or list(Path("out").iterdir()) == []


def test_without_pyav_a_video_says_what_to_install(
    trial: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "av" else find(name))
    Path("walk.mp4").write_bytes(b"")
    assert "allowed: after pip install 'parsimony-mtl[video]'" in refused([str(trial), "walk.mp4"], capsys)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--strength", "0.5"], "allowed: together with --overlay"),
        (["--overlay", "--strength", "1.5"], "--strength 1.5; allowed: 0 (the photo alone) to 1"),
        (["--batch-size", "0"], "--batch-size 0; allowed: 1 to 1,024"),
        (["--device", "tpu"], "allowed: auto, cpu, cuda"),
    ],
)
def test_options(words: list[str], named: str, trial: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert named in refused([str(trial), str(image), *words], capsys)
    assert not Path("predictions").exists()


def test_inputs_that_cannot_be_done(
    tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    depth = write_checkpoint(tmp_path / "depth", tasks=("depth",))
    (tmp_path / "nothing").mkdir()
    assert "folder nothing: has no photos; allowed: files whose names end in .avif" in refused(
        [str(depth), "nothing"], capsys
    )
    assert "has no segmentation but depth; allowed: a model that has one" in refused(
        [str(depth), str(image), "--overlay"], capsys
    )
