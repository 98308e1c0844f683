"""Checkpoints as trials leave them, of networks that have learnt nothing, with some of their groups zero."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mtl.config import TrialConfig
from mtl.networks.checkpoint import model_content
from mtl.networks.measurement import measure_latency
from mtl.networks.model import build_model
from mtl.tasks import Task
from search.engine.trial import to_bytes
from tests.support.small import TASKS, config


def write_checkpoint(folder: Path, share: float = 0.5, seed: int = 0, **fields: Any) -> Path:
    """A trial's folder with a model.pt; `share` of each convolution's groups are zero, and norms are used ones."""
    settings = config(**fields)
    tasks = [task for task in TASKS if task.name in settings.tasks]
    model = sparse_model(settings, tasks, share, seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.pt").write_bytes(to_bytes(model_content(settings, tasks, model)))
    return folder


def time_nothing(patch: pytest.MonkeyPatch) -> None:
    """Let `parsimony compact` time as few calls as it may, and not look for the faster memory format."""
    measure = partial(measure_latency, seconds=0.0)
    patch.setattr("search.commands.compact.measure_latency", measure)
    patch.setattr("search.commands.compact.best_format", lambda model, images: torch.channels_last)


def sparse_model(settings: TrialConfig, tasks: list[Task], share: float, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = build_model(settings, tasks)
    with torch.no_grad():
        for module in model.backbone.modules():
            if isinstance(module, nn.Conv2d) and module.in_channels > 3:
                module.weight[:, torch.rand(module.in_channels, generator=generator) < share] = 0
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.uniform_(0.5, 2, generator=generator)
                module.bias.normal_(generator=generator)
    return model.eval()
