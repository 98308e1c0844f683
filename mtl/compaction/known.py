"""The modules and functions that become one operation each, by their exact type or function."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mtl.compaction import activations
from mtl.compaction.layers import Attend, Embed, Prepend, ResponseNorm, Scale, Select, Shift
from mtl.compaction.plan import MEMORY_FORMATS
from mtl.compaction.settings import SETTINGS
from mtl.networks.strided import StridedPointwise

ALLOWED = (
    "Conv2d and ConvTranspose2d, grouped too, Linear, BatchNorm2d, LayerNorm, GroupNorm, self-attention, activations, "
    "addition, multiplication, pooling, interpolation, concatenation and chunks of channels, tokens from maps and back"
)
Settings = dict[str, Any]
OWN = (StridedPointwise, Shift, Scale, Select, Embed, Prepend, ResponseNorm, Attend)


Known = Callable[[Any], bool]


def _always(_: nn.Module) -> bool:
    return True


def _zero_padded(conv: Any) -> bool:
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _grows(pad: Any) -> bool:
    return min(pad.padding) >= 0  # a negative one takes pixels away


def _counts_padding(pool: Any) -> bool:
    # With ceil_mode, torch divides by another number where a window reaches beyond the padding.
    return pool.divisor_override is None and not (pool.ceil_mode and pool.padding not in (0, (0, 0)))


def _over_channels(norm: Any) -> bool:
    return len(norm.normalized_shape) == 1


# By the exact type of a module, as a subclass may do something else: the operation, the attributes that are its
# settings, and whether a program can express what the module does.
_CONV = ("stride", "padding", "dilation", "groups")
MODULES: dict[type[nn.Module], tuple[str, tuple[str, ...], Known]] = {
    nn.Conv2d: ("conv", _CONV, _zero_padded),
    StridedPointwise: ("conv", _CONV, _zero_padded),
    nn.ConvTranspose2d: ("conv_transpose", (*_CONV, "output_padding"), _zero_padded),
    nn.BatchNorm2d: ("norm", ("eps", "momentum", "affine"), lambda norm: norm.track_running_stats),
    nn.LayerNorm: ("layer_norm", ("eps",), _over_channels),
    nn.GroupNorm: ("group_norm", ("num_groups", "eps"), _always),
    nn.Linear: ("linear", (), _always),
    nn.ReLU: ("relu", (), _always),
    nn.MaxPool2d: ("max_pool", tuple(SETTINGS["max_pool"]), lambda pool: not pool.return_indices),
    nn.AvgPool2d: ("avg_pool", tuple(SETTINGS["avg_pool"]), _counts_padding),
    nn.AdaptiveAvgPool2d: ("adaptive_pool", ("output_size",), _always),
    nn.ZeroPad2d: ("pad", ("padding",), _grows),
    nn.PixelShuffle: ("pixel_shuffle", ("upscale_factor",), _always),
    nn.Upsample: ("interpolate", ("size", "scale_factor", "mode", "align_corners"), _always),
    nn.Dropout: ("dropout", ("p",), _always),
    Shift: ("shift", (), _always),
    Scale: ("scale", (), _always),
    Embed: ("embed", (), _always),
    Prepend: ("prepend", (), _always),
    ResponseNorm: ("response_norm", ("eps",), _always),
    Attend: ("attend", ("heads", "size", "scale"), _always),
    Select: ("select", ("runs", "layout"), _always),
} | {kind: ("act", activations.ACTIVATIONS[name][1], _always) for kind, name in activations.MODULES.items()}
RENAMED = {"num_groups": "groups", "upscale_factor": "factor"}  # attributes whose settings have other names
# The same for timm's, by name, as timm may not be installed. Other leaves of timm are in `composite`.
TIMM_MODULES: dict[str, tuple[str, tuple[str, ...], Known]] = {
    "LayerNorm": MODULES[nn.LayerNorm],
    "GlobalResponseNorm": ("response_norm", ("eps",), _always),
    "GroupNorm": MODULES[nn.GroupNorm],
    "GroupNorm1": MODULES[nn.GroupNorm],
}
# What does nothing in eval mode. By name, for modules of several libraries.
IDENTITIES = frozenset(["Identity", "DropPath", "StochasticDepth", "Dropout1d", "Dropout2d", "DropBlock2d"])


def is_timm(module: nn.Module) -> bool:
    return type(module).__module__.startswith("timm.")


def known_module(module: nn.Module) -> tuple[str, Settings] | None:
    """The operation of a module and its settings; None for a module that is none, or does more."""
    kind = type(module)
    entry = MODULES.get(kind) or (TIMM_MODULES.get(kind.__name__) if is_timm(module) else None)
    if entry is None or not entry[2](module):
        return None
    op, attributes, _ = entry
    settings = {RENAMED.get(name, name): getattr(module, name) for name in attributes}
    if op == "act":
        made = activations.activation(activations.MODULES[kind], settings)
        return (op, made) if made else None
    if op == "interpolate":
        settings = {name: value for name, value in settings.items() if value is not None}
    return op, settings


def _only(*allowed: str) -> Callable[[Settings], Settings | None]:
    """No settings, where only arguments that change no value are given."""
    return lambda given: {} if set(given) <= set(allowed) else None


def _dropout(given: Settings) -> Settings | None:
    # The model is traced in eval mode: a functional dropout that is active there is always active.
    return None if given.get("training", True) else {"p": given.get("p", 0.5)}


def _interpolate(given: Settings) -> Settings | None:
    return given if set(given) <= set(SETTINGS["interpolate"]) else None


def _format(given: Settings) -> Settings | None:
    names = [name for name, layout in MEMORY_FORMATS.items() if given == {"memory_format": layout}]
    return {"memory_format": names[0]} if names else None


def _pool(op: str, **defaults: Any) -> Callable[[Settings], Settings | None]:
    def settings(given: Settings) -> Settings | None:
        given = {name: value for name, value in given.items() if (name, value) != ("return_indices", False)}
        found = {**defaults, **given}
        found["stride"] = found["stride"] or found["kernel_size"]
        borders = found.get("ceil_mode") and "count_include_pad" in found and found["padding"] not in (0, (0, 0))
        return found if set(found) == set(SETTINGS[op]) and not borders else None

    return settings


def _act(kind: str) -> Callable[[Settings], Settings | None]:
    return lambda given: activations.activation(kind, given)


_POOL = ("kernel_size", "stride", "padding")
_MAX = _pool("max_pool", stride=None, padding=0, dilation=1, ceil_mode=False)
_AVERAGE = _pool("avg_pool", stride=None, padding=0, ceil_mode=False, count_include_pad=True)
# By function, or a method's name: the operation, the names of its arguments after the value, and its settings by the
# arguments that are given, None for what a program cannot express.
FUNCTIONS: dict[Any, tuple[str, tuple[str, ...], Callable[[Settings], Settings | None]]] = {
    **{
        function: ("act", (*activations.ACTIVATIONS[kind][1], "inplace"), _act(kind))
        for function, kind in activations.FUNCTIONS.items()
    },
    **dict.fromkeys((F.relu, torch.relu, "relu", "relu_"), ("relu", ("inplace",), _only("inplace"))),
    F.adaptive_avg_pool2d: ("adaptive_pool", ("output_size",), lambda given: given),
    F.max_pool2d: ("max_pool", (*_POOL, "dilation", "ceil_mode", "return_indices"), _MAX),
    F.avg_pool2d: ("avg_pool", (*_POOL, "ceil_mode", "count_include_pad"), _AVERAGE),
    F.pixel_shuffle: (
        "pixel_shuffle",
        ("upscale_factor",),
        lambda given: {"factor": given["upscale_factor"]},
    ),
    F.interpolate: ("interpolate", ("size", "scale_factor", "mode", "align_corners"), _interpolate),
    F.dropout: ("dropout", ("p", "training", "inplace"), _dropout),
    "contiguous": ("format", ("memory_format",), _format),
}
