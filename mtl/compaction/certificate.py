"""Proof by trial: the compact model gives what the model gives, on real images."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtl.errors import BadInput, TrialFailed


@dataclass(frozen=True)
class Certificate:
    """`differences`: of each output, by name, the largest |difference| over the largest |value| of the model's own."""

    differences: dict[str, float]
    images: int
    tolerance: float

    @property
    def largest(self) -> float:
        return max(self.differences.values())


@torch.inference_mode()
def certify(model: nn.Module, compacted: nn.Module, batches: Iterable[Tensor], tolerance: float = 1e-5) -> Certificate:
    """Compare both on batches of images, (N, 3, H, W) each, in eval mode; the model's mode is restored.

    Differences are relative to an output's scale, the largest absolute value of it over all batches. Raises TrialFailed
    where one is above the tolerance or not a number, or the outputs differ in names or shapes, and BadInput where there
    is no batch or the model's own outputs are not finite.
    """
    scales: dict[str, float] = {}
    errors: dict[str, float] = {}
    images = 0
    modes = [(module, module.training) for module in [*model.modules(), *compacted.modules()]]
    model.eval()
    compacted.eval()
    try:
        for batch in batches:
            images += len(batch)
            expected, found = flat_outputs(model(batch)), flat_outputs(compacted(batch))
            shapes = [{name: tuple(value.shape) for name, value in x.items()} for x in (expected, found)]
            if shapes[0] != shapes[1]:
                raise TrialFailed(f"the compact model's outputs are {shapes[1]}, the model's {shapes[0]}")
            for name, value in expected.items():
                scales[name] = _larger(scales.get(name, 0.0), value)
                errors[name] = _larger(errors.get(name, 0.0), found[name] - value)
    finally:
        for module, training in modes:
            module.training = training
    if not images:
        raise BadInput("batches: none; allowed: one batch of images or more")
    for name, scale in scales.items():
        if not math.isfinite(scale):
            raise BadInput(f"the model's {name} is {scale} on these images; allowed: weights that give numbers")
    differences = {name: error / scales[name] if error else 0.0 for name, error in errors.items() if scales[name]}
    differences |= {name: error for name, error in errors.items() if not scales[name]}
    for name, difference in differences.items():
        if not difference <= tolerance:  # so that a NaN fails
            raise TrialFailed(
                f"the compact model's {name} differs by {difference:.1e} of its scale on {images} images; "
                f"allowed: {tolerance:g}"
            )
    return Certificate(differences, images, tolerance)


def flat_outputs(outputs: Any, name: str = "output") -> dict[str, Tensor]:
    """What a model returns, a tensor or dicts, lists and tuples of them, by name: `depth`, or `0`, `depth.1` and so."""
    if isinstance(outputs, Tensor):
        return {name: outputs}
    pairs = outputs.items() if isinstance(outputs, Mapping) else enumerate(outputs)
    prefix = "" if name == "output" else f"{name}."
    return {k: v for key, value in pairs for k, v in flat_outputs(value, f"{prefix}{key}").items()}


def _larger(least: float, values: Tensor) -> float:
    """The largest of a number and absolute values; NaN where a value is."""
    largest = float(values.abs().max()) if values.numel() else 0.0
    return largest if largest != largest else max(least, largest)
