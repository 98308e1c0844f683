"""Selection of channels: coupled ones go together, the cost is counted as compaction leaves it, targets are held."""

from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from mtl.compaction import certify, compact
from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.networks.measurement import count_macs
from mtl.networks.model import MultiTaskModel, build_model, last_layer
from mtl.networks.smaller import depths, resized
from mtl.selection.groups import ChannelGroups
from mtl.selection.selector import Importance, Selector
from mtl.training import Training
from tests.support.channels import drop_some
from tests.support.small import TASKS, arrays, config

CPU = torch.device("cpu")
IMAGES = torch.zeros(1, 3, 32, 48)


def made(**fields: Any) -> tuple[MultiTaskModel, ChannelGroups]:
    torch.manual_seed(0)
    model = build_model(config(**fields), TASKS)
    for module in model.modules():  # as after a training: no batch norm is the identity
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
    return model, ChannelGroups(model, IMAGES, [last_layer(head) for head in model.heads.values()])


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@settings(max_examples=4)
@given(seed=st.integers(0, 2**31), share=st.floats(0.1, 0.9))
def test_what_goes_is_removed_by_compaction_and_nothing_else_changes(backbone: str, seed: int, share: float) -> None:
    """The cost that is counted is the cost of the compacted model: a tied zero removes its channel everywhere."""
    model, groups = made(backbone=backbone)
    assert groups.macs() == count_macs(model, (32, 48))
    generator = torch.Generator().manual_seed(seed)
    drop_some(groups, share, generator)
    model.eval()
    small = compact(model, IMAGES, selections="always", memory_format="channels_last")
    assert count_macs(small, (32, 48)) == groups.macs()
    certify(model, small, [torch.randn(3, 3, 32, 48, generator=generator)], 1e-4)


def test_savings_are_what_the_next_channel_saves() -> None:
    _, groups = made()
    for number in range(len(groups.groups)):
        saving, before = groups.saving(number), groups.macs()
        groups.remove(number, 0)
        assert before - groups.macs() == pytest.approx(saving)
    after = groups.macs()
    groups.keep(groups.alive)
    assert groups.macs() == after, "counted channel by channel or at once"


def test_heads_and_residual_streams_are_among_the_groups_and_outputs_are_not() -> None:
    model, groups = made()
    written = [{m.name for m in group.members if m.kind == "out"} for group in groups.groups]
    assert not any(name in {f"heads.{task.name}.4" for task in TASKS} for names in written for name in names)
    assert any({"backbone.layer1.0.conv2", "backbone.conv1"} <= names for names in written), "one residual stream"
    assert any(name.startswith("heads.depth.") for names in written for name in names)
    left = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(left) > len(groups.groups)


def selector(target: float, importance: Importance = "random", **fields: Any) -> tuple[MultiTaskModel, Selector]:
    model, groups = made(**fields)
    return model, Selector(groups, importance, target, (10, 60), seed=0)


@pytest.mark.parametrize("importance", ["magnitude", "random"])
@pytest.mark.parametrize("target", [0.5, 0.1])
def test_the_target_is_held_and_shares_fall_on_the_way(importance: Importance, target: float) -> None:
    _, one = selector(target, importance)
    shares = []
    for _ in range(70):
        one.observe()
        one.apply()
        shares.append(one.share)
    assert shares[:10] == [1] * 10
    assert shares == sorted(shares, reverse=True)
    assert target - 0.02 <= shares[59] <= target
    assert shares[59:] == [shares[59]] * 11, "no channel goes after the end"


def test_a_target_below_one_channel_a_layer_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^target_macs = 1e-05; allowed: 0\.\d+ or more, what one channel in each"):
        selector(1e-5)


def test_the_worth_is_what_the_loss_loses_to_first_order() -> None:
    """Of a channel scaled by s in all its batch norms the loss changes by the gain times s - 1."""
    model, one = selector(0.5, "taylor")
    images = torch.randn(4, 3, 32, 48)

    def loss() -> Tensor:
        model.train()
        torch.manual_seed(0)  # of the heads' dropout
        return torch.stack([output.square().mean() for output in model(images).values()]).sum()

    loss().backward()
    gains = one._gains()
    number = next(i for i, group in enumerate(one.groups.groups) if len(group.members) > 4)  # a residual stream
    group, channel, step = one.groups.groups[number], 3, 1e-2
    values = []
    for scale in (1 - step, 1 + step):
        kept = {name: value.clone() for name, value in model.state_dict().items()}
        with torch.no_grad():
            for member in group.members:
                if member.kind == "norm":
                    own = member.index[member.group == channel]
                    member.module.weight[own] *= scale  # type: ignore[index, operator]
                    member.module.bias[own] *= scale  # type: ignore[index, operator]
        values.append(loss().item())
        model.load_state_dict(kept)
    assert (values[1] - values[0]) / (2 * step) == pytest.approx(float(gains[number][channel]), rel=0.05)


def trial(compressor: str = "selection", target: float = 0.3, **fields: Any) -> TrialConfig:
    return config(compressor=compressor, target_macs=target, strength=0.0, epochs=6, **fields)


def trained(one: TrialConfig) -> tuple[Training, dict[str, float]]:
    training = Training(one, TASKS, arrays(), CPU)
    while not training.done:
        training.run_epoch()
    return training, training.test()


def test_a_trial_keeps_to_its_target_and_is_chosen_after_its_channels_are() -> None:
    training, result = trained(trial())
    sparsities = [row["group_sparsity"] for row in training.history]
    assert sparsities[0] == 0
    assert sparsities == sorted(sparsities)
    assert len(set(sparsities[3:])) == 1, "0.6 of 6 epochs: from the fourth on nothing goes"
    assert training.best_epoch >= 3
    assert result["group_sparsity"] == sparsities[-1] > 0.3
    training.model.eval()
    small = compact(training.model, IMAGES, selections="always", memory_format="channels_last")
    whole = count_macs(build_model(config(), TASKS), (32, 48))
    assert 0.27 <= count_macs(small, (32, 48)) / whole <= 0.3


def test_a_window_of_less_than_a_step_still_comes_to_its_target() -> None:
    training, result = trained(trial("magnitude", select_from=0.5, select_until=0.51))
    assert result["model_macs"] <= 0.3 * count_macs(build_model(config(), TASKS), (32, 48))
    assert training.best_epoch >= 3


@pytest.mark.parametrize("compressor", ["selection", "magnitude", "random"])
@pytest.mark.parametrize("stop", [2, 5])
def test_a_resumed_trial_is_the_unbroken_one(compressor: str, stop: int) -> None:
    one = trial(compressor, head_channels=4)
    whole, result = trained(one)
    first = Training(one, TASKS, arrays(), CPU)
    for _ in range(stop):
        first.run_epoch()
    second = Training(one, TASKS, arrays(), CPU)
    second.load_state_dict(first.state_dict())
    while not second.done:
        second.run_epoch()
    assert second.test() == result
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert [row | {"seconds": 0} for row in second.history] == [row | {"seconds": 0} for row in whole.history]


@pytest.mark.parametrize("target", [0.5, 0.25, 0.1])
def test_a_narrow_network_costs_no_more_than_its_target_and_the_next_wider_one_more(target: float) -> None:
    full = trial("narrow", target, backbone_width=16, head_channels=16)
    whole = count_macs(build_model(config(backbone_width=16, head_channels=16), TASKS), (32, 48))
    chosen = resized(full, TASKS)
    cost = count_macs(build_model(full, TASKS), (32, 48))
    width = chosen.backbone_width + 1
    wider = count_macs(build_model(config(backbone_width=width, head_channels=width), TASKS), (32, 48))
    assert cost <= target * whole < wider
    with pytest.raises(BadInput, match="allowed with narrow: "):
        resized(trial("narrow", 1e-4), TASKS)


def test_a_shallow_network_has_the_most_blocks_that_fit_and_loses_them_evenly() -> None:
    full = config(backbone="resnet50", backbone_layers=None)
    order = [one.backbone_layers for one in depths(full)]
    assert order[:6] == [(3, 4, 6, 3), (3, 4, 6, 2), (3, 4, 5, 2), (3, 3, 5, 2), (2, 3, 5, 2), (2, 3, 4, 2)]
    assert order[-1] == (1, 1, 1, 1)
    assert [sum(layers) for layers in order if layers] == list(range(16, 3, -1))
    costs = [count_macs(build_model(one, TASKS), (32, 48)) for one in depths(full)]
    for target in (0.9, 0.6):
        one = full.model_copy(update={"compressor": "shallow", "target_macs": target})
        chosen = next(layers for layers, cost in zip(order, costs, strict=True) if cost <= target * costs[0])
        assert resized(one, TASKS).backbone_layers == chosen
        assert count_macs(build_model(one, TASKS), (32, 48)) == costs[order.index(chosen)]
        assert build_model(one, TASKS).backbone.conv1.out_channels == 8  # type: ignore[union-attr]
    with pytest.raises(BadInput, match=r"^target_macs = 0\.01; allowed with shallow: 0\.\d+ or more"):
        resized(full.model_copy(update={"compressor": "shallow", "target_macs": 0.01}), TASKS)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"compressor": "selection", "strength": 0.1}, "compressor selection with a penalty"),
        ({"target_macs": 0.5}, "target_macs = 0.5 with a penalty"),
        ({"compressor": "path", "strength": 0.0}, "warm_started_from = '' with compressor path; allowed: a trial's id"),
        ({"warm_started_from": "abc"}, "warm_started_from = 'abc' with compressor penalty; allowed: a trial's id"),
        ({"select_from": 0.6, "select_until": 0.6}, "select_from = 0.6 and select_until = 0.6; allowed"),
        ({"compressor": "selection", "strength": 0.0, "target_macs": 0.0}, "greater than 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config(**fields)


def test_ids_of_trials_with_a_penalty_stay() -> None:
    assert config().trial_id == config(compressor="penalty", target_macs=1.0, select_from=0.2).trial_id
    assert (
        len({trial(target=target).trial_id for target in (0.2, 0.3)} | {config(strength=0.0, epochs=6).trial_id}) == 3
    )
    assert trial().setup_id == config(epochs=6).setup_id


def step_of_a_path(target: float, **fields: Any) -> TrialConfig:
    return trial("path", target, head_channels=4, warm_started_from="0" * 16, path_epochs=3, **fields)


def test_a_path_goes_on_from_the_model_before() -> None:
    """Each step has its own epochs, and channels that are gone do not come back."""
    before, _ = trained(trial(target=0.5, head_channels=4))
    start = {name: value.clone() for name, value in before.model.state_dict().items()}
    one = Training(step_of_a_path(0.2), TASKS, arrays(), CPU, start)
    # Before its first epoch it is the model that it starts from.
    assert one.compression is not None
    assert all(torch.equal(value, start[name]) for name, value in one.removal.whole().state_dict().items())
    cost = one.compression.groups.macs()
    assert cost == count_macs(one.model, (32, 48)) < 0.51 * count_macs(before.model, (32, 48))
    while not one.done:
        one.run_epoch()
    assert one.epochs_run == 3
    assert one.test()["model_macs"] <= 0.2 * count_macs(before.model, (32, 48)) < cost
    for name, survivors in before.survivors.items():
        assert not (one.survivors[name] & ~survivors).any(), name


@pytest.mark.parametrize("stop", [1, 2])
def test_a_resumed_step_of_a_path_is_the_unbroken_one(stop: int) -> None:
    torch.manual_seed(0)
    start = build_model(config(head_channels=4), TASKS).state_dict()
    whole, broken = (Training(step_of_a_path(0.3), TASKS, arrays(), CPU, start) for _ in range(2))
    for _ in range(stop):
        broken.run_epoch()
    resumed = Training(step_of_a_path(0.3), TASKS, arrays(), CPU)
    resumed.load_state_dict(broken.state_dict())
    for one in (whole, resumed):
        while not one.done:
            one.run_epoch()
    assert resumed.test() == whole.test()
    assert all(torch.equal(value, resumed.model.state_dict()[name]) for name, value in whole.model.state_dict().items())
