"""torch.export programs read without unpickling: the same outputs as torch's own reader, and no code of the file."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mtl.compaction import compact
from mtl.errors import BadInput
from mtl.networks.checkpoint import about_trial, read_about
from mtl.networks.export import write_export
from mtl.networks.model import build_model
from mtl.networks.program_file import Program
from search.cli import main
from tests.support.checkpoints import sparse_model
from tests.support.commands import refused
from tests.support.small import TASKS, config

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
SMALL: dict[str, Any] = {"backbone_width": 2, "head_channels": 2, "head_rates": (2,), "image_size": (16, 16)}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The .pt2 of a compact model with maps and classes."""
    settings = config(tasks=("segmentation", "male"), **SMALL)
    tasks = [task for task in TASKS if task.name in settings.tasks]
    images = torch.zeros(2, 3, 16, 16)
    small = compact(sparse_model(settings, tasks, 0.5, 0), images, selections="always")
    path = tmp_path_factory.mktemp("program") / "compact.pt2"
    write_export("torch", small, images, path, about_trial(settings, tasks))
    return path


def changed(program: Path, target: Path, edits: dict[str, Callable[[Any], Any] | bytes]) -> Path:
    """A copy of the archive with some of its parts edited: JSON by a function, or bytes in its place."""
    with zipfile.ZipFile(program) as whole, zipfile.ZipFile(target, "w") as archive:
        for entry in whole.infolist():
            content = whole.read(entry)
            for ending, edit in edits.items():
                if entry.filename.endswith(ending):
                    content = edit if isinstance(edit, bytes) else json.dumps(edit(json.loads(content))).encode()
            archive.writestr(entry.filename, content)
        archive.writestr("padding", bytes(10**5))  # the archive may not be smaller than what is in it
    return target


def first_node(**fields: Any) -> Callable[[Any], Any]:
    def edit(content: Any) -> Any:
        content["graph_module"]["graph"]["nodes"][0] |= fields
        return content

    return edit


def test_the_outputs_are_those_of_torchs_reader_for_batches_of_any_size(program: Path) -> None:
    ours = Program(program)
    theirs = torch.export.load(program).module()
    for count in (1, 5):
        images = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            found, expected = ours(images), theirs(images)
        assert list(found) == list(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    settings, tasks = read_about("program", ours.about)
    assert (settings.image_size, [task.name for task in tasks]) == ((16, 16), ["segmentation", "male"])
    assert ours.about["images"]["mean"] == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_tiny_patch16_224", {"patch_size": 8, "depth": 1, "embed_dim": 48, "num_heads": 3}),
        ("convnext_tiny", {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}),
        ("mobilenetv3_small_050", {}),
    ],
)
def test_networks_of_other_operations(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("timm")
    own = {"backbone": f"timm:{name}", "backbone_options": options, "backbone_width": 64, "backbone_layers": None}
    settings = config(**own, tasks=("depth",), image_size=(32, 32))
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    small = compact(build_model(settings, TASKS[1:2]).eval(), images)
    write_export("torch", small, images, tmp_path / "x.pt2", {})
    with torch.no_grad():
        torch.testing.assert_close(Program(tmp_path / "x.pt2")(images)["depth"], small(images)["depth"])


@pytest.mark.parametrize(
    ("edits", "named"),
    [
        ({MODEL: first_node(target="torch.ops.aten.from_file.default")}, "torch.ops.aten.from_file.default"),
        ({MODEL: first_node(target="os.system")}, "an operation 'os.system', which is not run"),
        ({MODEL: first_node(target="torch.ops.aten.conv2d.__class__")}, "which this torch does not have"),
        ({MODEL: first_node(inputs=[{"name": "input", "arg": {"as_graph": {}}, "kind": 1}])}, "has an argument"),
        ({MODEL: first_node(inputs=[{"name": "input", "arg": {"as_int": 10**12}, "kind": 1}])}, "has a number"),
        ({MODEL: first_node(inputs=[])}, "cannot be run"),
        ({MODEL: lambda content: []}, "cannot be read as a torch.export program"),
        ({WEIGHTS: lambda content: {"config": {}}}, "cannot be read as a torch.export program (KeyError"),
        ({"extra/parsimony": lambda about: "no"}, "what it says about itself is damaged"),
        ({"extra/parsimony": lambda about: {}}, "config"),
        ({"weight_0": b"1234"}, "cannot be read as a torch.export program (RuntimeError"),
        ({"weight_0": b"\xff" * 10**4}, "holds numbers that are not finite"),
    ],
)
def test_what_is_refused(
    edits: dict[str, Any], named: str, program: Path, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (empty / "photo.ppm").write_bytes(b"P6 2 2 255 " + bytes(12))
    changed(program, Path("bad.pt2"), edits)
    assert named in refused(["predict", "bad.pt2", "photo.ppm"], capsys)
    assert not Path("predictions").exists()


def test_nothing_of_a_file_is_unpickled(program: Path, tmp_path: Path) -> None:
    """Example inputs and tensors that only an unpickler could read: the first are not needed, the second refused."""
    harm = b"cpathlib\nPath\n(Vharm\ntR."

    def as_pickle(content: Any) -> Any:
        for entry in content["config"].values():
            entry["use_pickle"] = True
        return content

    images = torch.zeros(1, 3, 16, 16)
    read = Program(changed(program, tmp_path / "inputs.pt2", {"sample_inputs/model.pt": harm}))
    with torch.no_grad():
        assert torch.equal(read(images)["male"], Program(program)(images)["male"])
    with pytest.raises(BadInput, match="would have to be unpickled"):
        Program(changed(program, tmp_path / "weights.pt2", {WEIGHTS: as_pickle, "weight_0": harm}))


def test_a_program_of_others_does_not_say_what_its_tasks_are(tmp_path: Path) -> None:
    exported = torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(exported, tmp_path / "linear.pt2")
    with pytest.raises(BadInput, match=r"linear.pt2: is a torch.export program that does not say what its tasks are"):
        Program(tmp_path / "linear.pt2")


def test_predict_takes_it(program: Path, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (empty / "photo.ppm").write_bytes(b"P6 2 2 255 " + bytes(12))
    assert main(["predict", str(program), "photo.ppm"]) == 0
    assert Path("predictions/photo-segmentation.png").is_file()
