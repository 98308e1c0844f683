"""A trial's model.pt, or what `parsimony compact` made of it: read back without unpickling, and its network built."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from pydantic import ValidationError
from torch import nn

from mtl.compaction import load_compact
from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.model import build_model
from mtl.retraining import new_compact_model
from mtl.tasks import Kind, Task
from mtl.tensor_file import read_tensors

MODEL = "model.pt"
ALLOWED = "a trial's model.pt, the trial's folder, or a compact.pt that `parsimony compact` made of one"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, (N, 3, H, W) normalised images -> {task: output}, in eval mode on the CPU, and its trial."""

    path: Path
    config: TrialConfig
    tasks: list[Task]
    model: nn.Module
    compact: bool


def checkpoint_path(name: str) -> Path:
    """The file that a user names, by itself or by the trial's folder. Raises BadInput where there is none."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / MODEL).is_file():
            raise BadInput(f"checkpoint {path}: a folder without {MODEL}; allowed: {ALLOWED}")
        return path / MODEL
    if not path.is_file():
        raise BadInput(f"checkpoint {path}: no such file; allowed: {ALLOWED}")
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Raises BadInput, one line, for a file that would have to be unpickled, is damaged, or is of another model."""
    content = read_tensors("checkpoint", path, ALLOWED, ALLOWED)
    if isinstance(content, Mapping) and "compact" in content:
        model, about = load_compact(path)
        return Checkpoint(path, read_config(path, about), read_tasks(path, about), model, compact=True)
    if not isinstance(content, Mapping) or not {"config", "tasks", "model"} <= set(content):
        keys = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise BadInput(f"checkpoint {path}: holds {_shortened(keys)}; allowed: {ALLOWED}")
    config, tasks = read_config(path, content), read_tasks(path, content)
    network = _network(config, tasks, content)
    _load_state(path, network, content["model"], config)
    return Checkpoint(path, config, tasks, network.eval(), compact=False)


def read_config(path: Path, content: Mapping[str, Any]) -> TrialConfig:
    """The trial of a file's content; raises BadInput where it is none."""
    try:
        return TrialConfig.model_validate(content.get("config"))
    except ValidationError as error:
        first = error.errors()[0]
        field = first["loc"][0] if first["loc"] else "config"
        raise BadInput(f"checkpoint {path}: its config has a {field} that is not allowed ({first['msg']})") from error


def read_tasks(path: Path, content: Mapping[str, Any]) -> list[Task]:
    """The tasks of a file's content; raises BadInput where there are none."""
    try:
        tasks = [Task(str(name), kind, tuple(map(str, classes))) for name, kind, classes in content["tasks"]]
    except (KeyError, TypeError, ValueError):
        tasks = []
    if not tasks or any(task.kind not in get_args(Kind) for task in tasks):
        raise BadInput(
            f"checkpoint {path}: tasks = {_shortened(str(content.get('tasks')))}; allowed: name, kind, classes"
        )
    return tasks


def _network(config: TrialConfig, tasks: list[Task], content: Mapping[str, Any]) -> nn.Module:
    if "backbone_plan" in content:  # of a trial that was retrained
        return new_compact_model(content["backbone_plan"], config, tasks)
    with torch.device("meta"):  # its random weights are not worth making
        return build_model(config, tasks).to_empty(device="cpu")


def _load_state(path: Path, model: nn.Module, state: Any, config: TrialConfig) -> None:
    """Raises BadInput at the first tensor that is missing, that is one too many, or whose shape is another."""
    network = f"{config.backbone} of width {config.backbone_width} with heads for {config.combination}"
    wanted = model.state_dict()
    if not isinstance(state, Mapping):
        raise BadInput(f"checkpoint {path}: its model is a {type(state).__name__}; allowed: names and tensors")
    for name in [*wanted, *state]:
        if name not in state:
            fault = f"{name} is missing"
        elif name not in wanted or not isinstance(state[name], torch.Tensor):
            fault = f"{name} is none of the model's"
        elif state[name].shape != wanted[name].shape:
            fault = f"{name} has shape {tuple(state[name].shape)}, not {tuple(wanted[name].shape)}"
        else:
            continue
        raise BadInput(f"checkpoint {path}: {fault}; allowed: the weights of a {network}, as its config says")
    model.load_state_dict(state)


def _shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}…"
