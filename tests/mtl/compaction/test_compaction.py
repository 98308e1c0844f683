"""Compact models give what the models give, whatever is zero: random patterns, kinds of blocks, heads and sizes."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mtl.compaction import certify, compact
from mtl.compaction.compact import MemoryFormat, Selections
from mtl.errors import BadInput
from mtl.networks.backbones import DilatedResNet
from mtl.networks.model import MultiTaskModel, build_model
from tests.support.compactable import randomise, zero_channels, zero_filters
from tests.support.small import TASKS, config

IMAGES = (2, 3, 37, 50)


def images(seed: int = 0, shape: Sequence[int] = IMAGES) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def check(model: nn.Module, x: Tensor, **how: object) -> nn.Module:
    """Compact, compare at three sizes, and find the model as it was."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training = model.training
    small = compact(model, x, **{"selections": "always", "memory_format": "contiguous", **how})
    certify(model, small, [x])
    certify(model, small, [images(1, (1, 3, 64, 33)), images(2, (3, 3, 24, 48))])
    assert model.training is training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return small


@settings(max_examples=14, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(["resnet18", "resnet50"]),
    layers=st.tuples(*[st.integers(1, 2)] * 4),
    share=st.sampled_from([0.2, 0.4, 0.9]),
    filters=st.sampled_from([0.0, 0.2]),
    fold=st.booleans(),
    selections=st.sampled_from(["always", "never"]),
    memory_format=st.sampled_from(["contiguous", "channels_last"]),
)
def test_any_pattern_in_any_backbone(
    seed: int,
    name: str,
    layers: tuple[int, ...],
    share: float,
    filters: float,
    fold: bool,
    selections: Selections,
    memory_format: MemoryFormat,
) -> None:
    torch.manual_seed(seed)
    tasks = TASKS[::3]  # a map and a class of the whole image
    model = build_model(config(backbone=name, backbone_width=4, backbone_layers=layers), tasks)
    randomise(model, seed)
    zero_channels(model, share, seed)
    zero_filters(model, filters, seed)
    small = check(model, images(seed), fold=fold, selections=selections, memory_format=memory_format)
    assert parameters(small) < parameters(model)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    kernel=st.sampled_from([1, 2, 3]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 3),
    pool=st.sampled_from(["none", "max", "average", "average, borders not counted"]),
    bias=st.booleans(),
    fold=st.booleans(),
)
def test_constants_at_padded_borders(
    seed: int, kernel: int, stride: int, padding: int, dilation: int, pool: str, bias: bool, fold: bool
) -> None:
    """Half of the channels between two convolutions are constant, and some of the second's kernels zero."""
    torch.manual_seed(seed)
    pools = {
        "none": nn.Identity(),
        "max": nn.MaxPool2d(3, 2, 1),
        "average": nn.AvgPool2d(3, 2, 1),
        "average, borders not counted": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    }
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        pools[pool],
        nn.Conv2d(8, 6, kernel, stride, padding, dilation, bias=bias),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 2, 1),
    )
    randomise(model, seed)
    with torch.no_grad():
        model[0].weight[::2] = 0
        model[4].weight[:, :3] = 0
        model[4].weight[:2, ::2] = 0
        model[4].weight[2:4] = 0
    small = check(model, images(seed), fold=fold)
    assert small.get_submodule("4").weight.shape[0] <= 4  # filters 2 and 3 are constant, and a 1 x 1 reads them
    assert small.get_submodule("0").weight.shape[0] <= (4 if padding == 0 and pool != "average" else 6)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize("fold", [True, False])
def test_all_zero_backbone_is_next_to_nothing(name: str, fold: bool) -> None:
    model = build_model(config(backbone=name), TASKS)
    randomise(model, 0)
    with torch.no_grad():
        for module in model.backbone.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.zero_()
    small = check(model, images(), fold=fold)
    # What is left computes the size of the maps, one channel wide, and constants that padded convolutions read.
    backbone = sum(p.numel() for n, p in small.named_parameters() if n.startswith("backbone"))
    assert backbone < 0.1 * parameters(model.backbone)


@pytest.mark.parametrize("fold", [True, False])
def test_nothing_zero_means_no_change_but_folding(fold: bool) -> None:
    model = build_model(config(backbone="resnet50", head_channels=5), TASKS)
    randomise(model, 0, dead_scales=0)
    small = check(model, images(), fold=fold)
    theirs, ours = model.state_dict(), small.state_dict()
    if not fold:
        assert set(ours) == set(theirs)
        for name, value in theirs.items():
            if not name.endswith("num_batches_tracked"):
                assert torch.equal(ours[name], value), name
        return
    convolutions = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert {n: tuple(small.get_submodule(n).weight.shape) for n in convolutions} == {
        n: tuple(m.weight.shape) for n, m in convolutions.items()
    }
    assert not any(isinstance(m, nn.BatchNorm2d | nn.Dropout) for m in small.modules())
    assert not any(step["op"] in ("select", "shift") for step in small.meta["plan"])


def test_a_dead_branch_leaves_its_shortcut_and_a_number_a_channel() -> None:
    backbone = DilatedResNet("resnet50", width=4, layers=(1, 3, 1, 1))
    randomise(backbone, 0, dead_scales=0)
    with torch.no_grad():
        backbone.layer2[1].conv3.weight.zero_()
    small = check(backbone, images())
    left = [name for name, _ in small.named_parameters() if name.startswith("layer2.1.")]
    assert left == []
    assert [step["op"] for step in small.meta["plan"]].count("shift") == 1


def test_a_channel_of_the_stream_that_nobody_reads_is_gone_from_every_block() -> None:
    backbone = DilatedResNet("resnet18", width=8, layers=(3, 1, 1, 1))
    randomise(backbone, 0, dead_scales=0)
    readers = [backbone.layer1[1].conv1, backbone.layer1[2].conv1, backbone.layer1[0].conv1]
    readers += [backbone.layer2[0].conv1, backbone.layer2[0].downsample[0]]
    with torch.no_grad():
        for layer in readers:
            layer.weight[:, [1, 5]] = 0
    small = check(backbone, images())
    producers = ["conv1", "layer1.0.conv2", "layer1.1.conv2", "layer1.2.conv2"]
    assert [small.get_submodule(name).weight.shape[0] for name in producers] == [6] * 4
    assert not any(step["op"] == "select" for step in small.meta["plan"])


def test_zeros_free_what_lies_upstream_of_the_upstream() -> None:
    """Only channel 0 is read at the end of a chain, in which every layer reads but the channel of its own number."""
    model = nn.Sequential(*[layer for _ in range(4) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())])
    with torch.no_grad():
        for layer in model[2::2]:
            for f in range(3):
                layer.weight[f, [c for c in range(3) if c != f]] = 0
        model[6].weight[1:] = 0
        model[6].bias[1:] = 0
    small = check(nn.Sequential(model, nn.Conv2d(3, 1, 1)), images())
    assert [tuple(m.weight.shape[:2]) for m in small.modules() if isinstance(m, nn.Conv2d)] == [
        (1, 3),
        (1, 1),
        (1, 1),
        (1, 1),
        (1, 1),
    ]


@pytest.mark.parametrize("selections", ["always", "never"])
def test_selections_are_made_or_not(selections: Selections) -> None:
    backbone = DilatedResNet("resnet50", width=8, layers=(2, 1, 1, 1))
    randomise(backbone, 0, dead_scales=0)
    with torch.no_grad():
        backbone.layer1[1].conv1.weight[:, 3:20] = 0
    small = check(backbone, images(), selections=selections)
    assert small.get_submodule("layer1.1.conv1").weight.shape[1] == (32 - 17 if selections == "always" else 32)


def test_measured_choices_give_the_same_outputs() -> None:
    model = build_model(config(backbone="resnet50"), TASKS)
    randomise(model, 0)
    zero_channels(model, 0.6, 0)
    check(model, images(), selections="measured", memory_format="measured")


def test_a_selection_is_made_where_it_measures_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = DilatedResNet("resnet50", width=8, layers=(2, 1, 1, 1))
    randomise(backbone, 0, dead_scales=0)
    with torch.no_grad():
        backbone.layer1[1].conv1.weight[:, 3:20] = 0
    for seconds, read in (({"whole": 1.0, "part": 0.5}, 15), ({"whole": 1.0, "part": 1.1}, 32)):
        monkeypatch.setattr("mtl.compaction.choice.medians", lambda *_, seconds=seconds, **__: seconds)
        small = check(backbone, images(), selections="measured")
        assert small.get_submodule("layer1.1.conv1").weight.shape[1] == read


def test_a_model_in_either_mode_and_single_task() -> None:
    for number, task in enumerate(TASKS):
        model = build_model(config(tasks=(task.name,)), [task]).train(number % 2 == 0)
        randomise(model, 0)
        zero_channels(model, 0.6, 0)
        assert isinstance(model, MultiTaskModel)
        assert not check(model, images()).training


class Odd(nn.Module):
    """One layer, and an operation that is put in."""

    def __init__(self, operation: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.operation = operation

    def forward(self, x: Tensor) -> Tensor:
        return self.operation(self.conv(x))


@pytest.mark.parametrize(
    ("operation", "named"),
    [
        (torch.cumsum, "cumsum"),
        (lambda x: x.cumsum(1), "cumsum"),
        (lambda x: x * x.mean(1, keepdim=True), "mean"),
        (lambda x: x**2, "pow"),
        (lambda x: 1 / x, "truediv"),
        (lambda x: x + torch.rand_like(x), "rand_like"),
        (lambda x: x if x.sum() > 0 else -x, "cannot be traced"),
        (lambda x: torch.cat([x, x], dim=2), "cat"),
        (lambda x: x.mean(1), "mean"),
        (lambda x: torch.nn.functional.dropout(x), "dropout"),
        (nn.Conv1d(4, 4, 1), "does not take the example of shape"),
        (nn.InstanceNorm2d(4), "operation: InstanceNorm2d"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "operation: Conv2d"),
        (nn.BatchNorm2d(4, track_running_stats=False), "operation: BatchNorm2d"),
        (nn.PReLU(), "operation: PReLU"),
        (nn.MaxPool2d(2, return_indices=True), "operation"),
        (nn.Conv2d(5, 4, 1), "does not take the example of shape"),
    ],
)
def test_what_it_does_not_know_is_named_in_one_line(operation: object, named: str) -> None:
    with pytest.raises(BadInput, match=named) as error:
        compact(Odd(operation), images(), selections="never", memory_format="contiguous")
    assert "\n" not in str(error.value)


def test_other_ways_to_write_the_same() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
            self.linear = nn.Linear(2 * 6 * 4, 5)

        def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
            x = self.a(x).relu()
            y = torch.relu(self.b(self.b(x)))  # one module, twice
            z = torch.add(y, x)
            pooled = torch.cat([nn.functional.adaptive_avg_pool2d(v, 2) for v in (z, y)], dim=1)
            up = nn.functional.interpolate(y, scale_factor=2.0, mode="nearest")
            return self.linear(pooled.flatten(1)), [up, torch.mean(x, dim=[-1, -2])]

    model = Net()
    randomise(model, 0)
    with torch.no_grad():
        model.b.weight[:, 2] = 0
        model.linear.weight[:, 4:12] = 0
        model.linear.weight[:, 24:32] = 0
    check(model, images())


def test_a_compact_model_is_refused() -> None:
    with pytest.raises(BadInput, match="a change of memory format, as compact models have; allowed: "):
        compact(compact(nn.Sequential(nn.Conv2d(3, 3, 1)), images(), memory_format="contiguous"), images())


@pytest.mark.parametrize("field", ["selections", "memory_format"])
def test_unknown_choices_list_the_known(field: str) -> None:
    with pytest.raises(BadInput, match=f"{field}: 'best'; allowed: measured, "):
        compact(nn.Conv2d(3, 3, 1), images(), **{field: "best"})
