"""Pretrained backbones: what is loaded, what is refused and how, and what a change of the file changes."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from mtl.config import TrialConfig
from mtl.datasets.rooms.dataset import Rooms
from mtl.errors import BadInput
from mtl.networks import pretrained
from mtl.networks.backbones import DilatedResNet
from mtl.networks.pretrained import absolute_weights, check_weights, load_weights, weights_version
from mtl.passes import Passes
from mtl.training import Training
from mtl.vocabulary.files import SWEEP
from search.cli import main
from search.engine.context import RunContext
from search.engine.trial import run_trial
from search.recipe_file import load_recipe
from search.store.results import TrialResult
from search.sweep import open_sweep
from search.sweep_file import Plan, make_sweep_file
from tests.support.checkpoints import write_checkpoint
from tests.support.in_process import PENALTY_ALONE
from tests.support.small import TASKS, arrays, config

CPU = torch.device("cpu")
State = dict[str, Any]

ON_ROOMS: dict[str, Any] = {"image_size": (32, 32), "tasks": ("depth",), "data_version": Rooms().fingerprint()}


def small_backbone(seed: int = 5) -> DilatedResNet:
    """That of `tests.support.small.config`, with running statistics that are not those of a new one."""
    torch.manual_seed(seed)
    backbone = DilatedResNet("resnet18", 8, (1, 1, 1, 1))
    backbone(torch.randn(4, 3, 32, 32))
    return backbone


def saved(path: Path, content: object) -> str:
    torch.save(content, path)
    return str(path)


def planned(weights: str, **fields: object) -> TrialConfig:
    return config(weights=weights, weights_version=weights_version(weights), **fields)


def equal_states(one: DilatedResNet, other: DilatedResNet) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_training_starts_from_the_weights_and_heads_start_as_without(tmp_path: Path) -> None:
    source = small_backbone()
    with_weights = Training(planned(saved(tmp_path / "w.pt", source.state_dict())), TASKS, arrays(), CPU)
    without = Training(config(), TASKS, arrays(), CPU)
    seen: list[State] = []

    def look(epoch: int) -> Passes[dict[str, float]]:
        seen.append(with_weights.model.state_dict())
        yield from ()
        return {}

    with_weights._train_epoch = look
    with_weights.run_epoch()
    for name, value in seen[0].items():
        expected = source.state_dict() if name.startswith("backbone.") else without.model.state_dict()
        assert torch.equal(value, expected[name.removeprefix("backbone.")]), name


@pytest.mark.parametrize("kind", ["plain", "classifier", "trial", "old"])
def test_kinds_of_files(tmp_path: Path, kind: str) -> None:
    source = small_backbone()
    content: State = dict(source.state_dict())
    if kind == "classifier":
        content |= {"fc.weight": torch.zeros(1000, 64), "fc.bias": torch.zeros(1000)}
    elif kind == "trial":
        heads = {"heads.depth.bias": torch.ones(1)}
        content = {"config": {}, "tasks": [], "model": {f"backbone.{n}": v for n, v in content.items()} | heads}
    elif kind == "old":  # from before batch norm counted batches, as torchvision's first files are
        content = {name: value for name, value in content.items() if not name.endswith("num_batches_tracked")}
        for module in source.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.num_batches_tracked.zero_()
    chosen = planned(saved(tmp_path / "w.pt", content))
    check_weights(chosen)
    backbone = DilatedResNet("resnet18", 8, (1, 1, 1, 1))
    load_weights(backbone, chosen)
    assert equal_states(backbone, source)


def test_a_trials_own_model_is_a_start_for_another(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "trial") / "model.pt"
    backbone = DilatedResNet("resnet18", 8, (1, 1, 1, 1))
    load_weights(backbone, planned(str(path)))
    model = torch.load(path, weights_only=True)["model"]
    assert all(torch.equal(value, model[f"backbone.{name}"]) for name, value in backbone.state_dict().items())


def context(storage: Path) -> RunContext:
    return RunContext(str(storage), "sweep", None, threads=1, gpus=0, checkpoint_seconds=1e9)


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("layer1.0.conv1.weight"), ["layer1.0.conv1.weight is missing", "backbone = resnet18"]),
        (without("bn1.running_mean"), ["bn1.running_mean is missing", "backbone_width = 8"]),
        (lambda s: s | {"layer9.weight": torch.zeros(2, 3)}, ["layer9.weight is not a tensor of the backbone"]),
        (lambda s: s | {"fc.other": torch.zeros(2)}, ["fc.other"]),
        (lambda s: s | {"conv1.weight": torch.zeros(9, 3, 7, 7)}, ["(9, 3, 7, 7), not (8, 3, 7, 7)", "[1, 1, 1, 1]"]),
        (lambda s: {"state_dict": s}, ["holds a", "under 'state_dict'", "allowed: a state dict"]),
        (lambda s: [1, 2], ["holds a list"]),
        (lambda s: {"epoch": 3}, ["holds a int under 'epoch'"]),
        (lambda s: {0: torch.zeros(1)}, ["holds a Tensor under 0"]),
        (lambda s: {"config": 0, "tasks": 0, "model": 0}, ["holds a int"]),
        (lambda s: s | {"conv1.weight": s["conv1.weight"] / 0}, ["conv1.weight holds numbers that are not finite"]),
        (lambda s: s | {"conv1.weight": s["conv1.weight"].to_sparse()}, ["conv1.weight is not a dense tensor"]),
        (lambda s: s | {"conv1.weight": torch.zeros(1).expand(8, 3, 7, 7)}, ["fewer numbers in the file"]),
        (lambda s: Path("x"), ["weights_only"]),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, change: Callable[[State], object], words: list[str]) -> None:
    weights = saved(tmp_path / "w.pt", change(dict(small_backbone().state_dict())))
    for refuse in (check_weights, lambda chosen: load_weights(DilatedResNet("resnet18", 8, (1, 1, 1, 1)), chosen)):
        with pytest.raises(BadInput) as caught:
            refuse(planned(weights))
        assert "\n" not in str(caught.value)
        for word in [weights, "allowed", *words]:
            assert word in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04" + bytes(100), pickle.dumps(print, protocol=2)])
def test_a_file_that_is_no_weights_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"w\.pt: cannot be read with weights_only=True") as caught:
        check_weights(config(weights=str(path)))
    assert "\n" not in str(caught.value)


def test_missing_files_and_names_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.pt: No such file.*allowed: a state dict's path or a torchvision name"):
        weights_version(str(tmp_path / "gone.pt"))
    with pytest.raises(BadInput, match="Is a directory"):
        weights_version(str(tmp_path))
    for name in ("ResNet50_Weights.IMAGENET1K_V9", "ResNet51_Weights.IMAGENET1K_V1"):
        with pytest.raises(BadInput, match=f"'{name}': torchvision has none of this name"):
            weights_version(name)
    with pytest.raises(BadInput, match="are of no image classifier"):
        check_weights(config(weights="FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1"))


def test_a_path_counts_from_here_and_a_name_stays_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_weights("w.pt") == str(tmp_path / "w.pt")
    assert absolute_weights("ResNet50_Weights.DEFAULT") == "ResNet50_Weights.DEFAULT"


def test_a_trials_name_depends_on_the_weights_content_and_not_on_their_path(tmp_path: Path) -> None:
    one = planned(saved(tmp_path / "one.pt", small_backbone(1).state_dict()))
    (tmp_path / "copy.pt").write_bytes((tmp_path / "one.pt").read_bytes())
    copy = planned(str(tmp_path / "copy.pt"))
    other = planned(saved(tmp_path / "one.pt", small_backbone(2).state_dict()))
    assert one.weights == other.weights
    assert one.trial_id == copy.trial_id != other.trial_id
    assert config().trial_id not in (one.trial_id, other.trial_id)


def test_weights_that_changed_since_the_plan_are_refused(tmp_path: Path) -> None:
    chosen = planned(saved(tmp_path / "w.pt", small_backbone(1).state_dict()))
    saved(tmp_path / "w.pt", small_backbone(2).state_dict())
    with pytest.raises(BadInput, match="that with which the trial was planned"):
        load_weights(small_backbone(), chosen)


def test_a_resumed_trial_goes_on_without_the_file_to_the_same_numbers(tmp_path: Path) -> None:
    chosen = planned(saved(tmp_path / "w.pt", small_backbone().state_dict()))
    whole, broken = (Training(chosen, TASKS, arrays(), CPU) for _ in range(2))
    while not whole.done:
        whole.run_epoch()
    broken.run_epoch()
    buffer = io.BytesIO()
    torch.save(broken.state_dict(), buffer)
    (tmp_path / "w.pt").unlink()
    resumed = Training(chosen, TASKS, arrays(), CPU)
    buffer.seek(0)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    while not resumed.done:
        resumed.run_epoch()
    assert resumed.test() == whole.test()


def test_a_worker_without_the_file_fails_the_trial_and_names_the_path(tmp_path: Path) -> None:
    chosen = planned(saved(tmp_path / "w.pt", small_backbone().state_dict()), **ON_ROOMS)
    (tmp_path / "w.pt").unlink()
    result: TrialResult = run_trial(chosen, context(tmp_path / "store"))
    assert result.status == "failed"
    assert str(tmp_path / "w.pt") in result.error


SMALL = [*PENALTY_ALONE, "backbone_width=8", "image_size=32", "seeds=1", "epochs=1"]


def test_a_sweep_knows_its_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved(Path("w.pt"), small_backbone().state_dict())
    recipe = load_recipe("rooms", [*SMALL, "weights=w.pt"])
    sweep = open_sweep(recipe, str(tmp_path / "results"), "s", None)
    assert {trial.weights for trial in sweep.configs} == {str(tmp_path / "w.pt")}
    assert {trial.weights_version for trial in sweep.configs} == {weights_version("w.pt")}
    sweep.store.write(SWEEP, make_sweep_file(sweep, {"val": {}, "test": {}}, Plan(sweep.configs), None).to_json())
    Path("copy.pt").write_bytes(Path("w.pt").read_bytes())
    elsewhere = open_sweep(load_recipe("rooms", [*SMALL, "weights=copy.pt"]), str(tmp_path / "results"), "s", None)
    assert [t.trial_id for t in elsewhere.configs] == [t.trial_id for t in sweep.configs]
    saved(Path("w.pt"), small_backbone(6).state_dict())
    for other in ([*SMALL, "weights=w.pt"], SMALL):
        with pytest.raises(BadInput, match=r"was run with weights of version .*allowed: the same weights, or another"):
            open_sweep(load_recipe("rooms", other), str(tmp_path / "results"), "s", None)


def test_weights_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = saved(tmp_path / "w.pt", small_backbone().state_dict())
    sets = [f"--set={one}" for one in (*PENALTY_ALONE, f"weights={weights}", "backbone_width=16")]
    assert main(["sweep", "rooms", "--storage", str(tmp_path / "results"), *sets]) == 2
    assert "conv1.weight has shape (8, 3, 7, 7), not (16, 3, 7, 7)" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_torchvision_names_are_checked_without_and_loaded_with_a_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    full = {"backbone": "resnet18", "backbone_width": 64, "backbone_layers": None}
    chosen = planned("ResNet18_Weights.IMAGENET1K_V1", **full)
    assert chosen.weights_version == "resnet18-f37072fd"
    check_weights(chosen)
    for name, fault in (
        ("ResNet34_Weights.IMAGENET1K_V1", "layer1.2.conv1.weight is not a tensor of the backbone"),
        ("ResNet50_Weights.DEFAULT", "layer1.0.conv1.weight has shape (64, 64, 1, 1), not (64, 64, 3, 3)"),
    ):
        with pytest.raises(BadInput) as caught:
            check_weights(config(weights=name, **full))
        assert fault in str(caught.value)
    backbone = DilatedResNet("resnet18")
    with pytest.raises(BadInput, match=r"resnet18-f37072fd\.pth cannot be downloaded .*no network in tests"):
        load_weights(backbone, chosen)

    torch.manual_seed(1)
    reference = torchvision.models.resnet18(weights=None)
    asked: list[tuple[str, bool, bool]] = []

    def from_url(url: str, *, check_hash: bool, weights_only: bool, **_: object) -> State:
        asked.append((url, check_hash, weights_only))
        return reference.state_dict()

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", from_url)
    load_weights(backbone, chosen)
    assert asked == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", True, True)]
    assert all(torch.equal(value, reference.state_dict()[name]) for name, value in backbone.state_dict().items())


def test_a_download_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through torch's own download, of a file: address, whose content is not what its name says."""
    torch.save({}, tmp_path / "resnet18-00000000.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))

    class Weights:
        url = (tmp_path / "resnet18-00000000.pth").as_uri()

    monkeypatch.setattr(pretrained, "_torchvision_weights", lambda name: Weights)
    with pytest.raises(BadInput, match="invalid hash value"):
        pretrained.fetch_weights("ResNet18_Weights.IMAGENET1K_V1")
