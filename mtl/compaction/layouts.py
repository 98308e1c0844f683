"""Where the channels of a value are, and which operations fit which values."""

from collections.abc import Mapping, Sequence
from typing import Any

from mtl.compaction.graph import CHANNELWISE

Layout = tuple[int, int]
"""Number of dimensions, N included, and the axis of the channels."""

MAP: Layout = (4, 1)
MAPS_ALONE = frozenset(
    {"format", "conv", "conv_transpose", "norm", "max_pool", "avg_pool", "adaptive_pool"}
    | {"interpolate", "pixel_shuffle", "pad"}
)
COUNTS = {"input": 0, "add": 2, "mul": 2}  # of inputs, where not 1; a concatenation has any number


def layout_after(op: str, settings: Mapping[str, Any], inputs: Sequence[Layout]) -> Layout | None:
    """Of an operation's result; None where it does not fit its inputs.

    An `axis` of the settings is that of the channels, where it is not 1, in cat, shift, scale, select, part and
    response_norm, and another axis in unmerge, unsqueeze, squeeze, narrow and pick.
    """
    if op == "input":
        return MAP if not inputs else None
    if not inputs or len(set(inputs)) > 1 or len(inputs) != COUNTS.get(op, len(inputs) if op == "cat" else 1):
        return None
    dims, axis = inputs[0]
    if op in MAPS_ALONE:
        return MAP if inputs[0] == MAP else None
    if op in ("linear", "layer_norm"):
        return inputs[0] if axis == dims - 1 else None
    if op in ("cat", "shift", "scale", "select", "part", "response_norm"):
        fits = settings.get("axis", 1) == axis and (op != "response_norm" or dims == 4)
        return inputs[0] if fits else None
    match op:
        case "group_norm" | "flatten":
            return ((2, 1) if op == "flatten" else inputs[0]) if axis == 1 else None
        case "attend" | "prepend":
            return inputs[0] if inputs[0] == (3, 2) else None
        case "embed":
            return inputs[0] if len(settings["shape"]) == dims - 1 else None
        case "mean":
            return _mean(dims, axis, settings)
        case "permute" | "merge" | "unmerge" | "unsqueeze" | "squeeze" | "narrow" | "pick":
            return _view(op, settings, dims, axis)
    return inputs[0] if op in CHANNELWISE or op in COUNTS else None


def _mean(dims: int, axis: int, settings: Mapping[str, Any]) -> Layout | None:
    over = list(settings.get("dims", (2, 3)))
    if len(set(over)) != len(over) or not all(0 < d < dims and d != axis for d in over):
        return None
    return (dims, axis) if settings["keepdim"] else (dims - len(over), axis - sum(d < axis for d in over))


def _view(op: str, settings: Mapping[str, Any], dims: int, axis: int) -> Layout | None:
    if op == "permute":
        order = list(settings["dims"])
        return (dims, order.index(axis)) if sorted(order) == list(range(dims)) and order[0] == 0 else None
    if op == "merge":
        start, end = settings["start"], settings["end"]
        fits = 0 < start < end < dims and not start <= axis <= end
        return (dims - (end - start), axis - (end - start) * (end < axis)) if fits else None
    own = settings["axis"]
    if op == "unsqueeze":
        return (dims + 1, axis + (own <= axis)) if 0 < own <= dims and dims < 4 else None
    if not 0 < own < dims or own == axis:
        return None
    if op == "unmerge":
        return (dims + 1, axis + (own < axis)) if dims < 4 else None
    return (dims, axis) if op == "narrow" else (dims - 1, axis - (own < axis))
