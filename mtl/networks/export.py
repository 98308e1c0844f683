"""Networks in files that run without this package: a `torch.export` program, or ONNX."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtl.errors import BadInput
from mtl.networks.onnx_file import ABOUT, OnnxModel

PACKAGES = {"torch": (), "onnx": ("onnx", "onnxruntime", "onnxscript")}  # that each format needs besides torch
SUFFIXES = {"torch": ".pt2", "onnx": ".onnx"}


class _Called(nn.Module):
    """A function of images as a module; unlike an exported program, it has an eval mode that can be set."""

    def __init__(self, function: Callable[[Tensor], Mapping[str, Tensor]]) -> None:
        super().__init__()
        self.forward = function


def check_packages(export_format: str) -> None:
    """Raise BadInput where a format is unknown or a package that it needs is not installed."""
    if export_format not in PACKAGES:
        raise BadInput(f"--export {export_format}; allowed: {', '.join(PACKAGES)}, or both joined by a comma")
    missing = ", ".join(name for name in PACKAGES[export_format] if importlib.util.find_spec(name) is None)
    if missing:
        install = "pip install 'parsimony-mtl[export]'"
        raise BadInput(f"--export {export_format}: {missing} is not installed; allowed: after {install}")


def write_export(
    export_format: str, model: nn.Module, images: Tensor, path: Path, about: Mapping[str, Any]
) -> nn.Module:
    """Write a model in eval mode for batches of any size of images (N, 3, H, W); what the file computes, as a module.

    images: at least two, of the size that the file is for. about: plain data, which `load_onnx` returns.
    """
    batch = {0: torch.export.Dim("batch")}
    with torch.no_grad():
        program = torch.export.export(model, (images[:2],), dynamic_shapes=(batch,))
    text = json.dumps(dict(about))
    if export_format == "torch":
        torch.export.save(program, path, extra_files={ABOUT: text})
        return _Called(torch.export.load(path).module().forward)
    written = torch.onnx.export(program, input_names=["images"], output_names=list(model(images[:1])), verbose=False)
    assert written is not None
    written.model.metadata_props[ABOUT] = text
    written.save(path, external_data=False)
    return load_onnx(path)[0]


def load_onnx(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A file of `write_export` on the CPU: (N, 3, H, W) images -> {task: output}, and what it says about itself.

    Raises BadInput for any other file.
    """
    check_packages("onnx")
    model = OnnxModel(path)
    return _Called(model), model.about
