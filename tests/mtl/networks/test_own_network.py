"""The model of docs/networks.md, taken from that page, from recipe to compact file; own backbones; what is refused."""

import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.networks.checks import check_network
from mtl.networks.model import build_model
from mtl.networks.own_network import network_version
from mtl.training import Training
from search.cli import main
from tests.support.checkpoints import time_nothing
from tests.support.in_process import without_ray
from tests.support.pages import files
from tests.support.small import TASKS, arrays, config

BACKBONES = '''
from torch import nn

class Plain(nn.Module):
    out_channels = 12
    def __init__(self, width=4, image_size=None):
        super().__init__()
        self.first = nn.Conv2d(3, width, 1, stride=4, bias=False)
        self.second = nn.Conv2d(width, 12, 1, stride=2, bias=False)
        self.third = nn.Conv2d(12, 12, 3, padding=1)
        self.size = image_size
    def forward(self, x):
        return self.third(self.second(self.first(x)).relu())

class Nothing(nn.Module):
    out_channels = 3
    def forward(self, x):
        return x

class Lies(Plain):
    out_channels = 13

class Silent(Plain):
    out_channels = None

class Raises(Plain):
    def __init__(self):
        raise KeyError("oak")

class Whole(nn.Module):
    """A model without a backbone of its own, whose outputs are those of other tasks if it is told so."""
    def __init__(self, tasks, wrong=False):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.ModuleDict({name: nn.Conv2d(4, task.channels + wrong, 1) for name, task in tasks.items()})
        self.dense = {name: task.dense for name, task in tasks.items()}
    def forward(self, x):
        x = self.layer(x).relu()
        maps = {name: layer(x) for name, layer in self.last.items()}
        return {name: one if self.dense[name] else one.mean(dim=(2, 3)) for name, one in maps.items()}
'''
NOT_A_RESNET: dict[str, Any] = {"backbone_width": 64, "backbone_layers": None}
WHOLE: dict[str, Any] = {**NOT_A_RESNET, "backbone": "", "head_channels": 256, "head_rates": (12, 24, 36)}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`nets.py` of docs/networks.md and `others.py`, where Python finds them."""
    (tmp_path / "nets.py").write_text(files()["nets.py"], encoding="utf-8")
    (tmp_path / "others.py").write_text(BACKBONES, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    for name in ("nets", "others"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def own(**fields: Any) -> TrialConfig:
    chosen = config(**fields)
    return chosen.model_copy(update={"network_version": network_version(chosen)})


def test_example_is_short() -> None:
    assert len(files()["nets.py"].splitlines()) <= 40


def test_example_from_recipe_to_compact_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    time_nothing(monkeypatch)
    sets = [
        *("backbone=", "backbone_width=", "backbone_layers=", "head_channels=", "head_rates=", "model=nets:Small"),
        *("backbone_options.width=8", "image_size=32", "batch_size=8", "epochs=1", "seeds=1", "lambdas=1e-2"),
        *("combinations=segmentation+depth", "compressors=penalty", "targets=", "task_weighting=pcgrad"),
        *("dataset_options.train=16", "dataset_options.val=4", "dataset_options.test=4"),
    ]
    words = ["rooms", "--name", "own", *(word for one in sets for word in ("--set", one))]
    with without_ray():
        assert main(["sweep", *words, "--address", "local"]) == 0
    rows = pd.read_parquet(folder / "results" / "own" / "results.parquet")
    assert list(rows.status) == ["done"]
    assert (rows.macs < rows.model_macs).all()
    (trial,) = (folder / "results" / "own" / "trials").iterdir()
    capsys.readouterr()
    assert main(["compact", str(trial)]) == 2
    assert "is code, which runs only where you ask for it; allowed: --network nets:Small" in capsys.readouterr().err
    assert main(["compact", str(trial), "--network", "nets:Small"]) == 0
    assert "outputs equal" in capsys.readouterr().err
    # A compact file needs no code, and changed code makes other trials.
    (folder / "nets.py").write_text((folder / "nets.py").read_text() + "\nCHANGED = True\n")
    monkeypatch.delitem(sys.modules, "nets")
    with without_ray():
        assert main(["sweep", *words, "--address", "local"]) == 2
    assert "was run with code of nets:Small of version" in capsys.readouterr().err
    assert main(["compact", str(trial), "--network", "nets:Small", "--out", "other.pt"]) == 2
    assert "its code has version" in capsys.readouterr().err


def test_the_code_is_part_of_a_trials_id_and_layout_is_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {**NOT_A_RESNET, "backbone": "others:Plain"}
    ids = []
    for change in ("", "\n# a comment\n", "\nCHANGED = True\n"):
        (folder / "others.py").write_text(BACKBONES + change)
        monkeypatch.delitem(sys.modules, "others", raising=False)
        ids.append(own(**fields).trial_id)
    assert ids[0] == ids[1] != ids[2]


def test_an_own_backbone_trains_and_its_convolutions_are_safe(folder: Path) -> None:
    chosen = own(**NOT_A_RESNET, backbone="others:Plain", backbone_options={"width": 5}, epochs=1)
    check_network(chosen, TASKS, ["none"], ["penalty"])
    training = Training(chosen, TASKS, arrays(), torch.device("cpu"))
    training.run_epoch()
    assert training.done
    backbone: Any = training.model.backbone
    assert backbone.size == (32, 48)
    assert type(backbone.second).__name__ == "StridedPointwise"
    assert training.test()["group_sparsity"] >= 0


def test_a_whole_model_without_a_backbone_trains(folder: Path) -> None:
    chosen = own(**WHOLE, model="others:Whole", task_weighting="equal", epochs=1)
    check_network(chosen, TASKS, ["none"], ["penalty"])
    training = Training(chosen, TASKS, arrays(), torch.device("cpu"))
    training.run_epoch()
    result = training.test()
    assert result["macs"] == result["model_macs"] > 0


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"backbone": "nowhere:Net"}, "cannot import nowhere"),
        ({"backbone": "others:Tree"}, "Tree is not a torch.nn.Module there; others has: Plain, Nothing"),
        ({"backbone": "others:Nothing"}, "has no parameters"),
        ({"backbone": "others:Lies"}, r"gives a map of shape \(1, 12, 4, 6\); allowed: one map of shape \(1, 13"),
        ({"backbone": "others:Silent"}, "its out_channels is None"),
        ({"backbone": "others:Raises"}, r"__init__ raised KeyError: 'oak' \(others.py, line"),
        ({"backbone": "others:Plain", "backbone_options": {"deep": 3}}, "backbone_options: 'deep'; allowed .*: width"),
        ({**WHOLE, "model": "others:Whole", "backbone_options": {"wrong": True}}, "gives segmentation of shape"),
        ({**WHOLE, "model": "others:Whole", "task_weighting": "pcgrad"}, "task_weighting = pcgrad .*no backbone"),
    ],
)
def test_a_network_that_does_not_fit_is_refused_in_one_line(folder: Path, fields: dict[str, Any], said: str) -> None:
    chosen = config(**{**NOT_A_RESNET, **fields})
    with pytest.raises(BadInput, match=said) as caught:
        _checked(chosen)
    assert len(str(caught.value).splitlines()) == 1


def _checked(chosen: TrialConfig) -> None:
    versioned = chosen.model_copy(update={"network_version": network_version(chosen)})
    check_network(versioned, TASKS, ["none"], ["penalty"])


def test_retraining_and_shallow_are_refused_where_the_parts_are_not_known(folder: Path) -> None:
    whole = own(**WHOLE, model="others:Whole", task_weighting="equal")
    with pytest.raises(BadInput, match="retraining has fine_tune"):
        check_network(whole, TASKS, ["none", "fine_tune"], ["penalty"])
    with pytest.raises(BadInput, match="compressors has shallow"):
        check_network(own(**NOT_A_RESNET, backbone="others:Plain"), TASKS, ["none"], ["shallow"])


def test_changed_code_is_not_trained_as_another(folder: Path) -> None:
    stale = config(**NOT_A_RESNET, backbone="others:Plain", network_version="0" * 16)
    with pytest.raises(BadInput, match=r"its code has version .* here; allowed: 0000000000000000"):
        build_model(stale, TASKS)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"backbone": "vgg"}, "backbone = vgg; allowed: resnet18, .*timm:NAME, or my_module:MyBackbone"),
        ({"backbone": ""}, "backbone is missing"),
        (
            {"backbone": "timm:resnet18"},
            r"backbone_layers = \[1, 1, 1, 1\].* \(--set backbone_layers=\)|backbone_width",
        ),
        ({"backbone_options": {"a": 1}}, "backbone_options = .* with backbone = resnet18, which has none"),
        ({"output_stride": 16}, "output_stride = 16 with backbone = resnet18, whose output stride is 8"),
        ({**NOT_A_RESNET, "backbone": "timm:resnet18", "stage_factors": (1, 1, 1, 2)}, "stage_factors = "),
        ({**NOT_A_RESNET, "backbone": "a:B", "output_stride": 8}, "output_stride = 8"),
        ({**NOT_A_RESNET, "backbone": "a:B", "head": "fpn", "head_rates": (12, 24, 36)}, "head = fpn with"),
        ({"head": "lraspp"}, r"head_rates = \[2, 4\] with backbone = resnet18, whose heads are of lraspp"),
        ({"model": "a:B"}, "backbone = resnet18 with model = a:B"),
        ({**WHOLE, "model": "B"}, "model = B; allowed: my_module:MyModel"),
        ({**WHOLE, "model": "a:B", "head_channels": 8}, "head_channels = 8 with model = a:B, which has its own"),
        ({**WHOLE, "model": "a:B", "weights": "x.pt"}, "weights = x.pt with model"),
    ],
)
def test_fields_that_do_not_go_with_the_network_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(**fields)
