"""From a model to its program, by torch.fx."""

import copy
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from mtl.compaction.graph import Node, Program, renamed, values_of
from mtl.errors import BadInput
from mtl.networks.strided import StridedPointwise

ALLOWED = (
    "Conv2d without groups, BatchNorm2d, ReLU, addition, pooling, interpolation, concatenation of channels, Linear, "
    "mean over height and width, flattening and dropout"
)
Settings = dict[str, Any]


def trace(model: nn.Module, example_input: Tensor) -> Program:
    """The program of the model in eval mode; its tensors are copies.

    Raises BadInput, naming the module or operation, for a model that torch.fx cannot trace or that does what a program
    cannot say, and for an input that the model does not take.
    """
    model = copy.deepcopy(model).eval()
    try:
        traced = fx.GraphModule(model, _Tracer().trace(model))
    # Whatever else: tracing runs the model's own code with stand-ins for its tensors.
    except Exception as error:
        raise BadInput(f"{type(model).__name__}: cannot be traced: {_line(error)}") from error
    try:
        with torch.no_grad():
            ShapeProp(traced).propagate(example_input[:1])
    except Exception as error:
        shape = tuple(example_input.shape)
        raise BadInput(f"{type(model).__name__}: does not take the example of shape {shape}: {_line(error)}") from error
    return _Translation(traced).program


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, StridedPointwise) or super().is_leaf_module(m, module_qualified_name)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _conv(module: nn.Conv2d) -> Settings | None:
    plain = module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return {"stride": module.stride, "padding": module.padding, "dilation": module.dilation} if plain else None


def _norm(module: nn.BatchNorm2d) -> Settings | None:
    return (
        {"eps": module.eps, "momentum": module.momentum, "affine": module.affine}
        if module.track_running_stats
        else None
    )


def _max_pool(module: nn.MaxPool2d) -> Settings | None:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    return None if module.return_indices else {name: getattr(module, name) for name in names}


def _avg_pool(module: nn.AvgPool2d) -> Settings | None:
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
    # What torch divides by where a window of ceil_mode hangs over the padding is not the padded window's size.
    odd = module.divisor_override is not None or (module.ceil_mode and module.padding not in (0, (0, 0)))
    return None if odd else {name: getattr(module, name) for name in names}


# By the module's exact type: a subclass may do something else.
MODULES: dict[type[nn.Module], tuple[str, Callable[[Any], Settings | None]]] = {
    nn.Conv2d: ("conv", _conv),
    StridedPointwise: ("conv", _conv),
    nn.BatchNorm2d: ("norm", _norm),
    nn.Linear: ("linear", lambda module: {}),
    nn.ReLU: ("relu", lambda module: {}),
    nn.MaxPool2d: ("max_pool", _max_pool),
    nn.AvgPool2d: ("avg_pool", _avg_pool),
    nn.AdaptiveAvgPool2d: ("adaptive_pool", lambda module: {"output_size": module.output_size}),
    nn.Dropout: ("dropout", lambda module: {"p": module.p}),
    nn.Flatten: ("flatten", lambda module: {} if (module.start_dim, module.end_dim) == (1, -1) else None),
}


def _no_arguments(settings: Settings) -> Settings | None:
    return None if set(settings) - {"inplace"} else {}


def _mean(settings: Settings) -> Settings | None:
    dims = settings.pop("dim", None)
    keepdim = settings.pop("keepdim", False)
    over_image = isinstance(dims, tuple | list) and sorted(d % 4 for d in dims) == [2, 3]
    return {"keepdim": keepdim} if over_image and not settings else None


def _flatten(settings: Settings) -> Settings | None:
    return {} if settings == {"start_dim": 1} or settings == {"start_dim": 1, "end_dim": -1} else None


def _dropout(settings: Settings) -> Settings | None:
    # Traced in eval mode, where a functional dropout that is still at work is one that always is.
    return None if settings.get("training", True) else {"p": settings.get("p", 0.5)}


def _cat(settings: Settings) -> Settings | None:
    return {} if settings == {"dim": 1} else None


def _interpolate(settings: Settings) -> Settings | None:
    names = {"size", "scale_factor", "mode", "align_corners", "recompute_scale_factor", "antialias"}
    return settings if set(settings) <= names else None


# By function, or a method's name: the operation, the names of its arguments after the values, and their check.
FUNCTIONS: dict[Any, tuple[str, tuple[str, ...], Callable[[Settings], Settings | None]]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), ("add", (), _no_arguments)),
    **dict.fromkeys((F.relu, torch.relu, "relu", "relu_"), ("relu", ("inplace",), _no_arguments)),
    **dict.fromkeys((torch.mean, "mean"), ("mean", ("dim", "keepdim"), _mean)),
    **dict.fromkeys((torch.flatten, "flatten"), ("flatten", ("start_dim", "end_dim"), _flatten)),
    torch.cat: ("cat", ("dim",), _cat),
    F.adaptive_avg_pool2d: ("adaptive_pool", ("output_size",), lambda settings: settings),
    F.interpolate: ("interpolate", ("size", "scale_factor", "mode", "align_corners"), _interpolate),
    F.dropout: ("dropout", ("p", "training", "inplace"), _dropout),
}


class _Translation:
    """Node for node from a traced module whose nodes know their shapes to `program`."""

    def __init__(self, traced: fx.GraphModule) -> None:
        self.traced = traced
        self.program = Program({}, {})
        self.names: dict[fx.Node, str] = {}
        self.sizes: dict[fx.Node, str] = {}  # x.shape and x.shape[-2:], by the name of x
        for node in traced.graph.nodes:
            self._translate(node)

    def _translate(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            if any(n.op == "input" for n in self.program.nodes.values()):
                raise BadInput(f"{node.name}: a second input; allowed: one, the images")
            self._add(node, Node(node.name, "input", [], {"channels": _shape(node)[0]}))
        elif node.op == "output":
            names = dict(self.names)
            structure = fx.node.map_arg(node.args[0], lambda n: names.get(n, n))
            structure = _plain(structure)
            inputs = list(values_of(structure))
            for name in inputs:
                if name not in self.program.nodes:
                    raise BadInput(f"{node.name}: {name} is returned; allowed: tensors, in dicts, lists and tuples")
            self.program.nodes["output"] = Node("output", "output", inputs, {"structure": renamed(structure, {})})
        elif node.op == "call_module":
            self._module(node)
        elif node.op in ("call_function", "call_method"):
            self._function(node)
        else:
            raise BadInput(f"{node.target}: a tensor of the model's own; allowed: {ALLOWED}")

    def _module(self, node: fx.Node) -> None:
        path = str(node.target)
        module = self.traced.get_submodule(path)
        if type(module) is nn.Identity:
            self.names[node] = self._value(node, node.args[0])
            return
        op, read = MODULES.get(type(module), ("", lambda module: None))
        settings = read(module)
        if settings is None or len(node.args) != 1 or node.kwargs:
            raise BadInput(f"{path}: {module}; allowed: {ALLOWED}")
        tensors = {
            name: value.detach().clone() for name, value in module.state_dict().items() if name != "num_batches_tracked"
        }
        name, copies = path, 1
        while name in self.program.nodes:  # a module that is called twice
            copies += 1
            name = f"{path}_call{copies}"
        self._add(node, Node(name, op, [self._value(node, node.args[0])], settings, tensors))

    def _function(self, node: fx.Node) -> None:
        if self._is_size(node):
            return
        op, arguments, check = FUNCTIONS.get(node.target, ("", (), lambda settings: None))
        values, rest = list(node.args[: 2 if op == "add" else 1]), node.args[2 if op == "add" else 1 :]
        if op == "cat" and isinstance(values[0], list | tuple):
            values = list(values[0])
        given: Settings = {**dict(zip(arguments, rest, strict=False)), **node.kwargs}
        like = given.pop("size", None) if op == "interpolate" else None
        if isinstance(like, fx.Node) and like in self.sizes:
            given["like"] = self.sizes[like]
        elif like is not None:
            given["size"] = like
        settings = check({name: value for name, value in given.items() if name != "like"})
        plain = settings is not None and not any(isinstance(v, fx.Node) for v in settings.values())
        if not op or not plain or len(rest) > len(arguments):
            raise BadInput(f"{node.name}: {_called(node)}; allowed: {ALLOWED}")
        assert settings is not None
        inputs = [self._value(node, value) for value in values]
        shapes = [self.program.shapes[name] for name in inputs]
        if op == "add" and (len(inputs) != 2 or shapes[0] != shapes[1]):
            raise BadInput(f"{node.name}: adds shapes {shapes}; allowed: the same shape twice")
        if "like" in given:
            settings = {**settings, "like": given["like"]}
        self._add(node, Node(node.name, op, inputs, settings))

    def _is_size(self, node: fx.Node) -> bool:
        """Whether the node is x.shape, or x.shape[-2:] or x.shape[2:] of a 4-D x."""
        if node.target is getattr and len(node.args) == 2 and node.args[1] == "shape":
            self.sizes[node] = self._value(node, node.args[0])
            return True
        source = node.args[0] if node.args else None
        if node.target is operator.getitem and isinstance(source, fx.Node) and source in self.sizes:
            four = len(self.program.shapes[self.sizes[source]]) == 3
            if four and node.args[1] in (slice(-2, None, None), slice(2, None, None)) and source.target is getattr:
                self.sizes[node] = self.sizes[source]
                return True
        return False

    def _value(self, reader: fx.Node, value: Any) -> str:
        if not isinstance(value, fx.Node) or value not in self.names:
            raise BadInput(f"{reader.name}: {_called(reader)} of {value}; allowed: tensors that the network computes")
        return self.names[value]

    def _add(self, source: fx.Node, node: Node) -> None:
        shape = _shape(source)
        if node.op == "adaptive_pool" and node.settings["output_size"] in (1, (1, 1), [1, 1]):
            # The same, and plain in ONNX: torch 2.11 writes a loop for the pool of a channels_last map.
            node = replace(node, op="mean", settings={"keepdim": True})
        ranks = {"linear": (1,), "flatten": (1,)}.get(node.op, (3,) if node.op != "mean" else (1, 3))
        if node.op in ("relu", "dropout", "add", "cat"):
            ranks = (1, 3)
        if len(shape) not in ranks:
            raise BadInput(
                f"{node.name}: a result of shape {('N', *shape)}; allowed: (N, C, H, W), or (N, C) at the end"
            )
        self.names[source] = node.name
        self.program.nodes[node.name] = node
        self.program.shapes[node.name] = shape


def _shape(node: fx.Node) -> tuple[int, ...]:
    shape = getattr(node.meta.get("tensor_meta"), "shape", None)
    if shape is None:
        raise BadInput(f"{node.name}: {_called(node)} does not give one tensor; allowed: {ALLOWED}")
    return tuple(int(size) for size in shape[1:])


def _called(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _plain(structure: Any) -> Any:
    """fx's immutable dicts and lists as Python's own."""
    if isinstance(structure, dict):
        return {key: _plain(value) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return [_plain(x) for x in structure] if isinstance(structure, list) else tuple(_plain(x) for x in structure)
    return structure if isinstance(structure, str) else str(structure)
