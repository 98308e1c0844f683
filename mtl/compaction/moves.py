"""Functions of a trace that move values about: chunks and slices, axes, memory."""

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from mtl.compaction import arithmetic
from mtl.compaction.arithmetic import Rule
from mtl.compaction.graph import Node

if TYPE_CHECKING:
    from mtl.compaction.trace import Translation


def translate(t: "Translation", source: fx.Node, result: Any) -> bool:
    """Add what a node does to the translation's program; False where it is none of these functions."""
    rule = RULES.get(source.target)
    if rule is None:
        return False
    args = [t.numbers.resolved(argument) for argument in source.args]
    kwargs = {name: t.numbers.resolved(argument) for name, argument in source.kwargs.items()}
    if node := rule(t, source, result, args, kwargs):
        t.done(source, node if isinstance(node, Node) else t.program[node])
    return True


def _chunk(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    x = t.value(source, args[0])
    rest = list(args[2:]) + [kwargs[name] for name in ("dim",) if name in kwargs]
    dim = rest[0] if rest else 0
    if not isinstance(dim, int) or dim % (len(x.shape) + 1) != x.axis:
        t.refuse(source, f"along axis {dim}", "along the channels")
    start, names = 0, []
    for part in result:
        stop = start + part.shape[x.axis]
        names.append(_part(t, source, x, start, stop).name)
        start = stop
    t.several[source] = names


def _part(t: "Translation", source: fx.Node, x: Node, start: int, stop: int) -> Node:
    if (start, stop) == (0, x.channels):
        return x
    name = f"{source.name}_{start}"
    return t.add(source, name, "part", [x], x.resized(stop - start), {"start": start, "stop": stop})


def _narrow(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    x, dim, start, length = t.value(source, args[0]), *args[1:]
    if kwargs or not all(isinstance(a, int) for a in (dim, start, length)):
        t.refuse(source)
    return _sliced(t, source, x, dim % (len(x.shape) + 1), slice(start, start + length))


def _sliced(t: "Translation", source: fx.Node, x: Node, axis: int, part: slice) -> Node:
    numbers = all(v is None or isinstance(v, int) for v in (part.start, part.stop)) and part.step in (None, 1)
    if not numbers or axis == 0:
        t.refuse(source, f"with {part} of axis {axis}")
    start, stop, _ = part.indices(x.shape[axis - 1])
    if axis == x.axis:
        if stop <= start:
            t.refuse(source, "of no channels")
        return _part(t, source, x, start, stop)
    if (part.start or 0, part.stop) == (0, None):
        return x
    shape = (*x.shape[: axis - 1], max(stop - start, 0), *x.shape[axis:])
    settings = {"axis": axis, "start": part.start or 0, "stop": part.stop}
    return t.add(source, source.name, "narrow", [x], shape, settings)


def _getitem(
    t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]
) -> Node | str | None:
    whole, index = args
    if whole in t.several:
        name = t.several[whole][index] if isinstance(index, int) else None
        return t.refuse(source, f"[{index}]") if name is None and source.users else name
    x = t.value(source, whole)
    parts = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in parts:
        place = parts.index(Ellipsis)
        missing = len(x.shape) + 1 - sum(p is not None for p in parts) + 1
        parts[place : place + 1] = [slice(None)] * missing
    axis = 0
    for part in parts:
        if part is None:
            x = _unsqueezed(t, source, x, axis)
            axis += 1
        elif isinstance(part, slice):
            x = x if part == slice(None) else _sliced(t, source, x, axis, part)
            axis += 1
        elif isinstance(part, int) and axis not in (0, x.axis):
            shape = (*x.shape[: axis - 1], *x.shape[axis:])
            x = t.add(source, source.name, "pick", [x], shape, {"axis": axis, "index": part})
        else:
            t.refuse(source, f"[{part}] of axis {axis}")
    return x


def _glu(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    x = t.value(source, args[0])
    dim = args[1] if len(args) > 1 else kwargs.get("dim", -1)
    if dim % (len(x.shape) + 1) != x.axis:
        t.refuse(source, f"along axis {dim}", "along the channels")
    half = x.channels // 2
    value, gate = _part(t, source, x, 0, half), _part(t, source, x, half, 2 * half)
    gate = t.add(source, source.name, "act", [gate], gate.shape, {"kind": "sigmoid"})
    return t.add(source, source.name, "mul", [value, gate], value.shape)


# Axes.


def _mean(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    given = dict(zip(("dim", "keepdim"), args[1:], strict=False)) | kwargs
    x = t.value(source, args[0])
    over, keep = given.pop("dim", None), given.pop("keepdim", False)
    over = [over] if isinstance(over, int) else over
    if given or not over or not all(isinstance(d, int) for d in over):
        t.refuse(source, f"over {over}")
    dims = sorted(d % (len(x.shape) + 1) for d in over)
    settings = {"keepdim": keep} if dims == [2, 3] and x.axis == 1 else {"keepdim": keep, "dims": dims}
    return t.add(source, source.name, "mean", [x], result.shape[1:], settings)


def _permute(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    given = args[1:] or [kwargs.get("dims", ())]
    order = list(given[0]) if isinstance(given[0], list | tuple) else given
    return _permuted(t, source, t.value(source, args[0]), order)


def _transpose(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    x = t.value(source, args[0])
    order = list(range(len(x.shape) + 1))
    pair = args[1:] or list(kwargs.values())
    if len(pair) != 2 or not all(isinstance(d, int) for d in pair):
        t.refuse(source, f"with {pair}")
    a, b = pair
    order[a], order[b] = order[b], order[a]
    return _permuted(t, source, x, order)


def _permuted(t: "Translation", source: fx.Node, x: Node, order: Sequence[Any]) -> Node:
    if not all(isinstance(d, int) for d in order) or len(order) != len(x.shape) + 1:
        t.refuse(source, f"with {order}")
    order = [d % len(order) for d in order]
    if order == list(range(len(order))):
        return x
    if order[0] != 0:
        t.refuse(source, f"with {order}", "N first")
    shape = [x.shape[d - 1] for d in order[1:]]
    return t.add(source, source.name, "permute", [x], shape, {"dims": order})


def _flatten(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    given = dict(zip(("start_dim", "end_dim"), args[1:], strict=False)) | kwargs
    x = t.value(source, args[0])
    dims = len(x.shape) + 1
    start, end = given.get("start_dim", 0) % dims, given.get("end_dim", -1) % dims
    return merged(t, source, x, start, end)


def merged(t: "Translation", source: fx.Node, x: Node, start: int, end: int) -> Node:
    """One axis in place of several."""
    size = _product(x.shape[start - 1 : end])
    shape = (*x.shape[: start - 1], size, *x.shape[end:])
    if (start, end) == (1, len(x.shape)) and x.axis == 1:
        return t.add(source, source.name, "flatten", [x], shape)
    if start == end:
        return x
    return t.add(source, source.name, "merge", [x], shape, {"start": start, "end": end})


def _unflatten(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    given = dict(zip(("dim", "sizes"), args[1:], strict=False)) | kwargs
    x = t.value(source, args[0])
    return _unmerged(t, source, x, given["dim"] % (len(x.shape) + 1), list(given["sizes"]), result.shape)


def _unmerged(
    t: "Translation", source: fx.Node, x: Node, axis: int, sizes: Sequence[Any], shape: Sequence[int]
) -> Node:
    """One axis as two. sizes: numbers, or nodes that are sizes of one other value; -1 where the other says it."""
    found: list[Any] = []
    likes = set()
    for given, size in zip(sizes, shape[axis : axis + 2], strict=True):
        if isinstance(given, fx.Node) and given in t.numbers.sizes:
            like, own, divisor = t.numbers.sizes[given]
            likes.add(like)
            found.append([own, divisor])
        elif isinstance(given, int):
            found.append(size)
        else:
            t.refuse(source, f"to {size}, computed in a way that is not known", "a number, or an earlier map's size")
    if len(likes) > 1:
        t.refuse(source, f"to the sizes of {' and '.join(sorted(likes))}", "those of one map")
    settings: dict[str, Any] = {"axis": axis, "sizes": found}
    if likes:
        settings["like"] = likes.pop()
    return t.add(source, source.name, "unmerge", [x], shape[1:], settings)


def _reshape(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    x = t.value(source, args[0])
    given = args[1:] or list(kwargs.values())
    sizes = list(given[0]) if isinstance(given[0], list | tuple) else given
    old, new = (1, *x.shape), tuple(result.shape)
    if old == new:
        return x
    while len(new) > len(old) and new[-1] == 1 and old == new[: len(old)]:  # (N, C) to (N, C, 1, 1)
        x = _unsqueezed(t, source, x, len(old))
        old = (1, *x.shape)
    if old == new:
        return x
    for start in range(1, len(old)):
        for end in range(start + 1, len(old)):
            joined = (*old[:start], _product(old[start : end + 1]), *old[end + 1 :])
            everything = x.axis == 1 and (start, end) == (1, len(old) - 1)
            if joined == new and (everything or not start <= x.axis <= end):
                return merged(t, source, x, start, end)
    for axis in range(1, len(old)):
        if len(new) == len(old) + 1 and axis != x.axis and (*new[:axis], old[axis], *new[axis + 2 :]) == old:
            return _unmerged(t, source, x, axis, sizes[axis : axis + 2], new)
    return t.refuse(
        source, f"of shape {('N', *old[1:])} to {('N', *new[1:])}", "axes other than the channels' joined or cut"
    )


def _product(sizes: Sequence[int]) -> int:
    return int(torch.Size(sizes).numel())


def _unsqueeze(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    x = t.value(source, args[0])
    axis = args[1] if len(args) > 1 else kwargs.get("dim")
    if not isinstance(axis, int):
        t.refuse(source)
    return _unsqueezed(t, source, x, axis % (len(x.shape) + 2))


def _unsqueezed(t: "Translation", source: fx.Node, x: Node, axis: int) -> Node:
    if axis == 0:
        t.refuse(source, "before N")
    return t.add(source, source.name, "unsqueeze", [x], (*x.shape[: axis - 1], 1, *x.shape[axis - 1 :]), {"axis": axis})


def _squeeze(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    x = t.value(source, args[0])
    given = args[1] if len(args) > 1 else kwargs.get("dim")
    axes = [given] if isinstance(given, int) else given
    if not isinstance(axes, list | tuple) or not all(isinstance(a, int) for a in axes):
        t.refuse(source, "without an axis", "one axis or more that are 1 wide")
    for axis in sorted((a % (len(x.shape) + 1) for a in axes), reverse=True):
        if axis == 0 or x.shape[axis - 1] != 1:
            t.refuse(source, f"of axis {axis}", "an axis that is 1 wide")
        x = t.add(source, source.name, "squeeze", [x], (*x.shape[: axis - 1], *x.shape[axis:]), {"axis": axis})
    return x


def _same(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    """What changes the memory or the type of a value but not its numbers."""
    x = t.value(source, args[0])
    if not isinstance(result, Tensor) or tuple(result.shape[1:]) != x.shape or result.dtype != t.dtype:
        t.refuse(source)
    return x


def _contiguous(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    x = t.value(source, args[0])
    layout = (args[1:] or [kwargs.get("memory_format")])[0]
    if layout is None:
        return x
    names = {torch.contiguous_format: "contiguous", torch.channels_last: "channels_last"}
    if layout not in names:
        t.refuse(source, f"with {layout}")
    return t.add(source, source.name, "format", [x], x.shape, {"memory_format": names[layout]})


RULES: dict[Any, Rule] = {
    **arithmetic.RULES,
    **dict.fromkeys((torch.chunk, "chunk", torch.split, "split"), _chunk),
    **dict.fromkeys((torch.narrow, "narrow"), _narrow),
    operator.getitem: _getitem,
    **dict.fromkeys((torch.mean, "mean"), _mean),
    **dict.fromkeys((torch.permute, "permute"), _permute),
    **dict.fromkeys((torch.transpose, "transpose", torch.swapaxes, "swapaxes", "swapdims"), _transpose),
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
    **dict.fromkeys((torch.unflatten, "unflatten"), _unflatten),
    **dict.fromkeys((torch.reshape, "reshape", "view"), _reshape),
    **dict.fromkeys((torch.unsqueeze, "unsqueeze"), _unsqueeze),
    **dict.fromkeys((torch.squeeze, "squeeze"), _squeeze),
    **dict.fromkeys(("to", "type_as", "float", "clone", torch.clone, "detach"), _same),
    "contiguous": _contiguous,
    F.glu: _glu,
}
