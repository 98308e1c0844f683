"""What is measured as a group, and what has none and is refused by name."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mtl.errors import BadInput
from mtl.networks.model import MultiTaskModel, build_model
from mtl.proximal.groups import plain_convolutions
from mtl.sparsity import measure_sparsity, surviving_groups
from mtl.task_weighting.equal import EqualWeighting
from mtl.training import make_optimizer
from tests.support.small import TASKS, config

OTHERS = {
    "grouped": (lambda: nn.Conv2d(4, 8, 3, groups=2), "groups = 2"),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4), "groups = 4"),
    "transposed": (lambda: nn.ConvTranspose2d(4, 8, 3), "a transposed convolution"),
    "transposed depthwise": (lambda: nn.ConvTranspose2d(4, 4, 3, groups=4), "a transposed convolution"),
}


def with_backbone(layer: nn.Module) -> MultiTaskModel:
    """A trial's model whose backbone has this layer at `odd.1`."""
    model = build_model(config(), TASKS)
    model.backbone.add_module("odd", nn.Sequential(nn.Conv2d(3, 4, 1), layer))
    return model


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize(
    "use",
    [measure_sparsity, surviving_groups, lambda model: make_optimizer(model, EqualWeighting(TASKS), config())],
    ids=["measure_sparsity", "surviving_groups", "make_optimizer"],
)
def test_a_convolution_whose_columns_are_no_input_channels_is_refused_by_name(
    kind: str, use: Callable[[MultiTaskModel], object]
) -> None:
    make, found = OTHERS[kind]
    with pytest.raises(BadInput) as caught:
        use(with_backbone(make()))
    said = str(caught.value)
    assert said.startswith(f"layer odd.1: {'' if 'transposed' in found else 'a convolution with '}{found}; allowed: ")
    assert "\n" not in said


def test_any_module_is_refused_alike_and_heads_are_no_part_of_a_model_with_a_backbone() -> None:
    with pytest.raises(BadInput, match="layer 1: a convolution with groups = 4"):
        measure_sparsity(nn.Sequential(nn.Conv2d(3, 4, 1), OTHERS["depthwise"][0]()))
    with pytest.raises(BadInput, match="layer ConvTranspose2d: "):
        measure_sparsity(OTHERS["transposed"][0]())
    model = build_model(config(), TASKS)
    model.heads["depth"].add_module("upsample", nn.ConvTranspose2d(1, 1, 2))
    assert measure_sparsity(model).group_sparsity == 0
    assert make_optimizer(model, EqualWeighting(TASKS), config()) is not None


def test_plain_convolutions_are_counted_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 1), nn.Linear(2, 2))
    assert [name for name, _ in plain_convolutions(network)] == ["0", "2"]
    with torch.no_grad():
        network[0].weight[:, 1] = 0
        network[2].weight[:, :3] = 0
        network[2].weight[0] = 0
    found = measure_sparsity(network)
    assert found.group_sparsity == (1 + 3) / (3 + 5)
    assert found.parameter_sparsity == (5 * 9 + 3 * 2 + 2) / (3 * 5 * 9 + 5 * 2)
