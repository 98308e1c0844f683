"""From a model to its program, by torch.fx."""

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from mtl.compaction.build import Select, Shift
from mtl.compaction.graph import Node, Program, renamed
from mtl.compaction.plan import MEMORY_FORMATS, SETTINGS
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
    cannot express, and for an input that the model does not take.
    """
    model = copy.deepcopy(model).eval()
    try:
        traced = fx.GraphModule(model, _Tracer().trace(model))
    # Any error: tracing runs the model's own code with stand-ins for its tensors.
    except Exception as error:
        raise BadInput(f"{type(model).__name__}: cannot be traced: {_line(error)}") from error
    translation = _Translation(traced, tuple(example_input.shape))
    with torch.no_grad():
        translation.run(example_input[:1])
    return translation.program


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, StridedPointwise | Shift | Select) or super().is_leaf_module(m, module_qualified_name)


def _always(_: nn.Module) -> bool:
    return True


def _plain(conv: nn.Conv2d) -> bool:
    return conv.groups == 1 and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _counts_padding(pool: nn.AvgPool2d) -> bool:
    # With ceil_mode, torch divides by another number where a window reaches beyond the padding.
    return pool.divisor_override is None and not (pool.ceil_mode and pool.padding not in (0, (0, 0)))


# By the exact type of a module, as a subclass may do something else: the operation, the attributes that are its
# settings, and whether a program can express what the module does.
MODULES: dict[type[nn.Module], tuple[str, tuple[str, ...], Callable[[Any], bool]]] = {
    nn.Conv2d: ("conv", ("stride", "padding", "dilation"), _plain),
    StridedPointwise: ("conv", ("stride", "padding", "dilation"), _plain),
    nn.BatchNorm2d: ("norm", ("eps", "momentum", "affine"), lambda norm: norm.track_running_stats),
    nn.Linear: ("linear", (), _always),
    nn.ReLU: ("relu", (), _always),
    nn.MaxPool2d: ("max_pool", tuple(SETTINGS["max_pool"]), lambda pool: not pool.return_indices),
    nn.AvgPool2d: ("avg_pool", tuple(SETTINGS["avg_pool"]), _counts_padding),
    nn.AdaptiveAvgPool2d: ("adaptive_pool", ("output_size",), _always),
    nn.Dropout: ("dropout", ("p",), _always),
    nn.Flatten: ("flatten", (), lambda flatten: (flatten.start_dim, flatten.end_dim) == (1, -1)),
    Shift: ("shift", (), _always),
    Select: ("select", ("runs", "layout"), _always),
}


def _only(*allowed: str) -> Callable[[Settings], Settings | None]:
    """No settings, where only arguments that change no value are given."""
    return lambda given: {} if set(given) <= set(allowed) else None


def _mean(given: Settings) -> Settings | None:
    dims = given.pop("dim", None)
    keepdim = given.pop("keepdim", False)
    over_image = isinstance(dims, tuple | list) and sorted(d % 4 for d in dims) == [2, 3]
    return {"keepdim": keepdim} if over_image and not given else None


def _flatten(given: Settings) -> Settings | None:
    return {} if given in ({"start_dim": 1}, {"start_dim": 1, "end_dim": -1}) else None


def _dropout(given: Settings) -> Settings | None:
    # The model is traced in eval mode: a functional dropout that is active there is always active.
    return None if given.get("training", True) else {"p": given.get("p", 0.5)}


def _interpolate(given: Settings) -> Settings | None:
    return given if set(given) <= set(SETTINGS["interpolate"]) else None


def _format(given: Settings) -> Settings | None:
    names = [name for name, layout in MEMORY_FORMATS.items() if given == {"memory_format": layout}]
    return {"memory_format": names[0]} if names else None


# By function, or a method's name: the operation, the names of its arguments after the values, and its settings by the
# arguments that are given, None for what a program cannot express.
FUNCTIONS: dict[Any, tuple[str, tuple[str, ...], Callable[[Settings], Settings | None]]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), ("add", (), _only("inplace"))),
    **dict.fromkeys((F.relu, torch.relu, "relu", "relu_"), ("relu", ("inplace",), _only("inplace"))),
    **dict.fromkeys((torch.mean, "mean"), ("mean", ("dim", "keepdim"), _mean)),
    **dict.fromkeys((torch.flatten, "flatten"), ("flatten", ("start_dim", "end_dim"), _flatten)),
    torch.cat: ("cat", ("dim",), lambda given: {} if given == {"dim": 1} else None),
    F.adaptive_avg_pool2d: ("adaptive_pool", ("output_size",), lambda given: given),
    F.interpolate: ("interpolate", ("size", "scale_factor", "mode", "align_corners"), _interpolate),
    F.dropout: ("dropout", ("p", "training", "inplace"), _dropout),
    "contiguous": ("format", ("memory_format",), _format),
}


class _Translation(fx.Interpreter):
    """Runs a traced module on the example, and adds each of its nodes to `program`."""

    def __init__(self, traced: fx.GraphModule, shape: tuple[int, ...]) -> None:
        super().__init__(traced)
        self.extra_traceback = False  # errors stay one line
        self.shape = shape
        self.program = Program()
        self.names: dict[fx.Node, str] = {}
        self.sizes: dict[fx.Node, str] = {}  # for x.shape and x.shape[-2:] the name of x

    def run_node(self, n: fx.Node) -> Any:
        try:
            result = super().run_node(n)
        except Exception as error:
            name = type(self.module).__name__
            raise BadInput(f"{name}: does not take the example of shape {self.shape}: {_line(error)}") from error
        match n.op:
            case "placeholder":
                self._input(n, result)
            case "output":
                self._output(n)
            case "call_module":
                self._module(n, result)
            case "call_function" | "call_method":
                self._function(n, result)
            case _:
                raise BadInput(f"{n.target}: a tensor of the model's own; allowed: {ALLOWED}")
        return result

    def _input(self, source: fx.Node, images: Any) -> None:
        if self.program:
            raise BadInput(f"{source.name}: a second input; allowed: one, the images")
        self._add(source, images, Node(source.name, "input", [], {"channels": images.shape[1]}))

    def _output(self, source: fx.Node) -> None:
        structure = renamed(source.args[0], self.names)
        inputs = tree_leaves(structure)
        for name in inputs:
            if not isinstance(name, str) or name not in self.program:
                raise BadInput(f"{source.name}: {name} is returned; allowed: tensors, in dicts, lists and tuples")
        self.program["output"] = Node("output", "output", inputs, {"structure": structure})

    def _module(self, source: fx.Node, result: Any) -> None:
        path = str(source.target)
        module = self.fetch_attr(path)
        if type(module) is nn.Identity:
            self.names[source] = self._value(source, source.args[0])
            return
        op, attributes, known = MODULES.get(type(module), ("", (), lambda module: False))
        if not known(module) or len(source.args) != 1 or source.kwargs:
            raise BadInput(f"{path}: {module}; allowed: {ALLOWED}")
        settings = {name: getattr(module, name) for name in attributes}
        tensors = {
            name: value.detach().clone() for name, value in module.state_dict().items() if name != "num_batches_tracked"
        }
        name, copies = path, 1
        while name in self.program:  # a module that is called twice
            copies += 1
            name = f"{path}_call{copies}"
        self._add(source, result, Node(name, op, [self._value(source, source.args[0])], settings, tensors))

    def _function(self, source: fx.Node, result: Any) -> None:
        if self._is_size(source):
            return
        op, arguments, settings_of = FUNCTIONS.get(source.target, ("", (), lambda given: None))
        values, rest = list(source.args[: 2 if op == "add" else 1]), source.args[2 if op == "add" else 1 :]
        if op == "cat" and isinstance(values[0], list | tuple):
            values = list(values[0])
        given: Settings = {**dict(zip(arguments, rest, strict=False)), **source.kwargs}
        size = given.pop("size", None) if op == "interpolate" else None
        like = {"like": self.sizes[size]} if isinstance(size, fx.Node) and size in self.sizes else {}
        if size is not None and not like:
            given["size"] = size
        settings = settings_of(given)
        if settings is None or len(rest) > len(arguments) or any(isinstance(v, fx.Node) for v in settings.values()):
            raise BadInput(f"{source.name}: {_called(source)}; allowed: {ALLOWED}")
        inputs = [self._value(source, value) for value in values]
        shapes = [self.program[name].shape for name in inputs]
        if op == "add" and (len(inputs) != 2 or shapes[0] != shapes[1]):
            raise BadInput(f"{source.name}: adds shapes {shapes}; allowed: the same shape twice")
        self._add(source, result, Node(source.name, op, inputs, settings | like))

    def _is_size(self, source: fx.Node) -> bool:
        """Whether the node is x.shape, or x.shape[-2:] or x.shape[2:] of a 4-D x."""
        if source.target is getattr and len(source.args) == 2 and source.args[1] == "shape":
            self.sizes[source] = self._value(source, source.args[0])
            return True
        shape = source.args[0] if source.args else None
        if source.target is operator.getitem and isinstance(shape, fx.Node) and shape in self.sizes:
            four = len(self.program[self.sizes[shape]].shape) == 3
            if four and source.args[1] in (slice(-2, None, None), slice(2, None, None)) and shape.target is getattr:
                self.sizes[source] = self.sizes[shape]
                return True
        return False

    def _value(self, reader: fx.Node, value: Any) -> str:
        if not isinstance(value, fx.Node) or value not in self.names:
            raise BadInput(f"{reader.name}: {_called(reader)} of {value}; allowed: tensors that the network computes")
        return self.names[value]

    def _add(self, source: fx.Node, result: Any, node: Node) -> None:
        if not isinstance(result, Tensor):
            raise BadInput(f"{source.name}: {_called(source)} does not give one tensor; allowed: {ALLOWED}")
        node.shape = tuple(result.shape[1:])
        if node.op == "adaptive_pool" and node.settings["output_size"] in (1, (1, 1), [1, 1]):
            # The same, and plain in ONNX: torch 2.11 writes a loop for the pool of a channels_last map.
            node.op, node.settings = "mean", {"keepdim": True}
        either = node.op in ("relu", "dropout", "add", "cat", "mean", "shift", "select")
        if len(node.shape) not in ((1, 3) if either else (1,) if node.op in ("linear", "flatten") else (3,)):
            found = ("N", *node.shape)
            raise BadInput(f"{node.name}: a result of shape {found}; allowed: (N, C, H, W), or (N, C) at the end")
        self.names[source] = node.name
        self.program[node.name] = node


def _called(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
