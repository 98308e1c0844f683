"""Compact models as things to keep: files without pickled code, copies, exports, new weights, certificates."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mtl.compaction import build, certify, compact, load_compact, save_compact
from mtl.errors import BadInput, TrialFailed
from mtl.networks.model import build_model
from tests.support.compactable import randomise, zero_channels
from tests.support.small import TASKS, config

FEW = [TASKS[1], TASKS[4]]


def images(seed: int = 0, count: int = 2, height: int = 37, width: int = 50) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    model = build_model(config(backbone="resnet50", backbone_width=4), FEW)
    randomise(model, 0)
    zero_channels(model, 0.6, 2)  # a seed with which the outputs depend on the images
    return model.eval()


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_a_file_holds_the_model(model: nn.Module, tmp_path: Path, fold: bool, memory_format: str) -> None:
    small = compact(model, images(), fold=fold, selections="always", memory_format=memory_format)
    save_compact(tmp_path / "compact.pt", small, {"tasks": ["depth"], "lambda": 0.1})
    loaded, about = load_compact(tmp_path / "compact.pt")
    assert about == {"tasks": ["depth"], "lambda": 0.1}
    assert not loaded.training
    assert list(loaded.state_dict()) == list(small.state_dict())
    for x in (images(), images(1, 1, 64, 32)):
        expected = small(x)
        found = loaded(x)
        assert all(torch.equal(found[task], expected[task]) for task in expected)
    save_compact(tmp_path / "again.pt", loaded)
    assert load_compact(tmp_path / "again.pt")[0].meta["plan"] == small.meta["plan"]


def test_a_file_is_smaller_by_what_is_gone(model: nn.Module, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "model.pt")
    small = compact(model, images(), selections="always", memory_format="contiguous")
    save_compact(tmp_path / "compact.pt", small)
    weights = sum(4 * p.numel() for p in small.parameters())
    assert (tmp_path / "compact.pt").stat().st_size < weights + 100_000
    assert weights < 0.5 * (tmp_path / "model.pt").stat().st_size


def test_other_files_are_refused_in_one_line(model: nn.Module, tmp_path: Path) -> None:
    small = compact(model, images(), selections="never", memory_format="contiguous")
    save_compact(tmp_path / "good.pt", small)
    good = torch.load(tmp_path / "good.pt", weights_only=True)
    torch.save(model, tmp_path / "pickled.pt")
    torch.save(model.state_dict(), tmp_path / "state.pt")
    (tmp_path / "text.pt").write_text("hello")
    state = dict(good["state"])
    state.pop("backbone.conv1.weight")
    torch.save({**good, "state": state}, tmp_path / "lacks.pt")
    torch.save({**good, "plan": [{**step, "op": "eval"} for step in good["plan"]]}, tmp_path / "unknown.pt")
    torch.save({"compact": 1, "plan": good["plan"]}, tmp_path / "half.pt")
    for name, named in (
        ("missing", "No such file"),
        ("pickled", "weights_only=True"),
        ("state", "not a compact model"),
        ("text", "weights_only=True"),
        ("lacks", r"backbone\.conv1\.weight"),
        ("unknown", "plan of a compact model.*'eval'"),
        ("half", "has no 'state'"),
    ):
        with pytest.raises(BadInput, match=named) as error:
            load_compact(tmp_path / f"{name}.pt")
        assert "\n" not in str(error.value)


def test_copies_are_independent(model: nn.Module) -> None:
    small = compact(model, images(), selections="always", memory_format="channels_last")
    twin = copy.deepcopy(small)
    expected = small(images())
    with torch.no_grad():
        for p in small.parameters():
            p.zero_()
    found = twin(images())
    assert all(torch.equal(found[task], expected[task]) for task in expected)
    assert twin.meta["plan"] == small.meta["plan"]


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_exports_with_a_dynamic_batch(model: nn.Module, memory_format: str) -> None:
    small = compact(model, images(), selections="always", memory_format=memory_format)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(small, (images(),), dynamic_shapes=({0: batch},))
    for count in (1, 5):
        expected, found = small(images(3, count)), program.module()(images(3, count))
        for task, value in expected.items():
            torch.testing.assert_close(found[task], value)


def test_the_architecture_trains_again_from_new_weights(model: nn.Module) -> None:
    small = compact(model, images(), fold=False, selections="always", memory_format="contiguous")
    fresh = build(small.meta["plan"])
    assert {n: v.shape for n, v in fresh.state_dict().items()} == {n: v.shape for n, v in small.state_dict().items()}
    assert not torch.equal(fresh.get_parameter("backbone.conv1.weight"), small.get_parameter("backbone.conv1.weight"))
    assert any(isinstance(m, nn.BatchNorm2d) for m in fresh.modules())
    for network in (fresh, small):  # fine-tuned, too
        network.train()
        sum(output.square().mean() for output in network(images()).values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("fold", [True, False])
def test_gradients_are_those_of_the_model(model: nn.Module, fold: bool) -> None:
    """No operation in place may spoil what a derivative needs."""
    gradients = []
    for network in (model, compact(model, images(), fold=fold, selections="always", memory_format="channels_last")):
        x = images().requires_grad_()
        sum(output.square().sum() for output in network(x).values()).backward()
        gradients.append(x.grad)
    assert gradients[0].any()
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5 * float(gradients[0].abs().max()))


def test_certificate_says_how_far_apart(model: nn.Module) -> None:
    small = compact(model, images(), selections="always", memory_format="contiguous")
    certificate = certify(model, small, [images(), images(1)])
    assert certificate.images == 4
    assert set(certificate.differences) == {task.name for task in FEW}
    assert 0 <= certificate.largest <= 1e-5


def test_certificate_is_refused(model: nn.Module) -> None:
    small = compact(model, images(), selections="always", memory_format="contiguous")
    with torch.no_grad():
        small.get_parameter("heads.depth.4.bias").add_(0.1)
    with pytest.raises(TrialFailed, match="depth differs by"):
        certify(model, small, [images()])
    certify(model, small, [images()], tolerance=10.0)
    with torch.no_grad():
        small.get_parameter("heads.depth.4.bias").fill_(torch.nan)
    with pytest.raises(TrialFailed, match="depth differs by nan"):
        certify(model, small, [images()])
    with pytest.raises(TrialFailed, match="outputs are"):
        certify(model.backbone, small, [images()])
    with pytest.raises(BadInput, match="batches: none"):
        certify(model, small, [])


def test_certificate_is_relative_to_each_outputs_scale() -> None:
    class Two(nn.Module):
        def __init__(self, error: float) -> None:
            super().__init__()
            self.error = error

        def forward(self, x: Tensor) -> list[Tensor]:
            return [1000 * x + self.error, x, 0 * x]

    x = torch.tensor([[1.0, -2.0]])
    assert certify(Two(0.0), Two(1e-3), [x]).differences == pytest.approx({"0": 5e-7, "1": 0, "2": 0}, rel=0.1)
    with pytest.raises(TrialFailed, match="0 differs by 5"):
        certify(Two(0.0), Two(0.1), [x])
