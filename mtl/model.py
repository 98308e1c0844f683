"""Hard parameter sharing: one backbone, run once, and a head for each task."""

from collections.abc import Sequence

from torch import Tensor, nn

from mtl.backbones import DilatedResNet
from mtl.config import TrialConfig
from mtl.heads import make_head
from mtl.tasks import Task


class MultiTaskModel(nn.Module):
    """(N, 3, H, W) normalised images -> {task: (N, channels, H / 8, W / 8), or (N, 1) for a binary label}."""

    def __init__(self, backbone: DilatedResNet, heads: dict[str, nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.backbone(images)
        return {name: head(features) for name, head in self.heads.items()}


def build_model(config: TrialConfig, tasks: Sequence[Task]) -> MultiTaskModel:
    """The untrained model of a trial. Its weights come from torch's global generator."""
    backbone = DilatedResNet(config.backbone, config.backbone_width, config.backbone_layers)
    heads = {t.name: make_head(backbone.out_channels, t, config.head_channels, config.head_rates) for t in tasks}
    return MultiTaskModel(backbone, heads)
