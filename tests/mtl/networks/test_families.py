"""A network of each family: built, counted, trained for an epoch, resumed to the same numbers, made narrower."""

import io
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import fx, nn

from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.networks import measurement
from mtl.networks.checkpoint import load_checkpoint, model_content
from mtl.networks.checks import check_network
from mtl.networks.measurement import count_macs, count_parameters, run_on_meta
from mtl.networks.model import build_full, build_model
from mtl.networks.model_size import count_activations
from mtl.networks.model_size import count_macs as macs_of_settings
from mtl.networks.model_size import count_parameters as parameters_of_settings
from mtl.networks.strided import StridedPointwise
from mtl.training import Training
from search.cli import main
from tests.support.checkpoints import time_nothing
from tests.support.commands import refused
from tests.support.small import TASKS, arrays, config

pytest.importorskip("timm")
CPU = torch.device("cpu")
FEW = TASKS[1:4]  # a map, another, and a class of the whole image
# By name: timm's, its options, and its last map at 32 x 48 pixels, (height, width).
FAMILIES: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "resnet": ("resnet26", {"channels": (8, 16, 16, 16), "stem_width": 8}, (4, 6)),
    "mobilenetv3_large": ("mobilenetv3_large_100", {}, (4, 6)),
    "mobilenetv3_small": ("mobilenetv3_small_050", {}, (4, 6)),
    "efficientnet": ("efficientnet_b0", {}, (4, 6)),
    "convnext": ("convnext_tiny", {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}, (4, 6)),
    "regnetx": ("regnetx_002", {}, (4, 6)),
    "regnety": ("regnety_002", {}, (4, 6)),
    "vit": ("vit_tiny_patch16_224", {"patch_size": 8, "depth": 2, "embed_dim": 48, "num_heads": 3}, (4, 6)),
}


def settings(family: str, **fields: Any) -> TrialConfig:
    name, options, _ = FAMILIES[family]
    own = {"backbone": f"timm:{name}", "backbone_options": options, "backbone_width": 64, "backbone_layers": None}
    return config(**own | {"tasks": tuple(task.name for task in FEW), "epochs": 2} | fields)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_gives_one_map_that_all_heads_read(family: str) -> None:
    chosen = settings(family)
    check_network(chosen, FEW, ["none"], ["penalty"])
    torch.manual_seed(0)
    model = build_model(chosen, FEW)
    backbone: Any = model.backbone
    height, width = FAMILIES[family][2]
    images = torch.randn(2, 3, 32, 48)
    features = backbone(images)
    assert features.shape == (2, backbone.out_channels, height, width)
    outputs = model(images)
    assert {name: tuple(one.shape) for name, one in outputs.items()} == {
        "depth": (2, 1, height, width),
        "normals": (2, 3, height, width),
        "light": (2, 3),
    }
    sum(one.square().mean() for one in outputs.values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    traced = fx.symbolic_trace(model.eval())
    with torch.no_grad():
        for name, one in model(images).items():
            assert torch.equal(traced(images)[name], one)


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_by_settings_are_those_of_the_network(family: str) -> None:
    chosen = settings(family)
    model = build_full(chosen, FEW)
    assert parameters_of_settings(chosen, FEW) == sum(parameter.numel() for parameter in model.parameters())
    assert macs_of_settings(chosen, FEW) == _by_hand(model)
    assert count_activations(chosen, FEW) > 0


def _by_hand(model: nn.Module) -> int:
    """By hooks on layers, and for an attention its two products."""
    found = []

    def note(layer: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            found.append(output.numel() * layer.weight[0].numel())
        elif isinstance(layer, nn.Linear):
            found.append(output.numel() * layer.in_features)
        else:
            tokens, channels = inputs[0].shape[1:]
            found.append(2 * tokens * tokens * channels)

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) or type(module).__name__ == "Attention":
            module.register_forward_hook(note)
    model.eval()(torch.zeros(1, 3, 32, 48))
    return sum(found)


def test_attention_is_counted_with_and_without_torchs_fast_path() -> None:
    """Patches, 4 matrices of 12 x 12 for each of 5 tokens, and 2 products of 5 x 5 x 12."""

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
            self.patches = nn.Conv2d(3, 12, 4, stride=4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = self.patches(images).flatten(2).transpose(1, 2)
            return self.attention(tokens, tokens, tokens, need_weights=False)[0]

    expected = 5 * 12 * 48 + 4 * 5 * 12 * 12 + 2 * 5 * 5 * 12
    assert count_macs(Tokens(), (4, 20)) == expected
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_and_resumes_to_the_same_numbers(family: str) -> None:
    chosen = settings(family)
    whole, broken = (Training(chosen, FEW, arrays(), CPU) for _ in range(2))
    while not whole.done:
        whole.run_epoch()
    broken.run_epoch()
    buffer = io.BytesIO()
    torch.save(broken.state_dict(), buffer)
    torch.manual_seed(987)
    resumed = Training(chosen, FEW, arrays(), CPU)
    buffer.seek(0)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    while not resumed.done:
        resumed.run_epoch()
    assert [_numbers(row) for row in resumed.history] == [_numbers(row) for row in whole.history]


def _numbers(row: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "seconds"}


@pytest.mark.parametrize("family", ["convnext", "mobilenetv3_small", "vit", "regnetx"])
def test_the_map_is_timms_own(family: str) -> None:
    """Of the same weights, by timm's own way to a network's features; ConvNeXt's padding is ours."""
    import timm

    name, options, _ = FAMILIES[family]
    if family == "vit":
        theirs = timm.create_model(name, num_classes=0, img_size=(32, 48), **options)
        read = partial(theirs.forward_intermediates, norm=True, intermediates_only=True)
    else:
        read = theirs = timm.create_model(name, features_only=True, output_stride=8, **options)
    backbone: Any = build_model(settings(family), FEW).backbone
    theirs.load_state_dict(dict(zip(theirs.state_dict(), backbone.network.state_dict().values(), strict=True)))
    theirs.eval()
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        ours, reference = backbone.eval()(images), read(images)[-1]
    assert torch.allclose(ours, reference, atol=1e-5)


@pytest.mark.parametrize("head", ["lraspp", "fpn"])
def test_light_heads(head: str) -> None:
    chosen = settings("resnet", head=head, head_rates=(12, 24, 36))
    model = build_model(chosen, FEW)
    shapes = {name: tuple(one.shape) for name, one in run_on_meta(model, (32, 48), torch.no_grad()).items()}
    assert shapes["depth"] == (1, 1, 4, 6)
    assert count_macs(model, (32, 48)) == macs_of_settings(chosen, FEW) < macs_of_settings(settings("resnet"), FEW)
    if head == "fpn":
        backbone: Any = model.backbone
        assert backbone.network.strides == [8, 16, 32]
        assert backbone.out_channels == chosen.head_channels


def test_light_heads_on_our_resnets() -> None:
    chosen = config(head="lraspp", head_rates=(12, 24, 36))
    model = build_model(chosen, TASKS)
    assert count_parameters(model) == parameters_of_settings(chosen, TASKS)
    assert measurement.count_macs(model, (32, 48)) == macs_of_settings(chosen, TASKS)
    narrow = chosen.model_copy(update={"compressor": "narrow", "target_macs": 0.5, "strength": 0.0})
    assert measurement.count_macs(build_model(narrow, TASKS), (32, 48)) <= macs_of_settings(chosen, TASKS) / 2


@pytest.mark.parametrize("family", ["mobilenetv3_small", "convnext", "vit"])
def test_narrow_reaches_its_target_from_below(family: str) -> None:
    wide: dict[str, Any] = {
        "convnext": {"backbone_options": {"depths": (1, 1, 1, 1), "dims": (24, 48, 96, 64)}},
        "vit": {"backbone_options": {"patch_size": 8, "depth": 1, "embed_dim": 144, "num_heads": 3}},
    }.get(family, {})
    full = settings(family, head_channels=64, **wide)
    trial = full.model_copy(update={"compressor": "narrow", "target_macs": 0.4, "strength": 0.0})
    torch.manual_seed(0)
    model = build_model(trial, FEW)
    share = count_macs(model, (32, 48)) / macs_of_settings(full, FEW)
    assert 0.38 <= share <= 0.4
    torch.manual_seed(0)
    again = build_model(trial, FEW)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
    outputs = model(torch.randn(2, 3, 32, 48))
    assert [tuple(one.shape[:2]) for one in outputs.values()] == [(2, task.channels) for task in FEW]
    assert all(one.isfinite().all() and one.std() > 0 for one in outputs.values())


def test_narrow_weights_are_as_large_as_those_of_a_network_of_these_widths() -> None:
    """In heads torch's own rule: uniform up to 1 / sqrt(fan-in); in MobileNetV3 a deviation of sqrt(2 / fan-out)."""
    trial = settings("mobilenetv3_small", compressor="narrow", target_macs=0.3, strength=0.0, head_channels=64)
    model = build_model(trial, FEW)
    heads = [one for one in model.heads.modules() if isinstance(one, nn.Conv2d) and one.weight.numel() > 1000]
    assert len(heads) > 3
    for layer in heads:
        assert float(layer.weight.detach().std()) == pytest.approx((3 * layer.weight[0].numel()) ** -0.5, rel=0.1)
    shared = [one for one in model.backbone.modules() if isinstance(one, nn.Conv2d) and one.weight.numel() > 1000]
    assert len(shared) > 3
    for layer in shared:
        fan_out = layer.weight.numel() / layer.weight.shape[1] / layer.groups
        assert float(layer.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"backbone": "timm:resnet51"}, "has no such network; close: resnet51q, .*resnet50.*; allowed: timm:"),
        ({"backbone": "timm:resnet50.foo"}, "Invalid pretrained tag .foo.*allowed: no tag, or one of a1_in1k"),
        ({"backbone": "timm:hf-hub:some/one"}, "has no such network; .*allowed: timm:"),
        ({"backbone_options": {"foo": 3}}, "unexpected keyword argument 'foo'"),
        ({"backbone_options": {"checkpoint_path": "x.pth"}}, "backbone_options: 'checkpoint_path'; allowed"),
        ({"backbone": "timm:vit_tiny_patch16_224", "backbone_options": {}, "image_size": (40, 48)}, "16 x 16 pixels"),
        ({"backbone": "timm:vit_tiny_patch16_224", "backbone_options": {}, "output_stride": 8}, "allowed: 16"),
        ({"backbone": "timm:densenet121", "backbone_options": {}, "output_stride": 16}, "allowed: 32"),
        ({"backbone": "timm:efficientformer_l1", "backbone_options": {}}, "it takes no such images"),
    ],
)
def test_networks_that_timm_does_not_have_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        check_network(settings("resnet", **fields), FEW, ["none"], ["penalty"])
    assert len(str(caught.value).splitlines()) == 1


def test_an_absurd_network_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(BadInput, match="more than 10,000 modules"):
        check_network(settings("vit", backbone_options={"depth": 10**6}), FEW, ["none"], ["penalty"])
    wide = settings("vit", backbone_options={"embed_dim": 2**20, "depth": 1, "num_heads": 1})
    assert parameters_of_settings(wide, FEW) > 10**13


def test_without_timm_the_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(BadInput, match=r"timm is not installed; allowed: after pip install 'parsimony\[timm\]'"):
        build_full(settings("resnet"), FEW)


def test_strided_pointwise_convolutions_of_few_channels_are_safe() -> None:
    """timm's ResNet of 4 channels has a shortcut of stride 2 of them: see mtl.networks.strided."""
    few = {"channels": (4, 8, 8, 8), "stem_width": 4}
    model = build_full(settings("resnet", backbone="timm:resnet18", backbone_options=few), FEW)
    strided = [
        one
        for one in model.backbone.modules()
        if isinstance(one, nn.Conv2d) and one.kernel_size == (1, 1) and one.stride != (1, 1) and one.in_channels < 8
    ]
    assert strided
    assert all(type(one) is StridedPointwise for one in strided)


@pytest.mark.parametrize(("family", "compressor"), [("resnet", "narrow"), ("regnety", "penalty"), ("vit", "penalty")])
def test_a_models_file_is_read_back(family: str, compressor: str, tmp_path: Path) -> None:
    smaller = {"compressor": compressor, "strength": 0.0, "target_macs": 0.5 if compressor == "narrow" else 1.0}
    chosen = settings(family, **smaller)
    torch.manual_seed(3)
    model = build_model(chosen, FEW).eval()
    torch.save(model_content(chosen, FEW, model), tmp_path / "model.pt")
    torch.manual_seed(4)
    read = load_checkpoint(tmp_path / "model.pt")
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        expected, found = model(images), read.model(images)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("mobilenetv3_large", "regnety")])
def test_a_trial_ends_and_its_model_is_compacted(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_nothing(monkeypatch)
    monkeypatch.chdir(tmp_path)
    name, options, _ = FAMILIES[family]
    sets = [
        f"backbone=timm:{name}",
        "backbone_width=",
        "backbone_layers=",
        "head_rates=2,4",
        "lambdas=1e-2",
    ]
    sets += [f"backbone_options.{key}={','.join(map(str, np.atleast_1d(value)))}" for key, value in options.items()]
    sets += ["image_size=32", "head_channels=8", "batch_size=8", "epochs=1", "seeds=1", "combinations=depth"]
    sets += ["compressors=penalty", "targets=", *(f"dataset_options.{split}=8" for split in ("train", "val", "test"))]
    assert main(["train", "rooms", "--name", "one", *(word for one in sets for word in ("--set", one))]) == 0
    (trial,) = (tmp_path / "results" / "one" / "trials").iterdir()
    assert main(["compact", str(trial), "--export", "torch"]) == 0
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save("black.png")
    for file in ("model.pt", "compact.pt"):
        assert main(["predict", str(trial / file), "black.png", "--out", file]) == 0
        assert (tmp_path / file / "black-depth.png").is_file()


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("vit", "targets has 0.25, which compressor torch_pruning_taylor cannot reach"),
        ("regnety", "layer backbone.network.s1.b1.conv2.conv: a convolution with groups = 3"),
    ],
)
def test_what_torch_pruning_cannot_do_is_refused_before_a_sweep(
    family: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, options, _ = FAMILIES[family]
    sets = [f"backbone=timm:{name}", "backbone_width=", "backbone_layers=", "head=lraspp", "head_rates="]
    sets += [f"backbone_options.{key}={value}" for key, value in options.items()]
    sets += ["image_size=32", "combinations=depth", "compressors=torch_pruning_taylor", "targets=0.25"]
    words = ["sweep", "rooms", "--storage", str(tmp_path / "results"), *(f"--set={one}" for one in sets)]
    assert said in refused(words, capsys)
    assert not (tmp_path / "results").exists()
