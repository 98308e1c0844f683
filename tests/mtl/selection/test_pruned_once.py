"""Trained, pruned once and trained on: the channels go that Torch-Pruning removes by hand, at the cost asked for."""

import copy
from typing import Any

import pytest
import torch
import torch_pruning as tp  # type: ignore[import-untyped]
from torch import Tensor, nn

from mtl.compaction import compact
from mtl.config import TrialConfig
from mtl.networks.measurement import count_macs
from mtl.networks.model import MultiTaskModel, build_model, last_layer
from mtl.selection.compression import channel_groups
from mtl.selection.groups import ChannelGroups
from mtl.selection.pruned_once import SHARE_A_STEP, Criterion, PrunedOnce, prune
from mtl.training import Training
from tests.support.small import TASKS, arrays, config

CPU, SIZE = torch.device("cpu"), (32, 48)
IMAGES = torch.zeros(1, 3, *SIZE)
COMPRESSORS = ("torch_pruning_norm", "torch_pruning_taylor")


def made(**fields: Any) -> tuple[MultiTaskModel, ChannelGroups]:
    torch.manual_seed(0)
    model = build_model(config(**fields), TASKS)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
    return model, channel_groups(model, SIZE)


def gradients_of(model: MultiTaskModel) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}


def by_hand(model: MultiTaskModel, criterion: Criterion, steps: int) -> MultiTaskModel:
    """What the examples of Torch-Pruning do, with its own removal."""
    pruned = copy.deepcopy(model).eval()
    for name, parameter in pruned.named_parameters():
        parameter.grad = gradients_of(model)[name]
    normed = tp.importance.GroupMagnitudeImportance(normalizer="max")
    importance = normed if criterion == "norm" else tp.importance.GroupTaylorImportance()
    total = sum(group.size for group in channel_groups(model, SIZE).groups)
    most = round(SHARE_A_STEP * total)
    pruner = tp.pruner.BasePruner(
        pruned, IMAGES, importance, global_pruning=criterion == "norm", iterative_steps=total // most,
        iterative_pruning_ratio_scheduler=lambda _, count: [most * step / total for step in range(count + 1)],
        ignored_layers=[last_layer(head) for head in pruned.heads.values()],
    )  # fmt: skip
    for _ in range(steps):
        pruner.step()
    return pruned


@pytest.mark.parametrize("criterion", ["norm", "taylor"])
@pytest.mark.parametrize(("backbone", "steps"), [("resnet18", 1), ("resnet18", 25), ("resnet50", 6)])
def test_the_channels_are_those_that_torch_pruning_removes(backbone: str, criterion: Criterion, steps: int) -> None:
    """Its model, from which it has taken them, gives what ours gives with the same channels at zero."""
    model, groups = made(backbone=backbone)
    pruned = by_hand(model, criterion, steps)
    macs = count_macs(pruned, SIZE)
    assert macs < groups.macs()
    prune(model, groups, SIZE, macs, gradients_of(model) if criterion == "taylor" else None)
    assert groups.macs() == macs
    groups.clear()
    images = torch.randn(2, 3, *SIZE)
    model.eval()
    with torch.no_grad():
        for name, output in model(images).items():
            torch.testing.assert_close(pruned(images)[name], output, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("criterion", ["norm", "taylor"])
@pytest.mark.parametrize("target", [0.5, 0.1, 0.02])
def test_no_more_goes_than_the_target_asks_for(criterion: Criterion, target: float) -> None:
    model, groups = made()
    full = groups.macs()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prune(model, groups, SIZE, target * full, gradients_of(model) if criterion == "taylor" else None)
    assert target - (0.01 if criterion == "norm" else 0.03) < groups.macs() / full <= target
    assert all(alive.any() for alive in groups.alive)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("criterion", ["norm", "taylor"])
def test_down_to_a_single_channel_in_each_layer(criterion: Criterion) -> None:
    """Where the pruner's larger steps would take layers whole, which it refuses, it goes on channel by channel."""
    model, groups = made()
    prune(model, groups, SIZE, groups.smallest_macs(), gradients_of(model) if criterion == "taylor" else None)
    assert [int(alive.sum()) for alive in groups.alive] == [1] * len(groups.groups)


def trial(compressor: str, **fields: Any) -> TrialConfig:
    return config(compressor=compressor, target_macs=0.3, strength=0.0, epochs=4, head_channels=4, **fields)


def trained(one: TrialConfig, stop: int | None = None) -> tuple[Training, dict[str, float]]:
    training = Training(one, TASKS, arrays(), CPU)
    while not training.done:
        if training.epochs_run == stop:
            state, training = training.state_dict(), Training(one, TASKS, arrays(), CPU)
            training.load_state_dict(state)
        training.run_epoch()
    return training, training.test()


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_a_trial_prunes_once_is_chosen_after_it_and_resumes_to_equal_numbers(compressor: str) -> None:
    one = trial(compressor, prune_at=0.6)  # within the third epoch: gradients are collected over two
    training, result = trained(one)
    sparsities = [row["group_sparsity"] for row in training.history]
    assert sparsities[:2] == [0, 0]
    assert sparsities[2] == sparsities[3] == result["group_sparsity"] > 0.3
    assert training.best_epoch >= 2
    training.model.eval()
    small = compact(training.model, IMAGES, selections="always", memory_format="channels_last")
    assert 0.27 <= count_macs(small, SIZE) / count_macs(build_model(config(head_channels=4), TASKS), SIZE) <= 0.3
    again, same = trained(one, stop=2)
    assert same == result
    for name, value in training.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name


@pytest.mark.parametrize("compressor", COMPRESSORS)
def test_it_trains_as_the_dense_network_until_then(compressor: str) -> None:
    """But for the sparse training of group norms, which makes weights smaller from the first step on."""
    training = Training(trial(compressor), TASKS, arrays(), CPU)
    dense = Training(config(strength=0.0, epochs=4, head_channels=4), TASKS, arrays(), CPU)
    ours, theirs = training.run_epoch(), dense.run_epoch()
    assert (ours["val_depth_loss"] == theirs["val_depth_loss"]) == (compressor == "torch_pruning_taylor")


def test_taylor_sums_the_gradients_of_the_steps_before_the_pruning() -> None:
    model, groups = made()
    one = PrunedOnce(model, groups, SIZE, "taylor", 0.5, step=4, watched=2)
    for step in range(4):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, 10.0**step)
        one.observe()
        if step == 3:
            assert all((gradient == 1100).all() for gradient in one.state_dict()["gradients"].values())
        one.apply()
    assert one.last_step == 4
    assert groups.macs() <= 0.5 * channel_groups(model, SIZE).macs()
    assert not one.state_dict()["gradients"]


def test_a_group_of_one_channel_does_not_spoil_the_gradients() -> None:
    """The regularizer divides by the range of a group's norms."""
    model, groups = made(backbone_width=1, head_channels=1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    PrunedOnce(model, groups, SIZE, "norm", 0.9, step=4, watched=2).observe()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
