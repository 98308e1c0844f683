"""Proof by trial: the compact model gives what the model gives, on real images."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtl.errors import BadInput, TrialFailed
from mtl.networks.measurement import evaluating


@dataclass(frozen=True)
class Certificate:
    """`differences`: for each output, by name, the largest |difference| over the model's largest |value|."""

    differences: dict[str, float]
    images: int
    tolerance: float

    @property
    def largest(self) -> float:
        return max(self.differences.values())


@torch.inference_mode()
def certify(model: nn.Module, compacted: nn.Module, batches: Iterable[Tensor], tolerance: float = 1e-5) -> Certificate:
    """Compare both on batches of images, (N, 3, H, W) each, in eval mode; the modes are restored.

    Differences are relative to the scale of an output, its largest absolute value over all batches. Raises TrialFailed
    where a difference is above the tolerance or not a number, or the outputs differ in names or shapes; and BadInput
    where there is no batch or the model's own outputs are not finite.
    """
    scales: dict[str, float] = {}
    errors: dict[str, float] = {}
    images = 0
    with evaluating(model, compacted):
        for batch in batches:
            images += len(batch)
            expected, found = _flat(model(batch)), _flat(compacted(batch))
            shapes = [{name: tuple(value.shape) for name, value in x.items()} for x in (expected, found)]
            if shapes[0] != shapes[1]:
                raise TrialFailed(f"the compact model's outputs are {shapes[1]}, the model's {shapes[0]}")
            for name, value in expected.items():
                scales[name] = _larger(scales.get(name, 0.0), value)
                errors[name] = _larger(errors.get(name, 0.0), found[name] - value)
    if not images:
        raise BadInput("batches: none; allowed: one batch of images or more")
    for name, scale in scales.items():
        if not math.isfinite(scale):
            raise BadInput(f"the model's {name} is {scale} on these images; allowed: weights that give numbers")
    differences = {name: error / (scales[name] or 1) for name, error in errors.items()}
    for name, difference in differences.items():
        if not difference <= tolerance:  # so that a NaN fails
            raise TrialFailed(
                f"the compact model's {name} differs by {difference:.1e} of its scale on {images} images; "
                f"allowed: {tolerance:g}"
            )
    return Certificate(differences, images, tolerance)


def _flat(outputs: Any, path: str = "") -> dict[str, Tensor]:
    """What a model returns, a tensor or dicts, lists and tuples of tensors, by name: `depth`, or `0`, `depth.1`, …"""
    if isinstance(outputs, Tensor):
        return {path or "output": outputs}
    pairs = outputs.items() if isinstance(outputs, Mapping) else enumerate(outputs)
    return {k: v for key, value in pairs for k, v in _flat(value, f"{path}.{key}" if path else str(key)).items()}


def _larger(least: float, values: Tensor) -> float:
    """The larger of a number and the largest absolute value; NaN where a value is."""
    largest = float(values.abs().max()) if values.numel() else 0.0
    return largest if math.isnan(largest) else max(least, largest)
