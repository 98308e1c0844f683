"""Compact models on disk: a plan and a state dict, nothing that has to be unpickled."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx

from mtl.compaction.build import build
from mtl.errors import BadInput

FORMAT = 1


def save_compact(path: str | Path, model: fx.GraphModule, about: Mapping[str, Any] | None = None) -> None:
    """Write what `compact` gave; `about` is plain data or tensors of the caller's own, such as the trial's config.

    The file holds {"compact": 1, "plan": the operations and their settings, "state": the state dict, "about": about}
    and is read by torch.load with weights_only=True.
    """
    content = {"compact": FORMAT, "plan": model.meta["plan"], "state": model.state_dict(), "about": dict(about or {})}
    torch.save(content, path)


def load_compact(path: str | Path, device: torch.device | str = "cpu") -> tuple[fx.GraphModule, dict[str, Any]]:
    """The model of a file, in eval mode, and what it says about it. Raises BadInput for any other file."""
    allowed = "allowed: a file that save_compact wrote"
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror or error}; {allowed}") from error
    # Whatever else: bytes that are no such file make torch and zip raise errors of many kinds.
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError) as error:
        raise BadInput(f"{path}: cannot be read with weights_only=True ({type(error).__name__}); {allowed}") from error
    if not isinstance(content, Mapping) or content.get("compact") != FORMAT:
        raise BadInput(f"{path}: not a compact model of format {FORMAT}; {allowed}")
    for part, kind in (("plan", list), ("state", Mapping), ("about", Mapping)):
        if not isinstance(content.get(part), kind):
            raise BadInput(f"{path}: has no {part!r}; {allowed}")
    model = build(content["plan"])
    try:
        model.load_state_dict(content["state"])
    except RuntimeError as error:
        raise BadInput(f"{path}: {str(error).splitlines()[-1].strip()}; {allowed}") from error
    return model.to(device).eval(), dict(content["about"])
