"""Compact models on disk: a plan and a state dict, nothing that would have to be unpickled."""

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
    """Write what `compact` gave; `about` is plain data or tensors of the caller's, such as the trial's config.

    The file holds {"compact": 1, "plan": the operations and their settings, "state": the state dict, "about": about}
    and is read by torch.load with weights_only=True.
    """
    content = {"compact": FORMAT, "plan": model.meta["plan"], "state": model.state_dict(), "about": dict(about or {})}
    torch.save(content, path)


def load_compact(path: str | Path) -> tuple[fx.GraphModule, dict[str, Any]]:
    """The model of a file, in eval mode on the CPU, and its `about`. Raises BadInput for any other file."""
    what = f"compact model {path}"
    return read_compact(what, read_tensors("compact model", path, ALLOWED, ALLOWED))


def read_compact(what: str, content: Any) -> tuple[fx.GraphModule, dict[str, Any]]:
    """The same for the content of a file. what: the file, which begins the line of the BadInput."""
    version = content.get("compact") if isinstance(content, Mapping) else None
    if type(version) is not int or version != FORMAT:
        raise BadInput(f"{what}: not a compact model of format {FORMAT}; allowed: {ALLOWED}")
    for part, kind in (("plan", list), ("state", Mapping), ("about", Mapping)):
        if not isinstance(content.get(part), kind):
            raise BadInput(f"{what}: has no {part!r}; allowed: {ALLOWED}")
    floats = [x.dtype for x in content["state"].values() if isinstance(x, torch.Tensor) and x.is_floating_point()]
    try:
        with torch.device("meta"):
            model = build(content["plan"]).to(floats[0] if floats else torch.float32)
    except BadInput as error:
        raise BadInput(f"{what}: {error}") from error
    load_state(model, content["state"], what, "the weights that its plan describes")
    return model.eval(), dict(content["about"])
