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


def tokens() -> list[dict[str, Any]]:
    """Grouped convolutions, gates, tokens with a position and a class token, attention, and the map again."""
    pair = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "bias": True}
    return [
        step("x", "input", [], channels=4),
        step("conv", "conv", ["x"], **{"in": 4, "out": 8, "groups": 2}, **pair),
        step("gate", "mean", ["conv"], keepdim=True),
        step("hard", "act", ["gate"], kind="leaky_relu", negative_slope=0.1),
        step("gated", "mul", ["conv", "hard"], small=1),
        step("merged", "merge", ["gated"], start=2, end=3),
        step("turned", "permute", ["merged"], dims=[0, 2, 1]),
        step("first", "prepend", ["turned"], tokens=1, channels=8),
        step("pos", "embed", ["first"], shape=[7, 8]),
        step("norm", "layer_norm", ["pos"], eps=1e-6, affine=True, bias=True, channels=8),
        step("qkv", "linear", ["norm"], **{"in": 8, "out": 24, "bias": True}),
        step("attend", "attend", ["qkv"], heads=2, size=4, scale=0.5),
        step("scale", "scale", ["attend"], channels=8, axis=2),
        step("rest", "narrow", ["scale"], axis=1, start=1, stop=None),
        step("back", "unmerge", ["rest"], axis=1, sizes=[[2, 2], [3, 2]], like="x"),
        step("map", "permute", ["back"], dims=[0, 3, 1, 2]),
        step("groups", "group_norm", ["map"], eps=1e-5, affine=True, groups=2, channels=8),
        step("up", "conv_transpose", ["groups"], **{"in": 8, "out": 4, "groups": 4, "output_padding": (0, 0)}, **pair),
        step("shuffled", "pixel_shuffle", ["up"], factor=2),
        step("output", "output", ["shuffled"], structure="shuffled"),
    ]


def at(name: str, **settings: Any) -> Callable[[list[dict[str, Any]]], None]:
    """A change of the settings of one step of `tokens`."""

    def change(plan: list[dict[str, Any]]) -> None:
        next(one for one in plan if one["name"] == name)["settings"].update(settings)

    return change


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


def test_a_good_plan_of_tokens_is_built() -> None:
    assert build(tokens())(torch.zeros(2, 4, 4, 6)).shape == (2, 1, 8, 12)


BAD_TOKENS = {
    "groups that do not divide": at("conv", groups=3),
    "groups of code": at("conv", groups=CODE),
    "unknown activation": at("hard", kind=CODE),
    "another activation's setting": at("hard", kind="silu"),
    "slope that is no number": at("hard", negative_slope=float("inf")),
    "smaller of three": at("gated", small=3),
    "axes that are none": at("turned", dims=[0, 2, 4]),
    "axes twice": at("turned", dims=[0, 2, 2]),
    "N moved": at("turned", dims=[2, 0, 1]),
    "channels merged": at("merged", start=1, end=2),
    "merge of one": at("merged", start=2, end=2),
    "tokens of code": at("first", tokens=CODE),
    "other channels before tokens": at("first", channels=9),
    "position of other channels": at("pos", shape=[5, 9]),
    "position of other dimensions": at("pos", shape=[5, 8, 1]),
    "huge position": at("pos", shape=[2**20, 2**20]),
    "norm of other channels": at("norm", channels=7),
    "bias without weights": at("norm", affine=False),
    "heads that do not fit": at("attend", heads=3),
    "scale that is no number": at("attend", scale=CODE),
    "scale of another axis": at("scale", axis=1),
    "narrow of channels": at("rest", axis=2),
    "narrow to code": at("rest", stop=CODE),
    "sizes of code": at("back", sizes=[CODE, 2]),
    "sizes of nothing": lambda plan: plan[14]["settings"].pop("like"),
    "sizes of channels": at("back", sizes=[[1, 2], [3, 2]]),
    "sizes by nothing": at("back", sizes=[[2, 0], [3, 2]]),
    "sizes of a later value": at("back", like="map"),
    "sizes of code's value": at("back", like=CODE),
    "norm of uneven groups": at("groups", groups=3),
    "shuffle that does not fit": at("shuffled", factor=3),
    "convolution of tokens": lambda plan: plan[17].update(inputs=["rest"]),
    "linear over positions": lambda plan: plan[10].update(inputs=["merged"]),
    "product of two layouts": lambda plan: plan[4].update(inputs=["conv", "x"]),
}


@pytest.mark.parametrize("case", BAD_TOKENS)
def test_what_is_no_plan_of_tokens_is_refused(case: str, empty: Path) -> None:
    bad = tokens()
    BAD_TOKENS[case](bad)
    with pytest.raises(BadInput, match=r"plan of a compact model: .*; allowed: ") as error:
        build(bad)
    assert str(error.value).isprintable()
    assert not (empty / "harm").exists()


def test_a_file_from_before_there_were_groups_still_loads(tmp_path: Path) -> None:
    """The content as it was written then: no groups, axes or kinds of values."""
    old = {
        "compact": 1,
        "plan": plan(),
        "state": {
            "part.conv.weight": torch.ones(4, 3, 3, 3),
            "part.conv.bias": torch.arange(4.0),
            "part.norm.weight": torch.ones(3),
            "part.norm.bias": torch.zeros(3),
            "part.norm.running_mean": torch.zeros(3),
            "part.norm.running_var": torch.ones(3),
            "part.norm.num_batches_tracked": torch.tensor(0),
        },
        "about": {},
    }
    torch.save(old, tmp_path / "old.pt")
    model, _ = load_compact(tmp_path / "old.pt")
    found = model(torch.zeros(1, 3, 4, 4))["map"]
    expected = torch.tensor([2.0, 3.0, 0.0]) / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(found, expected.view(1, 3, 1, 1).expand(1, 3, 4, 4))


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
