"""`parsimony compact`: equal outputs, one line for bad input, and files that appear together or not at all."""

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mtl.compaction import certify
from mtl.networks.backbones import DilatedResNet
from mtl.networks.checkpoint import load_checkpoint
from mtl.networks.export import load_export
from mtl.vocabulary import units
from search.cli import main
from search.commands import compact as compact_command
from tests.support.checkpoints import time_nothing, write_checkpoint
from tests.support.small import TASKS, arrays

DENSE = ("segmentation", "depth", "normals")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    time_nothing(monkeypatch)


def refused(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    """The last of the lines on standard error, where a command ends without a result."""
    assert main(["compact", *words]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.splitlines()[-1]
    assert line.startswith("parsimony: ")
    return line


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_outputs_are_equal_and_the_table_is_that_of_both_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact_command, "trial_data", lambda config, data: (TASKS, arrays()))
    folder = write_checkpoint(tmp_path / "trial")
    before = (folder / "model.pt").read_bytes()
    assert main(["compact", str(folder)]) == 0
    captured = capsys.readouterr()
    assert "outputs equal on 8 images" in captured.err  # as many as the validation split has
    assert names(folder) == {"model.pt", "compact.pt"}
    assert (folder / "model.pt").read_bytes() == before
    dense, small = load_checkpoint(folder / "model.pt"), load_checkpoint(folder / "compact.pt")
    assert (dense.compact, small.compact) == (False, True)
    assert (small.config, small.tasks) == (dense.config, dense.tasks)
    certify(dense.model, small.model, [torch.randn(3, 3, 32, 48), torch.randn(1, 3, 48, 40)], 1e-5)
    rows = [re.split(r"\s{2,}", line) for line in captured.out.splitlines()]
    cells = {name: [value.replace(",", "") for value in values] for name, *values in rows}
    counts = [sum(p.numel() for p in checkpoint.model.parameters()) for checkpoint in (dense, small)]
    assert cells["parameters"][:2] == [units.number(count) for count in counts]
    assert counts[1] < counts[0]
    sizes = [units.byte_size((folder / name).stat().st_size) for name in ("model.pt", "compact.pt")]
    assert cells["file"][:2] == sizes
    for row in ("peak memory, batch 1", "peak memory, batch 8"):
        assert float(cells[row][2].removesuffix(" ×")) > 1
    assert "latency on cpu, 1 threads" in captured.out


def test_without_the_data_random_images_and_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_checkpoint(tmp_path / "trial", tasks=DENSE)
    out = tmp_path / "elsewhere" / "small.pt"
    assert main(["compact", str(folder / "model.pt"), "--out", str(out)]) == 0
    assert "random images, as there are none of the trial's own: dataset rooms" in capsys.readouterr().err
    assert names(folder) == {"model.pt"}
    assert names(out.parent) == {"small.pt"}
    line = refused([str(folder), "--data", str(tmp_path)], capsys)
    assert "--data" in line


def test_exports_compute_the_same_for_batches_of_any_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    folder = write_checkpoint(tmp_path / "trial", tasks=("segmentation", "male"))
    assert main(["compact", str(folder), "--export", "onnx,torch"]) == 0
    assert names(folder) == {"model.pt", "compact.pt", "compact.onnx", "compact.pt2"}
    model = load_checkpoint(folder / "model.pt").model
    exported, about = load_export(folder / "compact.onnx")
    assert about["config"]["tasks"] == ["segmentation", "male"]
    program = torch.export.load(folder / "compact.pt2").module()
    for count in (1, 3, 8):
        images = torch.randn(count, 3, 32, 48)
        with torch.no_grad():
            expected = model(images)
        for outputs in (exported(images), program(images)):
            assert set(outputs) == {"segmentation", "male"}
            for name, value in expected.items():
                np.testing.assert_allclose(
                    outputs[name].detach().numpy(), value.numpy(), atol=1e-4 * float(value.abs().max())
                )


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("unpickled"),)


def test_bad_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_checkpoint(tmp_path / "trial", tasks=("depth",))
    good = torch.load(folder / "model.pt", weights_only=True)

    def line(name: str, content: object) -> str:
        torch.save(content, tmp_path / name)
        return refused([name], capsys)

    assert "nowhere.pt: no such file; allowed" in refused(["nowhere.pt"], capsys)
    assert "a folder without model.pt" in refused(["."], capsys)
    (tmp_path / "text.pt").write_text("no checkpoint at all")
    assert "text.pt: cannot be read with weights_only=True" in refused(["text.pt"], capsys)
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Payload()))
    assert "pickle.pt: cannot be read" in refused(["pickle.pt"], capsys)
    assert "pickled.pt: cannot be read" in line("pickled.pt", {"config": Payload()})
    assert "module.pt: cannot be read" in line("module.pt", nn.Linear(2, 2))
    assert not (tmp_path / "unpickled").exists()
    assert "bare.pt: holds a.weight" in line("bare.pt", {"a.weight": torch.zeros(2)})
    assert "list.pt: holds list" in line("list.pt", [1, 2])
    other = good["config"] | {"backbone_width": 16}
    assert "conv1.weight has shape (8, 3, 7, 7), not (16, 3, 7, 7)" in line("other.pt", good | {"config": other})
    del other["epochs"]
    assert "config has a epochs" in line("config.pt", good | {"config": other})
    assert "tasks = [['depth', 'sound', []]]" in line("tasks.pt", good | {"tasks": [["depth", "sound", []]]})
    fewer = {name: value for name, value in good["model"].items() if name != "backbone.bn1.bias"}
    assert "backbone.bn1.bias is missing" in line("fewer.pt", good | {"model": fewer})
    assert not list(tmp_path.rglob("compact.pt"))
    assert not list(tmp_path.rglob(".*"))


def test_bad_options(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_checkpoint(tmp_path / "trial", tasks=("depth",))
    assert "--export jpeg; allowed: torch, onnx" in refused([str(folder), "--export", "jpeg"], capsys)
    assert "is the checkpoint itself" in refused([str(folder), "--out", str(folder / "model.pt")], capsys)
    assert "ends as an export does" in refused([str(folder), "--out", "x.onnx"], capsys)
    assert "cannot be written" in refused([str(folder), "--out", str(folder / "model.pt" / "x.pt")], capsys)
    assert "--device" in refused([str(folder), "--device", "tpu"], capsys)
    assert "--threads 0; allowed: 1 or more" in refused([str(folder), "--threads", "0"], capsys)
    if not torch.cuda.is_available():
        assert "no GPU; allowed: cpu" in refused([str(folder), "--device", "cuda"], capsys)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = refused([str(folder), "--export", "onnx"], capsys)
    assert "onnx, onnxruntime, onnxscript is not installed" in line
    assert "parsimony-mtl[export]" in line
    assert names(folder) == {"model.pt"}


def test_an_operation_that_cannot_be_traced_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path / "trial", tasks=("depth",))
    forward = DilatedResNet.forward
    monkeypatch.setattr(DilatedResNet, "forward", lambda self, x: torch.sinc(forward(self, x)))
    line = refused([str(folder)], capsys)
    assert str(folder / "model.pt") in line
    assert "sinc" in line
    assert names(folder) == {"model.pt"}


def test_nothing_is_written_where_outputs_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_checkpoint(tmp_path / "trial", tasks=("depth",))
    original = compact_command.compact

    def wrong(model: nn.Module, images: torch.Tensor) -> nn.Module:
        compacted = original(model, images)
        with torch.no_grad():
            next(compacted.parameters()).mul_(1.001)
        return compacted

    monkeypatch.setattr(compact_command, "compact", wrong)
    assert "depth differs by" in refused([str(folder)], capsys, code=1)
    monkeypatch.setattr(compact_command, "compact", original)
    monkeypatch.setattr(compact_command, "EXPORT_TOLERANCE", -1.0)
    assert "differs by" in refused([str(folder), "--export", "torch"], capsys, code=1)
    assert names(folder) == {"model.pt"}


def test_a_compact_model_is_not_compacted_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_checkpoint(tmp_path / "trial", tasks=("depth",))
    assert main(["compact", str(folder)]) == 0
    capsys.readouterr()
    assert "compact already" in refused([str(folder / "compact.pt")], capsys)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_dense_and_empty_backbones(share: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_checkpoint(tmp_path / "trial", share, tasks=("depth",))
    assert main(["compact", str(folder)]) == 0
    dense, small = load_checkpoint(folder / "model.pt"), load_checkpoint(folder / "compact.pt")
    certify(dense.model, small.model, [torch.randn(2, 3, 32, 48)], 1e-5)
