"""Hard parameter sharing: one backbone, run once, and a head for each task."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtl.config import TrialConfig
from mtl.errors import TrialFailed
from mtl.networks.backbones import DilatedResNet
from mtl.networks.heads import make_head
from mtl.networks.smaller import SIZES, resized
from mtl.tasks import Task


class MultiTaskModel(nn.Module):
    """(N, 3, H, W) normalised images -> {task: (N, channels, H / 8, W / 8)}, or (N, channels) if not dense.

    backbone: a DilatedResNet, or one without its zero channels (see `mtl.networks.retraining`).
    """

    def __init__(self, backbone: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.decode(self.backbone(images))

    def decode(self, features: Tensor) -> dict[str, Tensor]:
        """Each head's output from the backbone's features, (N, C, H / 8, W / 8)."""
        return {name: head(features) for name, head in self.heads.items()}

    @property
    def last_shared(self) -> nn.Conv2d:
        """The backbone's last convolution. Raises TrialFailed where nothing is left of the backbone."""
        if isinstance(self.backbone, DilatedResNet):
            return self.backbone.last_convolution
        convolutions = [module for module in self.backbone.modules() if isinstance(module, nn.Conv2d)]
        if not convolutions:
            raise TrialFailed("gradnorm needs a convolution of the backbone; the penalty has left none")
        return convolutions[-1]


def last_layer(head: nn.Module) -> nn.Conv2d | nn.Linear:
    """The layer whose output a head gives: its channels are the task's."""
    return [module for module in head.modules() if isinstance(module, nn.Conv2d | nn.Linear)][-1]


def start_from_constants(model: MultiTaskModel, constants: Mapping[str, Tensor]) -> None:
    """Let each head start from its task's best constant, (channels,), by the bias of its last layer.

    A depth head that starts at 0 m needs hundreds of steps to find that rooms are 3 m deep.
    """
    with torch.no_grad():
        for name, head in model.heads.items():
            layer = last_layer(head)
            assert layer.bias is not None
            layer.bias.copy_(constants[name])


def build_model(config: TrialConfig, tasks: Sequence[Task]) -> MultiTaskModel:
    """The untrained model of a trial. Its weights come from torch's global generator."""
    if config.compressor in SIZES:
        config = resized(config, tasks)
    backbone = DilatedResNet(config.backbone, config.backbone_width, config.backbone_layers)
    heads = {t.name: make_head(backbone.out_channels, t, config.head_channels, config.head_rates) for t in tasks}
    return MultiTaskModel(backbone, heads)
