"""Functions of a trace that join values, or a value and tensors of the model's own: sums, products, layers."""

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from mtl.compaction.graph import Node

if TYPE_CHECKING:
    from mtl.compaction.trace import Translation

Rule = Callable[["Translation", fx.Node, Any, list[Any], dict[str, Any]], Node | str | None]


def _arithmetic(kind: str) -> Rule:
    def rule(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
        if kwargs or len(args) != 2:
            t.refuse(source, f"with {kwargs or args}")
        a, b = args
        op, first, second = "mul" if kind in ("mul", "div") else "add", _operand(t, source, a), _operand(t, source, b)
        if kind == "div":
            if isinstance(second, Node):
                t.refuse(source, "by a value")
            second = 1 / second
        if isinstance(first, Node) and isinstance(second, Node):
            if kind == "sub":
                second = _scalar(t, source, second, -1.0, 0.0)
            return _joined(t, source, op, first, second, result)
        if not isinstance(first, Node):
            assert isinstance(second, Node)
            if kind == "sub":
                second = _scalar(t, source, second, -1.0, 0.0)
            return _with_fixed(t, source, op, second, first, result)
        return _with_fixed(t, source, op, first, -second if kind == "sub" else second, result)

    return rule


def _operand(t: "Translation", source: fx.Node, x: Any) -> Any:
    """The node of a value, a tensor of the model's own, or a number."""
    if isinstance(x, fx.Node) and x in t.names:
        return t.value(source, x)
    if isinstance(x, fx.Node) and x in t.fixed:
        return t.fixed[x]
    if isinstance(x, int | float) and not isinstance(x, bool):
        return float(x)
    t.refuse(source, f"with {x}")
    return None


def _scalar(t: "Translation", source: fx.Node, x: Node, scale: float, offset: float) -> Node:
    return t.add(source, source.name, "scalar", [x], x.shape, {"scale": scale, "offset": offset})


def _joined(t: "Translation", source: fx.Node, op: str, a: Node, b: Node, result: Tensor) -> Node:
    shape = tuple(result.shape[1:])
    fits = len(a.shape) == len(b.shape) == len(shape) and a.axis == b.axis and a.channels == b.channels
    if not fits:
        t.refuse(source, f"of shapes {('N', *a.shape)} and {('N', *b.shape)}", "the same channels in both")
    small = [i for i, x in enumerate((a, b)) if x.shape != shape]
    settings = {"small": 2 if len(small) == 2 else small[0]} if small else {}
    return t.add(source, source.name, op, [a, b], shape, settings)


def _with_fixed(t: "Translation", source: fx.Node, op: str, x: Node, own: Any, result: Tensor) -> Node:
    """A value and a number or tensor that does not depend on the images."""
    if isinstance(own, float):
        return _scalar(t, source, x, *((own, 0.0) if op == "mul" else (1.0, own)))
    dims = len(x.shape) + 1
    if tuple(result.shape[1:]) != x.shape or own.ndim > dims or not own.is_floating_point():
        t.refuse(source, f"with a tensor of shape {tuple(own.shape)}")
    own = own.detach().reshape((1,) * (dims - own.ndim) + tuple(own.shape))
    name = _path(t, source)
    if own.numel() == own.shape[x.axis]:  # a number for each channel
        numbers = own.flatten().expand(x.channels).clone()
        kind, tensor = ("scale", "weight") if op == "mul" else ("shift", "bias")
        return t.add(source, name, kind, [x], x.shape, {}, {tensor: numbers})
    if op == "mul":
        t.refuse(source, f"with a tensor of shape {tuple(own.shape)}", "a number for each channel")
    full = list(own.shape)
    full[x.axis] = x.channels
    return t.add(source, name, "embed", [x], x.shape, {}, {"value": own.expand(full).clone()})


def _path(t: "Translation", source: fx.Node) -> str:
    """The name of the parameter that an operation uses, or of the node if it uses several."""
    paths = {t.paths[n] for n in source.all_input_nodes if n in t.paths}
    return paths.pop() if len(paths) == 1 else source.name


def _negative(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    return _scalar(t, source, t.value(source, args[0]), -1.0, 0.0)


# Channels and tokens side by side.


def _cat(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    given = dict(zip(("tensors", "dim"), args, strict=False)) | kwargs
    parts, dim = given.pop("tensors", None), given.pop("dim", given.pop("axis", 0))
    if given or not isinstance(parts, list | tuple) or not isinstance(dim, int):
        t.refuse(source)
    nodes = [t.value(source, part) if part not in t.fixed else None for part in parts]
    last = nodes[-1]
    dim %= result.ndim
    if last is not None and None not in nodes and dim == last.axis:
        return t.add(source, source.name, "cat", [n for n in nodes if n], result.shape[1:])
    own = [t.fixed[part] for part in parts[:-1] if part in t.fixed]
    if last is None or len(own) != len(parts) - 1 or (dim, last.axis, result.ndim) != (1, 2, 3):
        t.refuse(source, f"along axis {dim}", "channels, or tokens of the model's own before the others")
    return t.add(
        source, _path(t, source), "prepend", [last], result.shape[1:], {}, {"value": torch.cat(own, 1).clone()}
    )


def _linear(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
    return _own_layer(t, source, given, "linear", {}, result)


def _layer_norm(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    given = dict(zip(("input", "normalized_shape", "weight", "bias", "eps"), args, strict=False)) | kwargs
    over = given.pop("normalized_shape")
    if len(over) != 1 if isinstance(over, list | tuple) else True:
        t.refuse(source, f"over {over}", "over the channels")
    return _own_layer(t, source, given, "layer_norm", {"eps": given.pop("eps", 1e-5)}, result)


def _group_norm(t: "Translation", source: fx.Node, result: Any, args: list[Any], kwargs: dict[str, Any]) -> Node:
    given = dict(zip(("input", "num_groups", "weight", "bias", "eps"), args, strict=False)) | kwargs
    settings = {"groups": given.pop("num_groups"), "eps": given.pop("eps", 1e-5)}
    return _own_layer(t, source, given, "group_norm", settings, result)


def _own_layer(
    t: "Translation", source: fx.Node, given: dict[str, Any], op: str, settings: dict[str, Any], result: Tensor
) -> Node:
    """A layer whose weights are tensors of the model's own."""
    x = t.value(source, given.pop("input"))
    tensors = {}
    for name in ("weight", "bias"):
        own = given.pop(name, None)
        if own is not None:
            if own not in t.fixed:
                t.refuse(source, f"with a computed {name}")
            tensors[name] = t.fixed[own].detach().clone()
    if given or ("bias" in tensors and "weight" not in tensors):
        t.refuse(source, f"with {given}")
    paths = [t.paths[n] for n in source.all_input_nodes if n in t.paths]
    name = paths[0].rpartition(".")[0] if paths else source.name
    return t.add(source, name or source.name, op, [x], result.shape[1:], settings, tensors)


RULES: dict[Any, Rule] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), _arithmetic("add")),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub", "sub_"), _arithmetic("sub")),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), _arithmetic("mul")),
    **dict.fromkeys((torch.multiply, "multiply"), _arithmetic("mul")),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div", "div_"), _arithmetic("div")),
    **dict.fromkeys((operator.neg, torch.neg, "neg"), _negative),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), _cat),
    F.linear: _linear,
    F.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
}
