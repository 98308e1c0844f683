"""Compact models on disk: a plan and a state dict, nothing that has to be unpickled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx

from mtl.compaction.build import build
from mtl.errors import BadInput
from mtl.networks.tensor_file import load_state, read_tensors

FORMAT = 1
ALLOWED = "a file that save_compact wrote"


def save_compact(path: str | Path, model: fx.GraphModule, about: Mapping[str, Any] | None = None) -> None:
    """Write what `compact` gave; `about` is plain data or tensors of the caller's own, such as the trial's config.

    The file holds {"compact": 1, "plan": the operations and their settings, "state": the state dict, "about": about}
    and is read by torch.load with weights_only=True.
    """
    content = {"compact": FORMAT, "plan": model.meta["plan"], "state": model.state_dict(), "about": dict(about or {})}
    torch.save(content, path)


def load_compact(path: str | Path, device: torch.device | str = "cpu") -> tuple[fx.GraphModule, dict[str, Any]]:
    """The model of a file, in eval mode, and what it says about it. Raises BadInput for any other file."""
    content = read_tensors("compact model", path, ALLOWED, ALLOWED)
    if not isinstance(content, Mapping):
        raise BadInput(f"compact model {path}: holds a {type(content).__name__}; allowed: {ALLOWED}")
    model, about = compact_of(f"compact model {path}", content)
    return model.to(device), about


def compact_of(what: str, content: Mapping[Any, Any]) -> tuple[fx.GraphModule, dict[str, Any]]:
    """The same of a file's content. what: the file, which begins the line of the BadInput."""
    version = content.get("compact")
    if type(version) is not int or version != FORMAT:
        raise BadInput(f"{what}: not a compact model of format {FORMAT}; allowed: {ALLOWED}")
    for part, kind in (("plan", list), ("state", Mapping), ("about", Mapping)):
        if not isinstance(content.get(part), kind):
            raise BadInput(f"{what}: has no {part!r}; allowed: {ALLOWED}")
    try:
        with torch.device("meta"):
            model = build(content["plan"]).to(_dtype(content["state"]))
    except BadInput as error:
        raise BadInput(f"{what}: {error}") from error
    load_state(model, content["state"], what, "the weights that its plan says")
    return model.eval(), dict(content["about"])


def _dtype(state: Mapping[str, Any]) -> torch.dtype:
    """Of the first weights, as all are to be of one."""
    floats = (value.dtype for value in state.values() if isinstance(value, torch.Tensor) and value.is_floating_point())
    return next(floats, torch.float32)
