"""What is measured as a group, and what has none and is refused by name."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from mtl.errors import BadInput
from mtl.networks.model import MultiTaskModel, build_model
from mtl.optimizer import penalised_parameters
from mtl.penalties import GroupLasso
from mtl.proximal.layers import grouped_layers
from mtl.sparsity import measure_sparsity, surviving_groups
from mtl.task_weighting.equal import EqualWeighting
from mtl.training import make_optimizer
from tests.support.small import TASKS, config


class Standardised(nn.Conv2d):
    """Its weights are standardised before they are used, so that zeros are none."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.flatten(1)
        return F.conv2d(x, ((flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)).view_as(self.weight))


class Padded(nn.Conv2d):
    """A forward of its own that uses the weights as they are."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (1, 1, 1, 1)))


OTHERS = {
    "1-D": (lambda: nn.Conv1d(4, 8, 3), "Conv1d; allowed: "),
    "3-D": (lambda: nn.Conv3d(4, 8, 3), "Conv3d; allowed: "),
    "standardised": (lambda: Standardised(4, 8, 3), "Standardised, which still reads an input channel whose weights"),
    "computed": (lambda: weight_norm(nn.Conv2d(4, 8, 3)), "with a computed weight; allowed: "),
    "keys of another size": (lambda: nn.MultiheadAttention(8, 2, kdim=4), "MultiheadAttention; allowed: "),
    "recurrent": (lambda: nn.LSTM(4, 4), "LSTM; allowed: "),
}


def with_backbone(layer: nn.Module) -> MultiTaskModel:
    """A trial's model whose backbone has this layer at `odd.1`."""
    model = build_model(config(), TASKS)
    model.backbone.add_module("odd", nn.Sequential(nn.Conv2d(3, 4, 1), layer))
    return model


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize(
    "use",
    [
        measure_sparsity,
        surviving_groups,
        lambda model: make_optimizer(model, EqualWeighting(TASKS), config()),
        lambda model: penalised_parameters(model.backbone, GroupLasso(1.0)),
    ],
    ids=["measure_sparsity", "surviving_groups", "make_optimizer", "penalised_parameters"],
)
def test_a_layer_whose_groups_are_not_known_is_refused_by_name(
    kind: str, use: Callable[[MultiTaskModel], object]
) -> None:
    make, found = OTHERS[kind]
    with pytest.raises(BadInput) as caught:
        use(with_backbone(make()))
    said = str(caught.value)
    assert said.startswith("layer odd.1: ")
    assert found in said
    assert "; allowed: " in said
    assert "\n" not in said


def test_any_module_is_refused_alike_and_heads_are_no_part_of_a_model_with_a_backbone() -> None:
    with pytest.raises(BadInput, match="layer 1: Conv1d"):
        measure_sparsity(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv1d(4, 4, 1)))
    with pytest.raises(BadInput, match="layer Conv3d: "):
        measure_sparsity(nn.Conv3d(2, 2, 1))
    model = build_model(config(), TASKS)
    model.heads["depth"].add_module("upsample", nn.Conv1d(1, 1, 2))
    assert measure_sparsity(model).group_sparsity == 0
    assert make_optimizer(model, EqualWeighting(TASKS), config()) is not None


def test_layers_are_counted_by_hand() -> None:
    depthwise, transposed = nn.Conv2d(4, 8, 3, groups=4), nn.ConvTranspose2d(8, 6, 2)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), depthwise, transposed, Padded(6, 2, 1), nn.Linear(2, 5))
    assert [name for name, _, _ in grouped_layers(network)] == ["0", "1", "2", "3", "4"]
    with torch.no_grad():
        network[0].weight[:, 1] = 0
        depthwise.weight[2:6] = 0  # channels 1 and 2
        depthwise.weight[0] = 0  # half of channel 0
        transposed.weight[3] = 0
        transposed.weight[:, 0] = 0  # no channel that it reads
        network[4].weight[:, 1] = 0
    found = measure_sparsity(network)
    assert [layer.groups for layer in found.layers] == [3, 4, 8, 6, 2]
    assert [layer.zero_groups for layer in found.layers] == [1, 2, 1, 0, 1]
    assert [layer.weights_in_zero_groups for layer in found.layers] == [4 * 9, 4 * 9, 6 * 4, 0, 5]
    assert [layer.zero_weights for layer in found.layers] == [4 * 9, 5 * 9, 6 * 4 + 7 * 4, 0, 5]
    assert found.group_sparsity == 5 / 23
    assert {name: int((~alive).sum()) for name, alive in surviving_groups(network).items()} == {
        "0": 1, "1": 2, "2": 1, "3": 0, "4": 1,
    }  # fmt: skip


def test_a_weight_of_two_layers_counts_once() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    assert len(measure_sparsity(network).layers) == 1
    assert len(penalised_parameters(network, GroupLasso(1.0))[0]["params"]) == 1
