"""From a model to its program, by torch.fx."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from mtl.compaction import composite, moves
from mtl.compaction.graph import Node, Program, renamed
from mtl.compaction.known import ALLOWED, FUNCTIONS, IDENTITIES, OWN, known_module
from mtl.compaction.layouts import layout_after
from mtl.compaction.numbers import Numbers
from mtl.errors import BadInput


def trace(model: nn.Module, example_input: Tensor) -> Program:
    """The program of the model in eval mode; its tensors are copies.

    Raises BadInput, naming the module or operation, for a model that torch.fx cannot trace or that does what a program
    cannot express, and for an input that the model does not take.
    """
    model = copy.deepcopy(model).eval()
    tracer = _Tracer()
    try:
        traced = fx.GraphModule(model, tracer.trace(model, _defaults(model)))
    # Any error: tracing runs the model's own code with stand-ins for its tensors.
    except Exception as error:
        where = f" in {tracer.inside}" if tracer.inside else ""
        raise BadInput(f"{type(model).__name__}: cannot be traced{where}: {_line(error)}") from error
    translation = Translation(traced, tuple(example_input.shape))
    with torch.no_grad():
        translation.run(example_input[:1])
    return translation.program


def _defaults(model: nn.Module) -> dict[str, Any]:
    """The arguments that the model has besides the images, at their defaults."""
    arguments = list(inspect.signature(model.forward).parameters.values())[1:]
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {a.name: a.default for a in arguments if a.kind in plain and a.default is not inspect.Parameter.empty}


class _Tracer(fx.Tracer):
    """Also remembers the innermost module in which tracing failed."""

    inside = ""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = isinstance(m, OWN) or composite.is_composite(m) or known_module(m) is not None
        return known or type(m).__name__ in IDENTITIES or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, *arguments: Any) -> Any:
        try:
            return super().call_module(m, *arguments)
        except Exception:
            self.inside = self.inside or f"{self.path_of_module(m)} ({type(m).__name__})"
            raise


class Translation(fx.Interpreter):
    """Runs a traced module on the example, and adds each of its nodes to `program`.

    A result is one of: a value that depends on the images (`names`), several of them, as of a chunk (`several`), a
    tensor that does not depend on them (`fixed`), or a number, such as a height (`numbers`).
    """

    def __init__(self, traced: fx.GraphModule, shape: tuple[int, ...]) -> None:
        super().__init__(traced)
        self.extra_traceback = False  # errors stay one line
        self.example_shape = shape
        self.program = Program()
        self.names: dict[fx.Node, str] = {}
        self.several: dict[fx.Node, Sequence[str | None]] = {}
        self.fixed: dict[fx.Node, Tensor] = {}
        self.paths: dict[fx.Node, str] = {}  # of fixed tensors that are parameters or buffers
        self.numbers = Numbers(self.program)
        self.dtype = torch.float32  # of the images

    def run_node(self, n: fx.Node) -> Any:
        try:
            result = super().run_node(n)
        except Exception as error:
            name = type(self.module).__name__
            raise BadInput(
                f"{name}: does not take the example of shape {self.example_shape}: {_line(error)}"
            ) from error
        match n.op:
            case "placeholder":
                self._input(n, result)
            case "output":
                self._output(n)
            case "get_attr":
                self.fixed[n], self.paths[n] = result, str(n.target)
            case _ if not any(source in self.names or source in self.several for source in n.all_input_nodes):
                self._independent(n, result)
            case "call_module":
                self._module(n, result)
            case _:
                self._function(n, result)
        return result

    # For `moves`, `composite` and `arithmetic`, which translate kinds of nodes.

    def value(self, reader: fx.Node, value: Any) -> Node:
        """The node of a value that the network computes of the images."""
        if not isinstance(value, fx.Node) or value not in self.names:
            self.refuse(reader, f"of {value}")
        return self.program[self.names[value]]

    def refuse(self, source: fx.Node, what: str = "", allowed: str = ALLOWED) -> NoReturn:
        raise BadInput(f"{source.name}: {called(source)}{what and ' '}{what}; allowed: {allowed}")

    def add(
        self,
        source: fx.Node,
        name: str,
        op: str,
        inputs: Sequence[Node],
        shape: Sequence[int],
        settings: dict[str, Any] | None = None,
        tensors: dict[str, Tensor] | None = None,
    ) -> Node:
        """Add an operation to the program. shape: of the result, without N."""
        layouts = [(len(node.shape) + 1, node.axis) for node in inputs]
        node = Node(self._free(name), op, [i.name for i in inputs], settings or {}, tensors or {}, tuple(shape))
        own = {**node.settings, "shape": node.shape}
        if op in ("cat", "shift", "scale", "select", "part", "response_norm"):
            own["axis"] = inputs[0].axis
        layout = layout_after(op, own, layouts)
        if layout is None or layout[0] != len(node.shape) + 1:
            found = " and ".join(f"{('N', *i.shape)} with channels in axis {i.axis}" for i in inputs)
            self.refuse(source, f"of {found}", "maps (N, C, H, W), or tokens (N, L, C) at linear layers")
        node.axis = layout[1]
        self.program[node.name] = node
        return node

    def done(self, source: fx.Node, node: Node) -> None:
        """The value of a traced node. What it overwrote has from now on the same value."""
        overwritten = self._overwritten(source)
        if overwritten in self.names:
            old = self.names[overwritten]
            for other in [other for other, name in self.names.items() if name == old]:
                self.names[other] = node.name
        self.names[source] = node.name

    def _overwritten(self, source: fx.Node) -> Any:
        target = source.target
        module = source.op == "call_module" and getattr(self.fetch_attr(str(target)), "inplace", False)
        method = isinstance(target, str) and source.op == "call_method" and target.endswith("_")
        function = source.op == "call_function" and getattr(target, "__name__", "") in (
            "iadd",
            "isub",
            "imul",
            "itruediv",
        )
        return (
            source.args[0] if (module or method or function or source.kwargs.get("inplace")) and source.args else None
        )

    def _free(self, name: str) -> str:
        free, copies = name, 1
        while free in self.program:  # a module that is called twice
            copies += 1
            free = f"{name}_call{copies}"
        return free

    def _input(self, source: fx.Node, images: Any) -> None:
        if not isinstance(images, Tensor):  # another argument at its default
            self.numbers.add_plain(source, images)
            return
        if self.program:
            raise BadInput(f"{source.name}: a second input; allowed: one, the images")
        self.dtype = images.dtype
        self.names[source] = self.add(
            source, source.name, "input", [], images.shape[1:], {"channels": images.shape[1]}
        ).name

    def _output(self, source: fx.Node) -> None:
        structure = renamed(source.args[0], self.names)
        inputs = tree_leaves(structure)
        for name in inputs:
            if not isinstance(name, str) or name not in self.program:
                raise BadInput(f"{source.name}: {name} is returned; allowed: tensors, in dicts, lists and tuples")
        self.program["output"] = Node("output", "output", inputs, {"structure": structure})

    def _independent(self, source: fx.Node, result: Any) -> None:
        """A tensor that does not depend on the images, or a number."""
        if not isinstance(result, Tensor):
            self.numbers.add_result(source, result)
            return
        again = super().run_node(source)
        # On the meta device there are no numbers to compare; what is traced there is not used.
        same = result.is_meta or torch.equal(result, again)
        if str(source.target).endswith("_") or not same:
            self.refuse(source, "changes a tensor of the model's own or draws random numbers")
        self.fixed[source] = result
        paths = {self.paths[n] for n in source.all_input_nodes if n in self.paths}
        if len(paths) == 1:
            self.paths[source] = paths.pop()

    def _module(self, source: fx.Node, result: Any) -> None:
        path = str(source.target)
        module = self.fetch_attr(path)
        if type(module).__name__ in IDENTITIES:
            self.names[source] = self.value(source, source.args[0]).name
            return
        plain = all(value is None or value is False for value in source.kwargs.values())
        if plain and len(source.args) == 1 and (found := known_module(module)):
            op, settings = found
            x = self.value(source, source.args[0])
            if op == "select" and module.axis != x.axis:
                self.refuse(source)
            shape = tuple(result.shape[1:])
            if op == "adaptive_pool":
                op, settings = _plain_pool(settings)
            node = self.add(source, path, op, [x], shape, settings, own_tensors(module))
        else:
            made = composite.translate(self, source, module, path)
            if made is None:
                text = str(module) if not list(module.children()) else type(module).__name__
                raise BadInput(f"{path}: {text}; allowed: {ALLOWED}")
            node = made
            if source in self.several:
                return
        self.done(source, node)

    def _function(self, source: fx.Node, result: Any) -> None:
        if self.numbers.of_value(source, self.names):
            return
        if moves.translate(self, source, result):
            return
        op, arguments, settings_of = FUNCTIONS.get(source.target, ("", (), lambda given: None))
        rest = source.args[1:]
        given: dict[str, Any] = {**dict(zip(arguments, rest, strict=False)), **source.kwargs}
        like = {}
        if op == "interpolate" and (name := self.numbers.size_of(given.get("size"))):
            like = {"like": name}
            del given["size"]
        given = {name: self.numbers.resolved(value) for name, value in given.items()}
        if op == "interpolate":
            given = {name: value for name, value in given.items() if value is not None}
        settings = settings_of(given) if len(rest) <= len(arguments) else None
        if settings is None or any(isinstance(v, fx.Node) for v in tree_leaves(settings)):
            self.refuse(source)
        x = self.value(source, source.args[0])
        if op == "adaptive_pool":
            op, settings = _plain_pool(settings)
        if not isinstance(result, Tensor):
            self.refuse(source, "does not give one tensor")
        self.done(source, self.add(source, source.name, op, [x], result.shape[1:], settings | like))


def _plain_pool(settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    # The same, and plain in ONNX: torch 2.11 writes a loop for the pool of a channels_last map.
    if settings["output_size"] in (1, (1, 1), [1, 1]):
        return "mean", {"keepdim": True}
    return "adaptive_pool", settings


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Copies of a layer's parameters and buffers."""
    return {
        name: value.detach().clone() for name, value in module.state_dict().items() if name != "num_batches_tracked"
    }


def called(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
