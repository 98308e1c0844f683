"""Networks in files that run without this package: a `torch.export` program, or ONNX."""

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtl.datasets.batches.load import MEAN, STD
from mtl.errors import BadInput
from mtl.networks.onnx_file import ABOUT, OnnxModel
from mtl.networks.program_file import Program

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

    images: at least two, of the size that the file is for. about: plain data, which `load_export` returns. The file
    also says, for programs other than this one, how an image becomes its input.
    """
    batch = {0: torch.export.Dim("batch")}
    with torch.no_grad():
        program = torch.export.export(model, (images[:2],), dynamic_shapes=(batch,))
    text = json.dumps({**about, "images": _about_images(images)})
    if export_format == "torch":
        torch.export.save(program, path, extra_files={ABOUT: text})
        return _Called(torch.export.load(path).module().forward)
    written = torch.onnx.export(program, input_names=["images"], output_names=list(model(images[:1])), verbose=False)
    assert written is not None
    written.model.metadata_props[ABOUT] = text
    written.save(path, external_data=False)
    return load_export(path)[0]


def load_export(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """A file of `write_export` on the CPU: (N, 3, H, W) images -> {task: output}, and what it says about itself.

    It is read without unpickling, and none of its code runs. Raises BadInput for any other file.
    """
    if path.suffix == SUFFIXES["torch"]:
        program = Program(path)
        return program, program.about
    check_packages("onnx")
    model = OnnxModel(path)
    return _Called(model), model.about


def _about_images(images: Tensor) -> dict[str, Any]:
    """How a photo becomes the file's input, in words and numbers."""
    return {
        "layout": "N, 3, height, width: RGB, float32",
        "size": list(images.shape[2:]),
        "values": "(value / 255 - mean) / deviation of each channel, resized bilinearly with antialiasing",
        "mean": MEAN.flatten().tolist(),
        "deviation": STD.flatten().tolist(),
    }
