"""Channels of any network go: mobile networks, EfficientNet, ConvNeXt, RegNet and a ViT, to the same numbers."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtl.errors import BadInput
from mtl.networks.measurement import count_macs
from mtl.networks.model import MultiTaskModel
from mtl.optimizer import ProximalAdamW
from mtl.penalties import GroupLasso
from mtl.selection.compression import channel_groups
from mtl.selection.groups import ChannelGroups, check_target
from mtl.selection.members import in_groups
from mtl.selection.penalised import CoupledGroups
from mtl.selection.pruned_once import PrunedOnce
from mtl.selection.removal import Removal
from mtl.selection.selector import Selector
from mtl.selection.target import PenaltyToTarget
from mtl.sparsity import penalised_layers
from tests.support.channels import check_training_on, drop_some

pytest.importorskip("timm")
from tests.support.timm_families import FAMILIES, SIZE, family_model

BATCH = 3


ALL = pytest.mark.parametrize("family", FAMILIES)
# One with depthwise convolutions, one with groups, one with heads.
KINDS = pytest.mark.parametrize("family", ["mobilenetv3", "regnet", "vit"])


class Run:
    """A training in float64 without dropout, which draws other numbers for fewer channels."""

    def __init__(self, model: MultiTaskModel) -> None:
        self.model, self.groups = model, channel_groups(model, SIZE)
        self.model.double().train()
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        layers = {id(layer.weight): layer for layer in penalised_layers(model, "all")}
        parameters = list(model.parameters())
        penalised = [p for p in parameters if id(p) in layers]
        others = [p for p in parameters if id(p) not in layers]
        layouts = [layers[id(p)].layout for p in penalised]
        self.optimizer = ProximalAdamW(
            [{"params": penalised, "layouts": layouts, "penalty": GroupLasso(1e-6)}, {"params": others}],
            lr=1e-3,
            weight_decay=0.1,
            metric="euclidean",  # with Adam's own the strength of a group would depend on the groups' sizes
        )
        self.removal = Removal(self.model)

    def steps(self, count: int, generator: torch.Generator, penalty: bool = False) -> None:
        self.optimizer.param_groups[0]["penalty"].strength = 1e-6 if penalty else 0.0
        for _ in range(count):
            images = torch.randn(BATCH, 3, *SIZE, dtype=torch.float64, generator=generator)
            self.optimizer.zero_grad()
            loss(self.model, images).backward()
            self.optimizer.step()
            self.groups.clear()


def loss(model: nn.Module, images: Tensor) -> Tensor:
    terms = [(output - 1).square().mean() for output in model(images).values()]
    return torch.stack(terms).sum()


@ALL
def test_training_on_without_channels_is_training_on_with_zeros(family: str) -> None:
    model = family_model(family)
    check_training_on(Run(copy.deepcopy(model)), Run(model), SIZE, steps=2, tolerance=1e-9)


@KINDS
def test_a_penalty_goes_on_with_the_groups_that_are_left(family: str) -> None:
    """Layouts too have lost groups of convolutions."""
    run = Run(family_model(family))
    drop_some(run.groups, 0.5, torch.Generator().manual_seed(0))
    run.removal.remove(run.groups, run.optimizer)
    run.steps(1, torch.Generator().manual_seed(0), penalty=True)
    group = run.optimizer.param_groups[0]
    layouts = dict(zip(map(id, group["params"]), group["layouts"], strict=True))
    for layer in penalised_layers(run.model, "all"):
        assert layouts[id(layer.weight)] == layer.layout


@ALL
def test_costs_and_savings_are_those_of_the_whole_model(family: str) -> None:
    model = family_model(family)
    groups = channel_groups(model, SIZE)
    assert groups.macs() == count_macs(model, SIZE)
    for number in range(len(groups.groups)):
        if groups.groups[number].size > 1:
            before, saving = groups.macs(), groups.saving(number)
            groups.remove(number, groups.groups[number].size - 1)
            assert groups.macs() <= before - 0.999 * saving  # of layers that read and write a channel a little more
            assert groups.macs() >= before - 1.001 * saving or any(
                len([m for m in groups.groups[number].members if m.module is member.module]) > 1
                for member in groups.groups[number].members
            )


def test_what_norms_read_stays_and_is_named() -> None:
    for family, name, why in (
        ("convnext", "backbone.network.stem.0", "normalised over channels by LayerNorm2d"),
        ("vit", "backbone.network.blocks.0.mlp.fc2", "normalised over channels by LayerNorm"),
        ("efficientnet, group norms", "backbone.network.conv_stem", "normalised over channels by GroupNormAct"),
    ):
        groups = channel_groups(family_model(family), SIZE)
        assert why in set(groups.left_out.values()), family
        members = {member.name for group in groups.groups for member in group.members if member.kind == "out"}
        assert members
        assert name not in members
        with pytest.raises(BadInput, match=r"allowed: .* layers that cannot lose any, such as .* \(normalised over"):
            check_target(groups, 1e-6)


def test_heads_go_whole() -> None:
    model = family_model("vit")
    groups = channel_groups(model, SIZE)
    heads = [group for group in groups.groups if group.heads]
    attention = model.get_submodule(heads[0].members[0].name.rpartition(".")[0])
    assert len(heads) == len(model.backbone.network.blocks)  # type: ignore[union-attr, arg-type]
    assert heads[0].size == attention.num_heads
    groups.keep([torch.arange(g.size) != 1 if g is heads[0] else torch.ones(g.size) > 0 for g in groups.groups])
    groups.clear()
    size = attention.head_dim
    assert not attention.proj.weight[:, size : 2 * size].any()
    assert not attention.qkv.weight.view(3, attention.num_heads, size, -1)[:, 1].any()
    Removal(model).remove(groups, ProximalAdamW(model.parameters()))
    assert (attention.num_heads, attention.attn_dim) == (heads[0].size - 1, size * (heads[0].size - 1))


class Mixing(nn.Module):
    """An operation without weights that no graph of dependencies tells from a harmless one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)
        self.out_channels = 4

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.second(x / (x.square().mean(1, keepdim=True) + 1).sqrt()).relu()
        return self.third(x)


def test_channels_without_which_something_else_is_computed_stay() -> None:
    torch.manual_seed(0)
    model = MultiTaskModel(Mixing(), {"a": nn.Sequential(nn.Conv2d(4, 2, 1))})
    groups = channel_groups(model, (8, 8))
    assert {group.members[0].name for group in groups.groups} == {"backbone.second", "backbone.third"}
    assert list(groups.left_out) == ["backbone.first"]
    assert "computes something else" in groups.left_out["backbone.first"]


def test_a_network_that_cannot_be_followed_is_refused() -> None:
    class WithoutGradients(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                raise RuntimeError("only for inference")
            return super().forward(x)

    model = nn.Sequential(nn.Conv2d(3, 4, 1), WithoutGradients(4, 2, 1))
    with pytest.raises(
        BadInput, match=r"the channels of Sequential cannot be followed \(RuntimeError: only for inference\); "
    ):
        ChannelGroups(model, torch.zeros(1, 3, 8, 8), [model[1]])


@pytest.mark.parametrize(
    ("family", "importance"), [*((name, "taylor") for name in FAMILIES), ("regnet", "magnitude"), ("vit", "random")]
)
def test_a_selection_meets_its_target(family: str, importance: str) -> None:
    run = Run(family_model(family))
    full = run.groups.macs()
    target = max(0.7, (1 + run.groups.smallest_macs() / full) / 2)
    selector = Selector(run.groups, importance, target, (0, 4), seed=0)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        run.optimizer.zero_grad()
        loss(run.model, torch.randn(BATCH, 3, *SIZE, dtype=torch.float64, generator=generator)).backward()
        selector.observe()
        run.optimizer.step()
        selector.apply()
    run.removal.remove(run.groups, run.optimizer)
    assert count_macs(copy.deepcopy(run.model).float(), SIZE) == run.groups.macs() <= target * full


def test_the_worth_of_a_hidden_unit_and_of_a_head_is_what_the_loss_loses_with_it() -> None:
    """To first order: against the change of the loss when a channel's readers shrink a little."""
    run = Run(family_model("vit"))
    images = torch.randn(BATCH, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    run.model.eval()
    loss(run.model, images).backward()
    gains = Selector(run.groups, "taylor", 0.9, (0, 4), seed=0)._gains()
    for number, group in enumerate(run.groups.groups):
        if group.heads:
            with torch.no_grad():
                before = float(loss(run.model, images))
                (reader,) = (member for member in group.members if member.kind == "in")
                reader.weight_rows()[reader.group == 0] *= 1 + 1e-6
                change = (float(loss(run.model, images)) - before) / 1e-6
            assert change == pytest.approx(float(gains[number][0]), rel=1e-2, abs=1e-5)


@KINDS
def test_a_penalty_with_a_target_meets_it(family: str) -> None:
    run = Run(family_model(family))
    full = run.groups.macs()
    target = max(0.7, (1 + run.groups.smallest_macs() / full) / 2)
    run.optimizer.param_groups[0]["penalty"].strength = 0.0
    penalty = PenaltyToTarget(CoupledGroups(run.groups, run.optimizer), GroupLasso(0.0), target, (0, 5))
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        run.optimizer.zero_grad()
        loss(run.model, torch.randn(BATCH, 3, *SIZE, dtype=torch.float64, generator=generator)).backward()
        run.optimizer.step()
        penalty.apply()
    assert penalty.groups is not None
    run.removal.remove(run.groups, run.optimizer)
    assert count_macs(copy.deepcopy(run.model).float(), SIZE) <= target * full


@KINDS
def test_coupled_groups_hold_each_weight_once_and_what_was_read_is_written_back(family: str) -> None:
    run = Run(family_model(family))
    coupled = CoupledGroups(run.groups, run.optimizer)
    before = [p.clone() for p in run.model.parameters()]
    weights = coupled.read()
    coupled.write(weights)
    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), before, strict=True))
    for one in weights:
        one.tensor.zero_()
    coupled.write(weights)
    readers = {
        id(member.module.weight)
        for group in run.groups.groups
        for member in group.members
        if member.kind == "in" or (member.kind == "out" and in_groups(member.module))
    }
    for p in run.model.parameters():
        if id(p) in readers:
            assert p.eq(0).any()


def pruned_once(family: str, criterion: Any) -> tuple[Run, ChannelGroups]:
    run = Run(family_model(family))
    run.model.float()
    target = 0.8
    pruner = PrunedOnce(run.model, run.groups, SIZE, criterion, target, 2, 1)
    full = run.groups.macs()
    for seed in range(2):
        run.optimizer.zero_grad()
        loss(run.model, torch.randn(BATCH, 3, *SIZE, generator=torch.Generator().manual_seed(seed))).backward()
        pruner.observe()
        run.optimizer.param_groups[0]["penalty"].strength = 0.0
        run.optimizer.step()
        pruner.apply()
    assert run.groups.macs() <= target * full
    return run, run.groups


@pytest.mark.parametrize(("family", "criterion"), [("mobilenetv3", "norm"), ("convnext", "taylor"), ("vit", "norm")])
def test_torch_pruning_takes_what_it_can(family: str, criterion: str) -> None:
    run, groups = pruned_once(family, criterion)
    assert not any(group.heads for group in groups.groups)
    run.removal.remove(groups, run.optimizer)
    assert count_macs(run.model, SIZE) == groups.macs()


def test_torch_pruning_is_refused_where_it_takes_single_channels_of_groups() -> None:
    with pytest.raises(
        BadInput, match=r"layer backbone.network.*: a convolution with groups = .*; allowed with Torch-Pruning"
    ):
        pruned_once("regnet", "norm")
