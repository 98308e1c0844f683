"""Small networks of timm's families, as backbones of a multi-task model."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from mtl.networks.heads import make_head
from mtl.networks.model import MultiTaskModel
from tests.support.small import TASKS, config

SIZE = (32, 48)
# Depthwise convolutions with squeeze-and-excite and hard swishes; with swishes; with GroupNorms; norms over channels;
# convolutions with groups; attention.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "mobilenetv3": ("mobilenetv3_small_050", {}),
    "efficientnet": ("test_efficientnet", {}),
    "efficientnet, group norms": ("test_efficientnet_gn", {}),
    "convnext": ("test_convnext", {}),
    "regnet": ("regnety_002", {"depth": 7}),
    "vit": ("test_vit", {"img_size": SIZE}),
}


class Features(nn.Module):
    """(N, 3, 32, 48) -> (N, out_channels, h, w), the last features of one of timm's networks."""

    def __init__(self, family: str) -> None:
        super().__init__()
        name, settings = FAMILIES[family]
        self.network = timm.create_model(name, pretrained=False, num_classes=0, **settings)
        self.patches = (SIZE[0] // 16, SIZE[1] // 16) if family == "vit" else None
        with torch.no_grad():
            self.out_channels: int = self.eval()(torch.zeros(1, 3, *SIZE)).shape[1]
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.network.forward_features(images)
        if self.patches is None:
            return features
        tokens = features[:, self.network.num_prefix_tokens :]
        return tokens.transpose(1, 2).unflatten(2, self.patches)


def family_model(family: str) -> MultiTaskModel:
    """With a dense head and one for classes; what starts at zero is random, so that it hides nothing."""
    torch.manual_seed(0)
    backbone = Features(family)
    tasks = (TASKS[0], TASKS[3])
    heads = config(head_channels=8, head_rates=(1, 2))
    model = MultiTaskModel(backbone, {task.name: make_head(backbone.out_channels, task, heads) for task in tasks})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.where(parameter.abs() < 1e-5, 0.1 * torch.randn_like(parameter), parameter))
    return model
