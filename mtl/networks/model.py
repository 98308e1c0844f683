"""Hard parameter sharing: one backbone, run once, and a head for each task."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtl.config import TrialConfig, TrialSettings
from mtl.errors import TrialFailed
from mtl.network_fields import RESNETS, TIMM
from mtl.networks.backbones import DilatedResNet
from mtl.networks.heads import make_head
from mtl.networks.pyramid import PyramidBackbone
from mtl.networks.smaller import SIZES, resized
from mtl.networks.strided import make_safe
from mtl.tasks import Task

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)  # whose weights are matrices or kernels


class MultiTaskModel(nn.Module):
    """(N, 3, H, W) normalised images -> {task: (N, channels, h, w)}, or (N, channels) if not dense.

    backbone: images -> one map (N, out_channels, h, w), with the attribute `out_channels` (see `make_backbone`), or one
    without its zero channels (see `mtl.networks.retraining`). h, w are H / 8, W / 8 for our ResNets.
    """

    def __init__(self, backbone: nn.Module, heads: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict(heads)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.decode(self.backbone(images))

    def decode(self, features: Tensor) -> dict[str, Tensor]:
        """Each head's output from the backbone's features, (N, C, h, w)."""
        return {name: head(features) for name, head in self.heads.items()}

    @property
    def last_shared(self) -> nn.Conv2d | nn.ConvTranspose2d | nn.Linear:
        """The backbone's last convolution or linear layer. Raises TrialFailed where nothing is left of the backbone."""
        if isinstance(self.backbone, DilatedResNet):
            return self.backbone.last_convolution
        layers = [module for module in self.backbone.modules() if isinstance(module, LAYERS)]
        if not layers:
            raise TrialFailed("gradnorm needs a layer of the backbone; the penalty has left none")
        return layers[-1]


def shares_features(model: nn.Module) -> bool:
    """Whether a model has a backbone whose features all its heads read, as `MultiTaskModel` has: `backbone`, `heads` (a
    module for each task) and `decode`."""
    backbone, heads = getattr(model, "backbone", None), getattr(model, "heads", None)
    parts = isinstance(backbone, nn.Module) and isinstance(heads, nn.ModuleDict)
    return parts and callable(getattr(model, "decode", None))


def features_and_outputs(model: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The features that all outputs depend on, and the outputs; no features for a model that has none of its own."""
    if not shares_features(model):
        return images.new_empty(0), model(images)
    features = model.backbone(images)  # type: ignore[operator]
    return features, model.decode(features)  # type: ignore[operator]


def last_layer(head: nn.Module) -> nn.Conv2d | nn.Linear:
    """The layer whose output a head gives: its channels are the task's."""
    return [module for module in head.modules() if isinstance(module, nn.Conv2d | nn.Linear)][-1]


def start_from_constants(model: nn.Module, constants: Mapping[str, Tensor]) -> None:
    """Let each head start from its task's best constant, (channels,), by the bias of its last layer.

    A depth head that starts at 0 m needs hundreds of steps to find that rooms are 3 m deep. A model of the user's own
    starts so where it has `heads` that end in such layers.
    """
    heads = getattr(model, "heads", {})
    with torch.no_grad():
        for name, head in heads.items() if isinstance(heads, nn.ModuleDict) else ():
            layers = [module for module in head.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
            bias = layers[-1].bias if layers else None
            if name in constants and bias is not None and bias.shape == constants[name].shape:
                bias.copy_(constants[name])


def make_backbone(settings: TrialSettings) -> nn.Module:
    """The untrained backbone: (N, 3, H, W) -> (N, out_channels, h, w). Raises BadInput.

    Other networks than ours are imported only where they are named.
    """
    if settings.backbone in RESNETS:
        return DilatedResNet(settings.backbone, settings.backbone_width, settings.backbone_layers)
    if settings.backbone.startswith(TIMM):
        from mtl.networks.timm_backbones import make_timm_backbone

        network = make_timm_backbone(settings)
        made: nn.Module = PyramidBackbone(network, settings.head_channels) if settings.head == "fpn" else network
    else:
        from mtl.networks.own_network import make_own_backbone

        made = make_own_backbone(settings)
    make_safe(made)
    return made


def build_model(config: TrialConfig, tasks: Sequence[Task]) -> nn.Module:
    """The untrained model of a trial. Its weights come from torch's global generator. Raises BadInput."""
    if config.compressor in SIZES and config.network in RESNETS:
        config = resized(config, tasks)
    model = build_full(config, tasks)
    if config.compressor == "narrow" and config.network not in RESNETS:
        from mtl.networks.narrow import make_narrow

        make_narrow(model, config, tasks, config.target_macs)
    return model


def build_full(settings: TrialSettings, tasks: Sequence[Task]) -> nn.Module:
    """The untrained model of these settings, whatever makes a trial's smaller."""
    if settings.model:
        from mtl.networks.own_network import make_own_model

        model = make_own_model(settings, tasks)
        make_safe(model)
        return model
    backbone = make_backbone(settings)
    channels: Any = backbone.out_channels
    heads = {task.name: make_head(channels, task, settings) for task in tasks}
    return MultiTaskModel(backbone, heads)
