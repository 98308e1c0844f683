"""Files of models whose parts do not fit each other, or that ask for more than to be read: one line, nothing run."""

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mtl.compaction import compact, load_compact, save_compact
from mtl.networks.checkpoint import about_trial, load_checkpoint
from mtl.networks.export import write_export
from search.cli import main
from search.commands.compact import _images
from tests.support.checkpoints import sparse_model
from tests.support.commands import refused
from tests.support.small import TASKS, config

onnx = pytest.importorskip("onnx")
TASK = next(task for task in TASKS if task.name == "segmentation")


def predicted(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The line with which `predict` refuses a model, before it writes anything."""
    Image.new("RGB", (20, 20)).save("photo.png")
    line = refused(["predict", name, "photo.png"], capsys)
    assert not Path("predictions").exists()
    return line


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trial's model.pt, and its compact.pt, compact.onnx and compact.pt2."""
    folder = tmp_path_factory.mktemp("files")
    settings = config(tasks=("segmentation",), backbone_width=2, head_channels=2, head_rates=(2,), image_size=(16, 16))
    model = sparse_model(settings, [TASK], 0.5, 0)
    about = about_trial(settings, [TASK])
    torch.save({**about, "model": model.state_dict()}, folder / "model.pt")
    images = torch.zeros(2, 3, 16, 16)
    small = compact(model, images, selections="always", memory_format="contiguous")
    save_compact(folder / "compact.pt", small, about)
    write_export("onnx", small, images, folder / "compact.onnx", about)
    write_export("torch", small, images, folder / "compact.pt2", about)
    return folder


@pytest.mark.parametrize(
    ("tasks", "named"),
    [
        ([["../../harm", "segmentation", list("abcdef")]], "tasks = "),
        ([["a.b", "segmentation", list("abcdef")]], "tasks = "),
        ([["segmentation", "segmentation", ["a", 3]]], "tasks = "),
        ([["segmentation", "segmentation", ["a", "b\nc"]]], "tasks = "),
        ([["segmentation", "segmentation", list("ab") * 10**5]], "tasks = "),
        ([["segmentation", "segmentation", []]], "tasks = "),
        ([["segmentation", ["segmentation"], list("abcdef")]], "tasks = "),
        ([["segmentation", "segmentation", list("abcdef")]] * 2, "tasks = "),
        ([["depth", "depth", []]], "allowed: ['segmentation'], as its config says"),
        ([["segmentation", "segmentation", list("abcdefg")]], "allowed: "),
        ([["segmentation", "classification", list("abcdef")]], "allowed: "),
        ("segmentation", "tasks = "),
        (None, "tasks = "),
    ],
)
@pytest.mark.parametrize("name", ["model.pt", "compact.pt"])
def test_tasks(name: str, tasks: Any, named: str, files: Path, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = torch.load(files / name, weights_only=True)
    (content["about"] if name == "compact.pt" else content)["tasks"] = tasks
    torch.save(content, name)
    assert named in predicted(name, capsys)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"image_size": [10**6, 10**6]}, "image_size"),
        ({"image_size": [16000, 16000]}, "numbers at once"),
        ({"head_rates": [2, 10**9]}, "head_rates"),
        ({"backbone_layers": [10**9, 1, 1, 1]}, ""),
        ({"head_rates": [2] * 10**5}, "head_rates"),
        ({"backbone_width": 10**12}, ""),
        ({"a\nb": 1}, "a\\nb"),
        ({3: 1}, "config"),
    ],
)
def test_configs(
    fields: dict[Any, Any], named: str, files: Path, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(files / "model.pt", weights_only=True)
    content["config"] |= fields
    torch.save(content, "model.pt")
    assert named in predicted("model.pt", capsys)


def test_what_the_weights_make_of_an_image_must_be_numbers(
    files: Path, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(files / "model.pt", weights_only=True)
    content["model"]["heads.segmentation.4.weight"][:] = 3e38
    torch.save(content, "model.pt")
    assert "its segmentation of an image is not finite" in predicted("model.pt", capsys)
    assert main(["compact", "model.pt"]) == 2
    assert "segmentation is" in capsys.readouterr().err.splitlines()[-1]
    assert not Path("compact.pt").exists()


def test_an_archive_that_unpacks_to_more_than_itself(
    files: Path, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        zipfile.ZipFile(files / "model.pt") as whole,
        zipfile.ZipFile("model.pt", "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for entry in whole.infolist():
            archive.writestr(entry.filename, whole.read(entry))
        archive.writestr("model/data/bomb", bytes(10**7))
    assert "model.pt: cannot be read with weights_only=True (BadZipFile)" in predicted("model.pt", capsys)


def test_compact_runs_a_dataset_of_ones_own_only_where_data_are_named(
    files: Path, empty: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("own_code.py").write_text("import pathlib\npathlib.Path('harm').touch()\n")
    monkeypatch.syspath_prepend(str(empty))
    content = torch.load(files / "model.pt", weights_only=True)
    content["config"]["dataset"] = "own_code:Data"
    torch.save(content, "model.pt")
    assert _images(load_checkpoint(Path("model.pt")), None).shape == (16, 3, 16, 16)
    assert "random images" in capsys.readouterr().err
    assert not Path("harm").exists()
    assert "own_code" not in sys.modules
    assert main(["compact", "model.pt", "--data", "."]) == 2
    assert "own_code" in sys.modules
    del sys.modules["own_code"]


def metadata(text: str) -> Callable[[Any], None]:
    return lambda model: setattr(model.metadata_props[-1], "value", text)


def about(**parts: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == "parsimony")
        entry.value = json.dumps({**json.loads(entry.value), **parts})

    return change


def external(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def own_operation(model: Any) -> None:
    model.opset_import.add(domain="own", version=1)
    model.graph.node[0].domain = "own"


def loop(model: Any) -> None:
    body = onnx.helper.make_graph([], "body", [], [])
    model.graph.node.append(onnx.helper.make_node("Loop", ["", ""], ["y"], body=body))


def renamed_output(model: Any) -> None:
    model.graph.output[0].name = model.graph.node[-1].output[0] = "depth"


def renamed_input(model: Any) -> None:
    model.graph.input[0].name = "x"
    for node in model.graph.node:
        node.input[:] = ["x" if name == "images" else name for name in node.input]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (metadata("{"), "damaged"),
        (metadata("[1]"), "damaged"),
        (metadata("[" * 10**5), "damaged"),
        (lambda model: model.metadata_props.pop(), "another kind"),
        (about(tasks=[["segmentation", "segmentation", ["a"]]]), "shape (1, 6,"),
        (about(tasks=[["../harm", "segmentation", ["a"]]]), "tasks = "),
        (about(config={}), "config"),
        (external, "weights in another file"),
        (own_operation, "operations of its own"),
        (loop, "'Loop' that runs others"),
        (renamed_output, "gives 'depth'"),
        (renamed_input, "cannot be run"),
    ],
)
def test_onnx(
    change: Callable[[Any], None], named: str, files: Path, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(files / "compact.onnx")
    while model.metadata_props[-1].key != "parsimony":
        model.metadata_props.insert(0, model.metadata_props.pop())
    change(model)
    Path("bad.onnx").write_bytes(model.SerializeToString())
    assert named in predicted("bad.onnx", capsys)


def test_good_files_are_read(files: Path, empty: Path) -> None:
    Image.new("RGB", (20, 20)).save("photo.png")
    for name in ("model.pt", "compact.pt", "compact.onnx"):
        assert main(["predict", str(files / name), "photo.png"]) == 0
    before, after = load_checkpoint(files / "model.pt").model, load_compact(files / "compact.pt")[0]
    x = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(before(x), dict(after(x)))
