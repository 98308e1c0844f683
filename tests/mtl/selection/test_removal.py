"""Channels that are gone leave the network in training: it trains on to the same numbers, with less to compute."""

import copy

import pytest
import torch
from torch import nn

from mtl.networks.model import MultiTaskModel, build_model
from mtl.optimizer import ProximalAdamW
from mtl.selection.compression import channel_groups
from mtl.selection.removal import Removal
from tests.support.channels import check_training_on, drop_some
from tests.support.small import TASKS, config

SIZE = (32, 48)


class Run:
    """A training in float64 without dropout, which draws other numbers for fewer channels."""

    def __init__(self, model: MultiTaskModel) -> None:
        self.model, self.groups = model, channel_groups(model, SIZE)
        self.model.double().train()
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        self.optimizer = ProximalAdamW(self.model.parameters(), lr=1e-3, weight_decay=0.1)
        self.removal = Removal(self.model)

    def steps(self, count: int, generator: torch.Generator) -> None:
        for _ in range(count):
            images = torch.randn(4, 3, *SIZE, dtype=torch.float64, generator=generator)
            self.optimizer.zero_grad()
            sum((output - 1).square().mean() for output in self.model(images).values()).backward()  # type: ignore[union-attr]
            self.optimizer.step()
            self.groups.clear()


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_training_on_without_them_is_training_on_with_zeros(backbone: str) -> None:
    torch.manual_seed(0)
    model = build_model(config(backbone=backbone), TASKS)
    check_training_on(Run(copy.deepcopy(model)), Run(model), SIZE, steps=3, tolerance=1e-10)


def test_the_optimizer_goes_on_with_what_is_left() -> None:
    torch.manual_seed(0)
    run = Run(build_model(config(), TASKS))
    run.steps(1, torch.Generator().manual_seed(0))
    before = len(run.optimizer.state)
    drop_some(run.groups, 0.5, torch.Generator().manual_seed(0))
    run.removal.remove(run.groups, run.optimizer)
    known = [p for group in run.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in known} == {id(p) for p in run.model.parameters()}
    assert len(run.optimizer.state) == before
    for p in known:
        assert run.optimizer.state[p]["exp_avg"].shape == p.shape
        assert run.optimizer.state[p]["step"] == 1


def test_a_model_that_has_lost_nothing_is_the_whole_one() -> None:
    model = build_model(config(), TASKS)
    assert Removal(model).whole() is model
