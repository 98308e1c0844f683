"""Pretrained weights of networks that are not ours: timm's by name, and files of a plain network or of a trial."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.networks.model import make_backbone
from mtl.networks.pretrained import check_weights, fetch_weights, load_weights, weights_version
from tests.mtl.networks.test_families import settings
from tests.support.small import config

timm = pytest.importorskip("timm")


def planned(weights: str, **fields: Any) -> TrialConfig:
    chosen = settings(**{"family": "resnet", "weights": weights, **fields})
    return chosen.model_copy(update={"weights_version": weights_version(weights, chosen)})


@pytest.mark.parametrize(
    ("family", "head"), [("resnet", "deeplabv3"), ("mobilenetv3_small", "lraspp"), ("resnet", "fpn")]
)
def test_a_file_of_a_plain_network_fits_and_its_classifier_is_left_out(tmp_path: Path, family: str, head: str) -> None:
    chosen = settings(family)
    plain = timm.create_model(chosen.backbone.removeprefix("timm:"), **chosen.backbone_options)
    torch.save(plain.state_dict(), tmp_path / "w.pth")
    rates = {} if head == "deeplabv3" else {"head": head, "head_rates": (12, 24, 36)}
    trial = planned(str(tmp_path / "w.pth"), family=family, **rates)
    check_weights(trial)
    backbone: Any = make_backbone(trial)
    load_weights(backbone, trial)
    network = backbone.network.network if head == "fpn" else backbone.network
    theirs = plain.state_dict()
    assert len(network.state_dict()) > 10
    assert all(torch.equal(value, theirs[name]) for name, value in network.state_dict().items())


def test_a_backbones_own_state_dict_fits(tmp_path: Path) -> None:
    source = make_backbone(settings("vit"))
    torch.save(source.state_dict(), tmp_path / "w.pth")
    trial = planned(str(tmp_path / "w.pth"), family="vit")
    check_weights(trial)
    backbone = make_backbone(trial)
    load_weights(backbone, trial)
    for one, other in zip(source.parameters(), backbone.parameters(), strict=True):
        assert torch.equal(one, other)


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    other = timm.create_model("resnet26", channels=(8, 16, 16, 24), stem_width=8)
    for content, said in (
        (
            other.state_dict(),
            "layer4.*has shape .*allowed: weights that fit backbone = timm:resnet26, backbone_options",
        ),
        ({"odd": torch.zeros(1), **other.state_dict()}, "odd is not a tensor of the backbone|has shape"),
        (nn.Linear(2, 2).state_dict(), "is missing"),
    ):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(BadInput, match=said):
            check_weights(planned(str(tmp_path / "w.pth")))


def test_timms_own_weights_have_a_version_and_no_network_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fields = {"backbone": "timm:resnet26", "backbone_options": {}}
    trial = planned("timm", **fields)
    assert trial.weights_version == "resnet26.bt_in1k"
    assert planned("timm", **{**fields, "backbone": "timm:resnet50.a2_in1k"}).weights_version == "resnet50.a2_in1k"
    check_weights(trial)
    with pytest.raises(BadInput, match=r"weights = timm: resnet26.bt_in1k cannot be downloaded into") as caught:
        fetch_weights("timm", trial)
    assert len(str(caught.value).splitlines()) == 1


def test_timms_weights_are_for_timms_networks() -> None:
    with pytest.raises(BadInput, match="weights = timm with backbone = resnet18; allowed: with timm:NAME"):
        weights_version("timm", config())
    with pytest.raises(BadInput, match="timm has none of"):
        weights_version("timm", settings("resnet", backbone="timm:cspresnet50d", backbone_options={}))
