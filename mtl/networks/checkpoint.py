"""A trial's model.pt: written, read back without unpickling, and its network built; also from a compact.pt of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch
from pydantic import ValidationError
from torch import nn

from mtl.compaction.plan import Plan, is_name
from mtl.compaction.saving import read_compact
from mtl.config import TrialConfig
from mtl.errors import BadInput
from mtl.limits import FLOAT_BYTES, machine_memory
from mtl.network_fields import RESNETS
from mtl.networks.dry_run import check_outputs
from mtl.networks.model import build_model
from mtl.networks.model_size import count_parameters, is_known
from mtl.networks.retraining import new_compact_model
from mtl.networks.tensor_file import load_state, read_tensors, shown, unquoted
from mtl.own_code import first_line
from mtl.tasks import IGNORE, Kind, Task, wrong_fields
from mtl.vocabulary.files import MODEL

ALLOWED = "a trial's model.pt, the trial's folder, or a compact.pt that `parsimony compact` made of one"
MOST_TASKS = 1000


@dataclass(frozen=True)
class Checkpoint:
    """A trained network, (N, 3, H, W) normalised images -> {task: output}, in eval mode on the CPU, and its trial."""

    path: Path
    config: TrialConfig
    tasks: list[Task]
    model: nn.Module
    compact: bool


def model_content(
    config: TrialConfig, tasks: Sequence[Task], model: nn.Module, backbone_plan: Plan | None = None
) -> dict[str, Any]:
    """What a model.pt holds, to be written by torch.save. backbone_plan: of a trial that was retrained."""
    content = about_trial(config, tasks)
    content["tasks"] = [tuple(task) for task in content["tasks"]]
    content["model"] = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    return content if backbone_plan is None else content | {"backbone_plan": backbone_plan}


def about_trial(config: TrialConfig, tasks: Sequence[Task]) -> dict[str, Any]:
    """The trial and the tasks as plain data, which `read_about` reads: what every file with a model of it holds."""
    return {
        "config": config.model_dump(mode="json"),
        "tasks": [_entry(task) for task in tasks],
    }


def is_model_content(content: Any) -> bool:
    """Whether a file's content has the parts of a model.pt."""
    return isinstance(content, Mapping) and {"config", "tasks", "model"} <= set(content)


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


def load_checkpoint(path: Path, network: str | None = None) -> Checkpoint:
    """The model of a trial's file, or of a compact one.

    network: the class of the user's own, my_module:MyModel, whose code may run to make the model; None: no such code.
    Raises BadInput, one line, for a file that would have to be unpickled, is damaged, or is of another model.
    """
    content = read_tensors("checkpoint", path, ALLOWED, ALLOWED)
    what = f"checkpoint {path}"
    model: nn.Module
    is_compact = isinstance(content, Mapping) and "compact" in content
    if is_compact:
        model, about = read_compact(what, content)
        config, tasks = read_about(what, about)
    elif is_model_content(content):
        config, tasks = read_about(what, content)
        if config.own_network and network != config.network:
            module = config.network.partition(":")[0].partition(".")[0]
            raise BadInput(
                f"{what}: its network {config.network} is code, which runs only where you ask for it; allowed: "
                f"--network {config.network}, in the folder that has {module}, or the trial's compact.pt"
            )
        model = _network(what, config, tasks, content)
    else:
        keys = [unquoted(key) for key in content][:5] if isinstance(content, Mapping) else [type(content).__name__]
        raise BadInput(f"{what}: holds {', '.join(keys)}; allowed: {ALLOWED}")
    if odd := [name for name, value in model.named_parameters() if value.dtype != torch.float32]:
        raise BadInput(f"{what}: {odd[0]} is not of float32; allowed: {ALLOWED}")
    try:
        check_outputs(model, tasks, config.image_size)
    except BadInput as error:
        raise BadInput(f"{what}: {error}") from error
    return Checkpoint(path, config, tasks, model.eval(), is_compact)


def read_about(what: str, content: Mapping[str, Any]) -> tuple[TrialConfig, list[Task]]:
    """The trial and the tasks of a file's content. what: the file, which begins the line of the BadInput."""
    try:
        config = TrialConfig.model_validate(TrialConfig.recorded(content.get("config")))
    except ValidationError as error:
        first = error.errors()[0]
        field = unquoted(first["loc"][0]) if first["loc"] else "config"
        reason = first["msg"].splitlines()[0]
        raise BadInput(f"{what}: its config has a {field} that is not allowed ({reason})") from error
    tasks = _read_tasks(what, content.get("tasks"))
    names = [task.name for task in tasks]
    if sorted(config.tasks) != sorted(names):
        allowed = shown(list(config.tasks))
        raise BadInput(f"{what}: its tasks are {shown(names)}; allowed: {allowed}, as its config says")
    return config, tasks


def _read_tasks(what: str, entries: Any) -> list[Task]:
    """name, kind and classes of each, and more of a disparity or a regression; the names become parts of file names."""
    entries = entries if isinstance(entries, list | tuple) else []
    tasks = [_task(entry) for entry in entries[: MOST_TASKS + 1]]
    known = {task.name: task for task in tasks if task}
    if not 1 <= len(known) == len(tasks) <= MOST_TASKS:
        raise BadInput(f"{what}: tasks = {shown(entries)}; allowed: name, kind, classes")
    return list(known.values())


def _entry(task: Task) -> list[Any]:
    """As plain data: what every kind has, and then a table of what only some have."""
    entry = [task.name, task.kind, list(task.classes)]
    match task.kind:
        case "disparity":
            return [*entry, {"unit": task.unit}]
        case "regression":
            more = {"values": list(task.values), "unit": task.unit, "scale": task.scale, "points": list(task.points)}
            return [*entry, more]
        case _:
            return entry


def _task(entry: Any) -> Task | None:
    match entry:
        case [str(name), str(kind), [*classes], *more] if kind in get_args(Kind):
            named = is_name(name) and "." not in name and not hasattr(nn.ModuleDict(), name)
            texts = all(isinstance(label, str) and label.isprintable() for label in classes[: IGNORE + 1])
            count = len(classes) if kind in ("segmentation", "classification") else 1
            if not (named and texts and 1 <= count <= IGNORE):
                return None
            task = Task(name, cast(Kind, kind), tuple(classes))
            return _with_more(task, more[0] if more else {}) if len(more) <= 1 else None
    return None


def _with_more(task: Task, more: Any) -> Task | None:
    """A task with what only its kind has; None where that is not as `_entry` writes it."""
    match task.kind, more:
        case "regression", {
            "values": [*values],
            "unit": str(unit),
            "scale": int() | float() as scale,
            "points": [*points],
        }:
            known = replace(task, values=tuple(values), unit=unit, scale=float(scale), points=tuple(points))
        case "disparity", {"unit": str(unit)}:
            known = replace(task, unit=unit)
        case _:
            return None if more or task.kind in ("regression", "disparity") else task
    return None if wrong_fields(known) else known


def _network(what: str, config: TrialConfig, tasks: list[Task], content: Mapping[str, Any]) -> nn.Module:
    """A trial's model with the file's weights; it takes no memory before they are known to fit."""
    width = f" of width {config.backbone_width}" if config.network in RESNETS else ""
    network = f"{config.network}{width} with heads for {config.combination}"
    state = content["model"]
    if not is_known(config):
        _check_size(what, config, tasks, state, smaller="backbone_plan" in content)
    # Every block and every rate has tensors of its own: to build more of them than there are tensors is in vain.
    layers = sum(config.backbone_layers or ()) + len(config.head_rates)
    if isinstance(state, Mapping) and layers > len(state):
        raise BadInput(f"{what}: has {len(state)} tensors; allowed: the weights of {layers} layers, as its config says")
    try:
        # Buffers that no file has are made by the network itself; ours have none.
        with torch.device("meta" if is_known(config) else "cpu"), torch.random.fork_rng(devices=[]):
            if "backbone_plan" in content:
                model: nn.Module = new_compact_model(content["backbone_plan"], config, tasks)
            else:
                model = build_model(config, tasks)
    except (BadInput, RuntimeError, TypeError, OverflowError) as error:  # torch's, for sizes beyond what it counts to
        raise BadInput(f"{what}: {first_line(error)}") from error
    load_state(model, state, what, f"the weights of a {network}, as its config says")
    return model


def _check_size(what: str, config: TrialConfig, tasks: list[Task], state: Any, *, smaller: bool) -> None:
    """Raise BadInput for a network with far more numbers than the file has, before it takes memory."""
    try:
        needed = count_parameters(config, tasks)
    except BadInput as error:
        raise BadInput(f"{what}: {first_line(error)}") from error
    memory = machine_memory()
    values = state.values() if isinstance(state, Mapping) else ()
    there = sum(value.numel() for value in values if isinstance(value, torch.Tensor))
    if smaller or config.compressor == "narrow":  # made from the whole network, which the file does not hold
        there = needed if memory is None else memory // FLOAT_BYTES
    if needed > there:
        raise BadInput(f"{what}: has {there:,} numbers; allowed: the {needed:,} of its network, as its config says")
