"""The operations that a plan may have, and the types and ranges of their settings."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, TypeAdapter
from torch import nn

from mtl.compaction.activations import ACTIVATIONS

# Far beyond any network of ours (a ResNet-152 has 600 steps and 60 million weights), and small enough to be tried.
MOST_CHANNELS = 2**20
MOST_POSITIONS = 2**24  # that all selections of a plan read
MOST_PIXELS = 2**14  # of a side, a kernel, a stride


def _forward(run: Any) -> Any:
    assert run[0] < run[1]
    return run


# Types of settings, which pydantic checks strictly: True is no number, and 2.0 no whole number.
Flag = bool
TWO = Field(min_length=2, max_length=2)
FOUR = Field(min_length=4, max_length=4)
Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
Size = Annotated[int, Field(ge=1, le=MOST_PIXELS)]
Border = Annotated[int, Field(ge=0, le=MOST_PIXELS)]
Position = Annotated[int, Field(ge=0, le=MOST_POSITIONS)]
Axis = Annotated[int, Field(ge=1, le=3)]
Place = Annotated[int, Field(ge=-MOST_CHANNELS, le=MOST_CHANNELS)]
Scale = Annotated[float, Field(ge=1 / MOST_PIXELS, le=MOST_PIXELS, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Number = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Eps = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Pair = Annotated[list[Size], TWO] | tuple[Size, Size]
Borders = Annotated[list[Border], TWO] | tuple[Border, Border]
Scales = Annotated[list[Scale], TWO] | tuple[Scale, Scale]
SizeOrNone = Size | None
Side = Size | Annotated[list[Size], TWO]  # a number, or [axis, divisor]
Run = Annotated[Annotated[list[Position], TWO] | tuple[Position, Position], AfterValidator(_forward)]
Format = Literal["contiguous", "channels_last"]
Earlier = Annotated[str, Field(max_length=1000)]  # the name of a value, which `plan` looks for among the earlier ones
_POOL: dict[str, Any] = {"kernel_size": Size | Pair, "stride": Size | Pair, "padding": Border | Borders}
_CONV = {"stride": Pair, "padding": Borders, "dilation": Pair, "groups": Channels}
_CONV |= {"in": Channels, "out": Channels, "bias": Flag, "kernel": Pair}

# The settings of each operation. A step has all of them, except for those of OPTIONAL.
SETTINGS: dict[str, dict[str, Any]] = {
    "input": {"channels": Channels},
    "format": {"memory_format": Format},
    "conv": _CONV,
    "conv_transpose": {**_CONV, "output_padding": Borders},
    "linear": {"in": Channels, "out": Channels, "bias": Flag},
    "norm": {"eps": Eps, "momentum": Share | None, "affine": Flag, "channels": Channels},
    "layer_norm": {"eps": Eps, "affine": Flag, "bias": Flag, "channels": Channels},
    "group_norm": {"eps": Eps, "affine": Flag, "groups": Channels, "channels": Channels},
    "response_norm": {"eps": Eps, "channels": Channels, "axis": Axis},
    "attend": {"heads": Channels, "size": Channels, "scale": Number},
    "shift": {"channels": Channels, "axis": Axis},
    "scale": {"channels": Channels, "axis": Axis},
    "scalar": {"scale": Number, "offset": Number},
    "embed": {"shape": Annotated[list[Channels], Field(min_length=1, max_length=3)]},
    "prepend": {"tokens": Size, "channels": Channels},
    "select": {"runs": Annotated[list[Run], Field(min_length=1)], "layout": Format, "axis": Axis},
    "part": {"start": Position, "stop": Position, "axis": Axis},
    "relu": {},
    "act": {
        "kind": Literal[tuple(ACTIVATIONS)],
        "approximate": Literal["none", "tanh"],
        **dict.fromkeys(("min_val", "max_val", "negative_slope", "alpha", "threshold"), Number),
        "beta": Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)],
    },
    "add": {"small": Literal[0, 1, 2]},  # which input is 1 wide where the other is wider; 2: both, in different axes
    "mul": {"small": Literal[0, 1, 2]},
    "cat": {"axis": Axis},
    "flatten": {},
    "dropout": {"p": Share},
    "mean": {"keepdim": Flag, "dims": Annotated[list[Axis], Field(min_length=1, max_length=2)]},
    "max_pool": {**_POOL, "dilation": Size | Pair, "ceil_mode": Flag},
    "avg_pool": {**_POOL, "ceil_mode": Flag, "count_include_pad": Flag},
    "adaptive_pool": {"output_size": Size | Annotated[list[SizeOrNone], TWO] | tuple[SizeOrNone, SizeOrNone]},
    "pad": {"padding": Annotated[list[Border], FOUR] | tuple[Border, Border, Border, Border]},
    "pixel_shuffle": {"factor": Size},
    "interpolate": {
        "size": Size | Pair | None,
        "scale_factor": Scale | Scales | None,
        "mode": Literal["nearest", "nearest-exact", "bilinear", "bicubic", "area"],
        "align_corners": Flag | None,
        "recompute_scale_factor": Flag | None,
        "antialias": Flag,
        "like": Earlier,
    },
    "permute": {"dims": Annotated[list[Border], Field(min_length=2, max_length=4)]},
    "merge": {"start": Axis, "end": Axis},
    "unmerge": {"axis": Axis, "sizes": Annotated[list[Side], TWO], "like": Earlier},
    "unsqueeze": {"axis": Axis},
    "squeeze": {"axis": Axis},
    "narrow": {"axis": Axis, "start": Place, "stop": Place | None},
    "pick": {"axis": Axis, "index": Place},
    "output": {"structure": Any},  # which `plan` checks
}
OPTIONAL: dict[str, set[str]] = {
    "interpolate": set(SETTINGS["interpolate"]),
    "conv": {"groups"},
    "conv_transpose": {"groups"},
    "act": set(SETTINGS["act"]) - {"kind"},
    "mean": {"dims"},
    "unmerge": {"like"},
    "add": {"small"},
    "mul": {"small"},
    **{op: {"axis"} for op in ("response_norm", "shift", "scale", "select", "part", "cat")},
}
ADAPTERS = {op: {name: TypeAdapter(kind) for name, kind in kinds.items()} for op, kinds in SETTINGS.items()}
# Operations that torch has a module for whose arguments are the settings.
PLAIN_MODULES: dict[str, type[nn.Module]] = {
    "max_pool": nn.MaxPool2d,
    "avg_pool": nn.AvgPool2d,
    "adaptive_pool": nn.AdaptiveAvgPool2d,
    "dropout": nn.Dropout,
    "pad": nn.ZeroPad2d,
}
# Operations that become modules of their own.
OWN_MODULES = frozenset(
    {"conv", "conv_transpose", "linear", "norm", "layer_norm", "group_norm", "response_norm", "attend"}
    | {"shift", "scale", "embed", "prepend", "select"}
)
