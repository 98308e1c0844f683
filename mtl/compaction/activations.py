"""Functions of single numbers that networks use between their layers, with their arguments."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# By kind: torch's function, the names of its arguments besides the values, and the modules and methods that do it.
ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], tuple[str, ...]]] = {
    "gelu": (F.gelu, ("approximate",)),
    "silu": (F.silu, ()),
    "mish": (F.mish, ()),
    "hardswish": (F.hardswish, ()),
    "hardsigmoid": (F.hardsigmoid, ()),
    "sigmoid": (torch.sigmoid, ()),
    "tanh": (torch.tanh, ()),
    "relu6": (F.relu6, ()),
    "hardtanh": (F.hardtanh, ("min_val", "max_val")),
    "leaky_relu": (F.leaky_relu, ("negative_slope",)),
    "elu": (F.elu, ("alpha",)),
    "selu": (F.selu, ()),
    "softplus": (F.softplus, ("beta", "threshold")),
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "gelu": {"approximate": "none"},
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "leaky_relu": {"negative_slope": 0.01},
    "elu": {"alpha": 1.0},
    "softplus": {"beta": 1.0, "threshold": 20.0},
}
MODULES: dict[type[nn.Module], str] = {
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.Mish: "mish",
    nn.Hardswish: "hardswish",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Sigmoid: "sigmoid",
    nn.Tanh: "tanh",
    nn.ReLU6: "relu6",
    nn.Hardtanh: "hardtanh",
    nn.LeakyReLU: "leaky_relu",
    nn.ELU: "elu",
    nn.SELU: "selu",
    nn.Softplus: "softplus",
}
FUNCTIONS: dict[Any, str] = {function: kind for kind, (function, _) in ACTIVATIONS.items()} | {
    F.sigmoid: "sigmoid",
    F.tanh: "tanh",
    torch.selu: "selu",
    "sigmoid": "sigmoid",
    "sigmoid_": "sigmoid",
    "tanh": "tanh",
    "tanh_": "tanh",
}
# Those that can overwrite their input, by the argument `inplace`.
IN_PLACE = frozenset(["silu", "mish", "hardswish", "hardsigmoid", "relu6", "hardtanh", "leaky_relu", "elu", "selu"])
# Those whose derivative is computed from their input, so that their result may be overwritten.
KEEPS_INPUT = frozenset(["gelu", "silu", "mish", "hardswish", "hardsigmoid", "softplus"])


def activation(kind: str, given: dict[str, Any]) -> dict[str, Any] | None:
    """The settings of an activation from the arguments that are given; None for arguments that it does not have."""
    names = ACTIVATIONS[kind][1]
    arguments = {name: float(v) if type(v) is int else v for name, v in given.items() if name != "inplace"}
    return {"kind": kind, **DEFAULTS.get(kind, {}), **arguments} if set(arguments) <= set(names) else None


def apply_activation(settings: dict[str, Any], values: Tensor) -> Tensor:
    """The function of an operation `act`, of any tensor."""
    arguments = dict(settings)
    return ACTIVATIONS[arguments.pop("kind")][0](values, **arguments)
