"""The network: torchvision's own ResNet at full width, one backbone pass for all heads, sparsity counted by hand."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet50

from mtl.errors import BadInput
from mtl.networks.backbones import DilatedResNet
from mtl.networks.model import build_model
from mtl.sparsity import measure_sparsity
from tests.support.small import TASKS, config


def test_full_width_is_torchvisions_dilated_resnet50() -> None:
    torch.manual_seed(0)
    reference = resnet50(weights=None, replace_stride_with_dilation=[False, True, True]).eval()
    ours = DilatedResNet("resnet50").eval()
    state = {name: value for name, value in reference.state_dict().items() if not name.startswith("fc.")}
    ours.load_state_dict(state)  # strict: the very same names and shapes
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features = ours(x)
        expected = reference.layer1(reference.maxpool(reference.relu(reference.bn1(reference.conv1(x)))))
        expected = reference.layer4(reference.layer3(reference.layer2(expected)))
    assert features.shape == (1, 2048, 8, 12)
    assert torch.equal(features, expected)


def test_groups_of_resnet50_by_hand() -> None:
    """3 at the stem; a bottleneck of p planes reads its input, p and p channels, and its shortcut the input again."""
    expected, inputs = 3, 64
    for planes, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            expected += inputs + 2 * planes + (inputs if block == 0 else 0)
            inputs = 4 * planes
    assert sum(layer.groups for layer in measure_sparsity(DilatedResNet("resnet50")).layers) == expected == 22_531


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 50)])
def test_output_stride_is_8_at_any_width(name: str, height: int, width: int) -> None:
    backbone = DilatedResNet(name, width=4, layers=(1, 2, 1, 1)).eval()
    features = backbone(torch.zeros(1, 3, height, width))
    assert features.shape == (1, backbone.out_channels, -(-height // 8), -(-width // 8))


def test_unknown_backbone_lists_the_known() -> None:
    with pytest.raises(BadInput, match=r"'vgg'; allowed: resnet18, .*resnet152"):
        DilatedResNet("vgg")


def test_one_backbone_pass_for_all_heads() -> None:
    model = build_model(config(), TASKS).eval()
    calls: list[int] = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    outputs = model(torch.zeros(2, 3, 32, 48))
    assert calls == [1]
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {
        "segmentation": (2, 6, 4, 6),
        "depth": (2, 1, 4, 6),
        "normals": (2, 3, 4, 6),
        "light": (2, 3),
        "male": (2, 1),
    }


def test_sparsity_by_hand() -> None:
    net = nn.Sequential(nn.Conv2d(4, 2, 3), nn.Conv2d(2, 5, 1), nn.Linear(3, 3))
    with torch.no_grad():
        net[0].weight[:, 1] = 0
        net[0].weight[:, 3] = 0
        net[0].weight[0, 0, 0, 0] = 0
        net[1].weight[:, 0] = 0
    sparsity = measure_sparsity(net)
    assert sparsity.group_sparsity == pytest.approx(3 / 9)
    assert sparsity.parameter_sparsity == pytest.approx((36 + 1 + 5) / (72 + 10 + 9))
    first, second, linear = sparsity.layers
    assert (first.name, first.groups, first.zero_groups, first.weights) == ("0", 4, 2, 72)
    assert (first.weights_in_zero_groups, first.zero_weights) == (36, 37)
    assert (second.name, second.zero_groups) == ("1", 1)
    assert (linear.name, linear.groups, linear.zero_groups) == ("2", 3, 0)


def test_sparsity_is_the_backbones_alone() -> None:
    model = build_model(config(), TASKS)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.zero_()
    assert measure_sparsity(model).group_sparsity == 0
    assert measure_sparsity(nn.Linear(2, 2)).group_sparsity == 0
