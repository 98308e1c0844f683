"""The pretrained weights that timm has for its networks: which they are, and downloaded."""

import os
from typing import Any

import torch
from torch import Tensor

from mtl.config import TrialSettings
from mtl.errors import BadInput
from mtl.network_fields import TIMM
from mtl.networks.timm_backbones import import_timm, timm_name, timm_network
from mtl.own_code import MOST_SHOWN, first_line


def version(settings: TrialSettings) -> str:
    """The network's name with its weights' tag, such as resnet50.a1_in1k. Raises BadInput where there are none."""
    if not settings.backbone.startswith(TIMM):
        raise BadInput(f"weights = timm with backbone = {settings.backbone}; allowed: with timm:NAME")
    name = timm_name(settings)
    cfg: Any = import_timm(settings.backbone).get_pretrained_cfg(name, allow_unregistered=False)
    if not cfg.has_weights:
        raise BadInput(f"weights = timm: timm has none of {name}; allowed: a network of which it has, or no weights")
    return f"{name.partition('.')[0]}.{cfg.tag or 'default'}"


def download(settings: TrialSettings) -> dict[str, Tensor]:
    """timm's weights for the network as the backbone has it, from its cache or downloaded. Raises BadInput."""
    found = version(settings)
    try:
        return dict(timm_network(settings, pretrained=True).state_dict())
    except BadInput:
        raise
    # What the hub, its HTTP client, and timm raise where a file cannot be had or does not fit is of every kind.
    except Exception as error:
        cache = os.environ.get("HF_HOME", "~/.cache/huggingface")
        raise BadInput(
            f"weights = timm: {found} cannot be downloaded into {cache} "
            f"({type(error).__name__}: {first_line(error)[:MOST_SHOWN]}); allowed: a network, or weights in a file"
        ) from error


def plain_names(settings: TrialSettings) -> set[str]:
    """The names of all tensors of timm's network with its classifier, as files of its weights have them."""
    with torch.device("meta"):
        network = import_timm(settings.backbone).create_model(timm_name(settings), **settings.backbone_options)
    return set(network.state_dict())
