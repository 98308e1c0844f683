"""A penalty with a target: coupled groups are a partition, targets are held, and the rest trains without shrinkage."""

import copy
import math
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from mtl.compaction import compact
from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.networks.measurement import count_macs
from mtl.networks.model import MultiTaskModel, build_model
from mtl.optimizer import ProximalAdamW
from mtl.penalties import PENALTIES, GroupLasso
from mtl.proximal.layers import grouped_layers
from mtl.selection.compression import channel_groups
from mtl.selection.groups import ChannelGroups
from mtl.selection.penalised import BackboneGroups, CoupledGroups, Penalised
from mtl.selection.target import PenaltyToTarget
from mtl.sparsity import measure_sparsity
from mtl.training import Training
from tests.support.small import TASKS, arrays, config

CPU = torch.device("cpu")
SIZE = (32, 48)


def stepped(model: nn.Module, optimizer: ProximalAdamW, generator: torch.Generator) -> None:
    """One step with random gradients of many sizes, so that no two moments are alike."""
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.grad = noise * torch.rand(parameter.shape, generator=generator) ** 4
    optimizer.step()


def made(metric: str = "adaptive", **fields: Any) -> tuple[MultiTaskModel, ChannelGroups, ProximalAdamW]:
    torch.manual_seed(0)
    model = build_model(config(**fields), TASKS).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = ProximalAdamW(list(model.parameters()), lr=1e-3, metric=metric)  # type: ignore[arg-type]
    return model, channel_groups(model, SIZE), optimizer


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_each_weight_that_reads_a_channel_is_in_one_coupled_group(backbone: str) -> None:
    model, channels, optimizer = made(backbone=backbone)
    groups = CoupledGroups(channels, optimizer)
    before = copy.deepcopy(model.state_dict())
    weights = groups.read()
    groups.write(weights)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    images = next(layer for layer in layers if isinstance(layer, nn.Conv2d) and layer.in_channels == 3)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    expected = sum(layer.weight.numel() for layer in layers if layer is not images)
    expected += sum(norm.weight.numel() for norm in norms)
    assert sum(one.tensor.numel() for one in weights) == expected
    for one in weights:
        one.tensor.zero_()
    groups.write(weights)
    left = [layer for layer in layers if layer.weight.any()]
    assert left == [images]
    assert not any(norm.weight.any() for norm in norms)


@pytest.mark.parametrize("metric", ["adaptive", "euclidean"])
def test_the_proximal_step_is_that_of_each_channel_alone(metric: str) -> None:
    """Against the operator on a vector that is collected by hand, for one channel of a residual stream."""
    model, channels, optimizer = made(metric)
    stepped(model, optimizer, torch.Generator().manual_seed(1))
    groups = CoupledGroups(channels, optimizer)
    number = next(i for i, one in enumerate(channels.groups) if len(one.members) > 6)
    channel = 3
    values, moments = [], []
    for member in channels.groups[number].members:
        weight = member.module.weight
        assert isinstance(weight, nn.Parameter)
        own = member.index[member.group == channel]
        state = optimizer.state[weight]["exp_avg_sq"]
        if member.kind == "in":
            values.append(weight.detach()[:, own].transpose(0, 1).flatten())
            moments.append(state[:, own].transpose(0, 1).flatten())
        elif member.kind == "norm":
            values.append(weight.detach()[own])
            moments.append(state[own])
    x, d = torch.cat(values).double(), (torch.cat(moments).double() / (1 - 0.999)).sqrt() + 1e-8
    if metric == "euclidean":
        d = torch.ones_like(d)
    one = groups.read()[number]
    (vanishing,) = GroupLasso(0.0).vanishing([one.tensor], 1e-3, one.metrics)
    expected = (d * x).norm() / (1e-3 * math.sqrt(len(x)))
    assert float(vanishing[channel]) == pytest.approx(float(expected), rel=1e-4)


def test_the_penalty_on_a_channel_is_in_proportion_to_what_its_removal_saves() -> None:
    _, channels, optimizer = made()
    groups = CoupledGroups(channels, optimizer)
    for _ in range(2):
        prices = [
            one.factor * math.sqrt(len(one.tensor)) / channels.saving(number)
            for number, one in enumerate(groups.read())
        ]
        assert prices == pytest.approx([prices[0]] * len(prices))
        assert sum(one.factor for one in groups.read()) == pytest.approx(len(prices))
        groups.remove(0, 0)


class Toy:
    """A regression in which only some inputs matter, each to another degree, solved by two convolutions."""

    def __init__(self, seed: int, channels: int = 24) -> None:
        torch.manual_seed(seed)
        self.images = torch.randn(64, channels, 1, 1)
        worth = torch.logspace(0, -2, channels).view(1, -1, 1, 1)
        self.targets = (self.images * worth).sum(1, keepdim=True)
        self.model = nn.Sequential(nn.Conv2d(channels, 16, 1), nn.Conv2d(16, 1, 1))
        self.optimizer = ProximalAdamW(list(self.model.parameters()), lr=3e-3)
        self.groups: Penalised = BackboneGroups(list(grouped_layers(self.model)), [1.0, 1.0], self.optimizer)

    def step(self, one: PenaltyToTarget) -> float:
        self.optimizer.zero_grad()
        loss = (self.model(self.images) - self.targets).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        one.observe()
        self.optimizer.step()
        one.apply()
        return float(loss.detach())


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    target=st.floats(0.0, 1.0),
    window=st.sampled_from([1, 3, 30, 120]),
    penalty=st.sampled_from(["group_lasso", "group_mcp"]),
)
def test_a_target_is_held_however_hard_and_however_short(seed: int, target: float, window: int, penalty: str) -> None:
    toy = Toy(seed)
    one = PenaltyToTarget(toy.groups, PENALTIES[penalty](0.0), target, (5, 5 + window))
    for _ in range(5 + window):
        toy.step(one)
    zero = 1 - measure_sparsity(toy.model).group_sparsity
    assert zero == pytest.approx(one.left)
    assert abs(zero - target) <= 0.5 / 40 + 1e-9, "the nearest number of the 40 groups"
    assert one.strength == 0


def test_what_is_left_follows_the_plan_and_what_matters_stays() -> None:
    toy = Toy(0)
    one = PenaltyToTarget(toy.groups, GroupLasso(0.0), 0.4, (100, 500))
    left = []
    for _ in range(500):
        toy.step(one)
        left.append(one.left)
    assert left[99] == 1
    assert abs(left[300] - 0.6) < 0.3
    alive = toy.groups.alive[0].tolist()
    assert alive == sorted(alive, reverse=True), "the inputs that matter most"
    assert 1 <= sum(alive) < 24


def test_after_the_end_the_rest_trains_as_without_a_penalty() -> None:
    """Against the same network with its zeros masked, and torch's own AdamW: equal to the bit."""
    toy = Toy(0)
    one = PenaltyToTarget(toy.groups, GroupLasso(0.0), 0.5, (10, 60))
    for _ in range(60):
        toy.step(one)
    twin = copy.deepcopy(toy.model)
    other = torch.optim.AdamW(twin.parameters(), lr=3e-3, weight_decay=0.0, fused=True)
    other.load_state_dict(
        {
            "state": copy.deepcopy(toy.optimizer.state_dict()["state"]),
            "param_groups": other.state_dict()["param_groups"],
        }
    )
    for _ in range(20):
        toy.step(one)
        other.zero_grad()
        (twin(toy.images) - toy.targets).square().mean().backward()
        other.step()
        with torch.no_grad():
            for layer, alive in zip(twin.children(), toy.groups.alive, strict=True):
                layer.weight *= alive.view(1, -1, 1, 1)  # type: ignore[operator]
    for mine, theirs in zip(toy.model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def trial(target: float = 0.3, **fields: Any) -> TrialConfig:
    base: dict[str, Any] = {"compressor": "penalty_to_target", "target_macs": target, "strength": 0.0, "epochs": 6}
    return config(**base | fields)


def trained(one: TrialConfig) -> tuple[Training, dict[str, float]]:
    training = Training(one, TASKS, arrays(), CPU)
    while not training.done:
        training.run_epoch()
    return training, training.test()


@pytest.mark.parametrize("target", [0.5, 0.1])
@pytest.mark.parametrize("metric", ["adaptive", "euclidean"])
def test_tied_groups_are_removed_everywhere(target: float, metric: str) -> None:
    """The cost by which the target is met is that of the compacted network."""
    training, result = trained(trial(target, metric=metric, epochs=3))
    whole = count_macs(build_model(config(), TASKS), SIZE)
    groups = training.compression._groups  # type: ignore[union-attr]
    assert isinstance(groups, CoupledGroups)
    training.model.eval()
    small = compact(training.model, torch.zeros(1, 3, *SIZE), selections="always", memory_format="channels_last")
    assert count_macs(small, SIZE) == result["model_macs"] == groups.channels.macs()
    assert abs(result["model_macs"] / whole - target) <= 0.02


@pytest.mark.parametrize("sparsity", [0.7, 0.05, 1.0])
def test_a_target_on_group_sparsity_is_the_one_that_results_report(sparsity: float) -> None:
    training, result = trained(trial(1.0, target_group_sparsity=sparsity, penalty="group_mcp", epochs=3))
    assert abs(result["group_sparsity"] - sparsity) <= 0.005
    assert training.best_epoch >= 1


@pytest.mark.parametrize("fields", [{"target_macs": 0.3}, {"target_macs": 1.0, "target_group_sparsity": 0.7}])
@pytest.mark.parametrize("stop", [2, 5])
def test_a_resumed_trial_is_the_unbroken_one(fields: dict[str, Any], stop: int) -> None:
    one = trial(**{"target": fields.pop("target_macs", 1.0)} | fields)
    whole, result = trained(one)
    first = Training(one, TASKS, arrays(), CPU)
    for _ in range(stop):
        first.run_epoch()
    second = Training(one, TASKS, arrays(), CPU)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    while not second.done:
        second.run_epoch()
    assert second.test() == result
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_a_target_below_one_channel_a_layer_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^target_macs = 1e-05; allowed: 0\.\d+ or more"):
        Training(trial(1e-5), TASKS, arrays(), CPU)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"target_group_sparsity": 0.5}, "target_group_sparsity = 0.5 with compressor penalty_to_target and"),
        ({"compressor": "selection", "target_group_sparsity": 0.5}, "0.5 with compressor selection"),
        ({"penalty": "l1"}, "penalty = l1 with compressor penalty_to_target; allowed: group_lasso, group_mcp"),
        ({"strength": 0.1}, "compressor penalty_to_target with a penalty"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trial(**fields)


def test_trials_of_other_targets_are_other_trials_of_one_setup() -> None:
    made_to = [trial(0.3), trial(0.7), trial(1.0, target_group_sparsity=0.3), trial(1.0, target_group_sparsity=0.7)]
    assert len({one.trial_id for one in made_to}) == 4
    assert {one.setup_id for one in made_to} == {config(epochs=6).setup_id}
