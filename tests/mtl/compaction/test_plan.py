"""Plans of compact networks as data: what is no name, setting or shape is refused before a network is built of it."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mtl.compaction import build, compact, load_compact, save_compact
from mtl.errors import BadInput
from mtl.networks.model import build_model
from tests.support.compactable import randomise, zero_channels
from tests.support.small import TASKS, config

CODE = "__import__('pathlib').Path('harm').touch()"


def step(name: Any, op: Any, inputs: Any, **settings: Any) -> dict[str, Any]:
    return {"name": name, "op": op, "inputs": inputs, "settings": settings}


def plan() -> list[dict[str, Any]]:
    """A convolution, a selection of its channels, a norm, a pooling and an enlargement."""
    layer = {"in": 3, "out": 4, "bias": True, "kernel": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    return [
        step("x", "input", [], channels=3),
        step("part.conv", "conv", ["x"], **layer),
        step("select_0", "select", ["part.conv"], runs=[[2, 4], [0, 1]], layout="contiguous"),
        step("part.norm", "norm", ["select_0"], channels=3, eps=1e-5, momentum=0.1, affine=True),
        step("pool", "max_pool", ["part.norm"], kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False),
        step("up", "interpolate", ["pool"], like="x", mode="bilinear", align_corners=False),
        step("output", "output", ["up"], structure={"map": "up"}),
    ]


def conv(**settings: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda plan: plan[1]["settings"].update(settings)


def names(name: Any, new: Any) -> Callable[[list[dict[str, Any]]], None]:
    """Rename a value wherever it is named."""

    def rename(plan: list[dict[str, Any]]) -> None:
        for one in plan:
            one["name"] = new if one["name"] == name else one["name"]
            one["inputs"] = [new if i == name else i for i in one["inputs"]]
            one["settings"].update({k: new for k, v in one["settings"].items() if k == "like" and v == name})

    return rename


def test_a_good_plan_is_built() -> None:
    assert build(plan())(torch.zeros(2, 3, 9, 12))["map"].shape == (2, 3, 9, 12)


BAD = {
    "input with code": names("x", f"x={CODE}"),
    "input called self": names("x", "self"),
    "input of other letters": names("x", "é"),
    "module with code": names("part.conv", f'a"); {CODE}; ("'),
    "module with a line": names("part.conv", "a\nb"),
    "module with a dunder": names("part.conv", "a.__class__"),
    "module called forward": names("part.conv", "forward"),
    "module in a method": names("part.conv", "train.x"),
    "module called graph": names("part.conv", "graph"),
    "module called a keyword": names("part.conv", "a.class"),
    "module in a layer": names("part.norm", "part.conv.weight"),
    "layer around a module": names("part.norm", "part"),
    "no name": names("part.conv", ""),
    "a number as name": names("part.conv", 3),
    "a long name": names("part.conv", "a" * 2000),
    "one name twice": names("part.norm", "part.conv"),
    "setting with code": lambda plan: plan[5]["settings"].update({f"x={CODE}": 1}),
    "unknown setting": lambda plan: plan[4]["settings"].update(return_indices=True),
    "missing setting": lambda plan: plan[4]["settings"].pop("stride"),
    "unknown operation": lambda plan: plan[1].update(op="eval"),
    "operation that is none": lambda plan: plan[1].update(op=["conv"]),
    "more in a step": lambda plan: plan[1].update(tensors={}),
    "step that is none": lambda plan: plan.__setitem__(1, "conv"),
    "later input": lambda plan: plan[1].update(inputs=["up"]),
    "own input": lambda plan: plan[1].update(inputs=["part.conv"]),
    "two inputs": lambda plan: plan[1].update(inputs=["x", "x"]),
    "no input": lambda plan: plan[1].update(inputs=[]),
    "later like": lambda plan: plan[5]["settings"].update(like="output"),
    "two networks": lambda plan: plan.insert(1, step("y", "input", [], channels=3)),
    "no output": lambda plan: plan.pop(),
    "output with code": lambda plan: plan[6]["settings"].update(structure={"map": CODE}),
    "output of two": lambda plan: plan[6]["settings"].update(structure=["up", "pool"]),
    "deep output": lambda plan: plan[6]["settings"].update(structure=[[[[[[[[[[["up"]]]]]]]]]]]),
    "key that is no text": lambda plan: plan[6]["settings"].update(structure={(1, 2): "up"}),
    "code as size": conv(stride=(CODE, 1)),
    "true as size": conv(stride=(True, 1)),
    "no stride": conv(stride=(0, 1)),
    "huge kernel": conv(kernel=(10**9, 10**9)),
    "more weights than fit": conv(out=2**20, kernel=(2**10, 2**10)),
    "other channels": conv(**{"in": 5}),
    "fraction": conv(out=2.0),
    "tensor": conv(out=torch.tensor(4)),
    "not a number": lambda plan: plan[3]["settings"].update(eps=float("nan")),
    "selection beyond": lambda plan: plan[2]["settings"].update(runs=[[2, 5]]),
    "selection twice": lambda plan: plan[2]["settings"].update(runs=[[0, 4], [0, 4]]),
    "selection backwards": lambda plan: plan[2]["settings"].update(runs=[[4, 2]]),
    "selection of nothing": lambda plan: plan[2]["settings"].update(runs=[]),
    "layout": lambda plan: plan[2]["settings"].update(layout="diagonal"),
    "mode": lambda plan: plan[5]["settings"].update(mode=CODE),
    "nothing": lambda plan: plan.clear(),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_plan_is_refused_in_one_line_and_runs_nothing(case: str, empty: Path) -> None:
    bad = plan()
    BAD[case](bad)
    with pytest.raises(BadInput, match=r"plan of a compact model: .*; allowed: ") as error:
        build(bad)(torch.zeros(1, 3, 9, 12))
    assert str(error.value).isprintable()
    assert not (empty / "harm").exists()


def test_a_plan_of_a_file_is_checked_and_its_weights_are_made_once_they_fit(tmp_path: Path) -> None:
    network = build(plan()).eval()
    save_compact(tmp_path / "good.pt", network)
    assert load_compact(tmp_path / "good.pt")[0].meta["plan"] == plan()
    good = torch.load(tmp_path / "good.pt", weights_only=True)
    huge = copy.deepcopy(good)
    conv(out=2**20, kernel=(16, 16))(huge["plan"])  # 3 GB
    huge["plan"][2]["settings"]["runs"] = [[0, 3]]
    weight = good["state"]["part.conv.weight"]
    expanded = torch.zeros(1).expand(weight.shape)
    for content, named in (
        (huge, r"part\.conv\.weight has shape \(4, 3, 3, 3\), not"),
        (good | {"state": good["state"] | {"part.conv.weight": expanded}}, "fewer numbers in the file"),
        (good | {"state": good["state"] | {"part.conv.weight": weight.to_sparse()}}, "is not a dense tensor"),
        (good | {"state": good["state"] | {"part.conv.weight": weight / 0}}, "not finite"),
        (good | {"state": good["state"] | {"part.conv.weight": weight.long()}}, "holds int64, not float32"),
        (good | {"state": good["state"] | {"part.conv.weight": [1]}}, "is a list"),
        (good | {"state": good["state"] | {"a\nb": weight}}, r"a\\nb is not a tensor of the model"),
        (good | {"plan": plan()[:-1]}, "plan of a compact model"),
        (good | {"compact": 2}, "format 1"),
    ):
        torch.save(content, tmp_path / "bad.pt")
        with pytest.raises(BadInput, match=named) as error:
            load_compact(tmp_path / "bad.pt")
        assert str(error.value).isprintable()


def test_models_of_other_types_are_kept(tmp_path: Path) -> None:
    network = build(plan()).double().eval()
    save_compact(tmp_path / "double.pt", network)
    loaded, _ = load_compact(tmp_path / "double.pt")
    x = torch.randn(1, 3, 9, 12, dtype=torch.float64)
    assert torch.equal(loaded(x)["map"], network(x)["map"])


def test_what_compact_makes_is_allowed() -> None:
    """Tasks may have names of other letters, and models parts of any numbering."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleDict({"5_o_clock": nn.Conv2d(3, 4, 1), "Bäume 2": nn.Conv2d(4, 4, 1)})

        def forward(self, x: torch.Tensor) -> dict[str, Any]:
            for part in self.parts.values():
                x = part(x).relu()
            return {"a b": [x, x.mean((2, 3))], 3: (x.mean((2, 3)).flatten(1),)}

    small = compact(Net(), torch.zeros(2, 3, 8, 8), selections="always", memory_format="contiguous")
    assert build(small.meta["plan"])(torch.zeros(1, 3, 8, 8))["a b"][1].shape == (1, 4)
    for name in ("resnet18", "resnet50"):
        model = build_model(config(backbone=name, backbone_width=4), TASKS)
        randomise(model, 0)
        zero_channels(model, 0.6, 0)
        for fold in (True, False):
            small = compact(model, torch.zeros(1, 3, 32, 48), fold=fold, memory_format="channels_last")
            build(small.meta["plan"])
