"""From a program, or its plan of plain data, to a module."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from mtl.compaction.activations import ACTIVATIONS, IN_PLACE, KEEPS_INPUT
from mtl.compaction.graph import Node, Program, renamed
from mtl.compaction.layers import Attend, Embed, Prepend, ResponseNorm, Scale, Select, Shift
from mtl.compaction.plan import MEMORY_FORMATS, Plan, check_plan
from mtl.compaction.settings import OWN_MODULES, PLAIN_MODULES
from mtl.networks.strided import safe_convolution

# Operations whose result is new memory that no derivative needs, besides some activations.
NEW_MEMORY = frozenset(
    ["conv", "conv_transpose", "linear", "norm", "layer_norm", "group_norm", "shift", "scale", "add", "mul"]
)
# Operations whose derivative does not need their input.
LINEAR = frozenset(["mean", "adaptive_pool", "avg_pool", "add", "shift"])
# Settings that name the channels' axis, which plans have where it is not 1.
WITH_AXIS = frozenset(["cat", "shift", "scale", "select", "part", "response_norm"])


def build(plan: Plan) -> fx.GraphModule:
    """The plan's network with new weights as torch initialises them, in train mode; its `meta["plan"]` is the plan.

    Raises BadInput for a plan that does not describe a network.
    """
    nodes = check_plan(plan)
    module = _Building(nodes).module
    module.meta["plan"] = [_step(node, node.settings) for node in nodes]
    return module


def with_tensors(program: Program) -> fx.GraphModule:
    """The program's network with its own weights, in eval mode, on their device."""
    state = {f"{node.name}.{name}": value for node in program.values() for name, value in node.tensors.items()}
    module = build([_step(node, _plan_settings(node)) for node in program.values()])
    missing = [name for name in module.state_dict() if name not in state and not name.endswith("num_batches_tracked")]
    assert not missing, missing
    first = next(iter(state.values()), torch.zeros(()))
    module = module.to(first.device, first.dtype)
    # A plain dict has no version, and then batch norm takes a missing num_batches_tracked as 0.
    module.load_state_dict(state)
    return module.eval()


def _step(node: Node, settings: dict[str, Any]) -> dict[str, Any]:
    return {"name": node.name, "op": node.op, "inputs": list(node.inputs), "settings": settings}


def _plan_settings(node: Node) -> dict[str, Any]:
    """The settings of a program's node and the sizes of its tensors: plain data."""
    settings = {name: value for name, value in node.settings.items() if name != "added_bias"}
    if node.op in WITH_AXIS and node.axis != 1:
        settings["axis"] = node.axis
    tensors = node.tensors
    match node.op:
        case "conv" | "linear" | "conv_transpose":
            out, reads = tensors["weight"].shape[:2]
            if node.op == "conv_transpose":
                out, reads = reads * node.groups, out
            else:
                reads *= node.groups
            settings |= {"out": out, "in": reads, "bias": "bias" in tensors}
            if node.op != "linear":
                settings["kernel"] = tuple(tensors["weight"].shape[2:])
            if settings.get("groups") == 1:
                del settings["groups"]  # as in plans that are older than groups
        case "norm" | "shift" | "scale" | "response_norm" | "layer_norm" | "group_norm":
            settings["channels"] = node.channels
            if node.op in ("layer_norm", "group_norm"):
                settings["affine"] = "weight" in tensors
            if node.op == "layer_norm":
                settings["bias"] = "bias" in tensors
        case "embed":
            settings["shape"] = list(tensors["value"].shape[1:])
        case "prepend":
            settings |= {"tokens": tensors["value"].shape[1], "channels": node.channels}
    return settings


class _Building:
    """The module of a checked plan, built operation by operation."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = Program({node.name: node for node in nodes})
        self.readers = self.nodes.readers()
        self.place = {node.name: place for place, node in enumerate(nodes)}
        self.root = fx.GraphModule(nn.Module(), fx.Graph())
        self.graph = fx.Graph()
        self.values: dict[str, fx.Node] = {}
        for node in nodes:
            if node.op == "output":
                self.graph.output(renamed(node.settings["structure"], self.values))
            else:
                self.values[node.name] = self._value(node, [self.values[name] for name in node.inputs])
        self.module = fx.GraphModule(self.root, self.graph, "CompactModel")

    def _value(self, node: Node, inputs: list[fx.Node]) -> fx.Node:
        call, settings = self.graph.call_function, dict(node.settings)
        match node.op:
            case "input":
                return self.graph.placeholder(node.name)
            case "format":
                layout = MEMORY_FORMATS[settings["memory_format"]]
                return self.graph.call_method("contiguous", tuple(inputs), {"memory_format": layout})
            case op if op in OWN_MODULES or op in PLAIN_MODULES:
                self.root.add_submodule(node.name, _layer(node))
                return self.graph.call_module(node.name, tuple(inputs))
            case "relu":
                return call(F.relu, tuple(inputs), {"inplace": self._own(node, 0)})
            case "act":
                kind = settings.pop("kind")
                if kind in IN_PLACE and self._own(node, 0):
                    settings["inplace"] = True
                return call(ACTIVATIONS[kind][0], tuple(inputs), settings)
            case "add" | "mul":
                # The memory of an own value is overwritten, which saves that of another value.
                own = [self._own(node, 0), self._own(node, 1)]
                inputs = inputs[::-1] if own[1] and not own[0] else inputs
                added, multiplied = (operator.iadd, operator.imul) if any(own) else (operator.add, operator.mul)
                return call(added if node.op == "add" else multiplied, tuple(inputs))
            case "scalar":
                value = inputs[0]
                if settings["scale"] != 1:
                    value = call(operator.mul, (value, settings["scale"]))
                return call(operator.add, (value, settings["offset"])) if settings["offset"] else value
            case "cat":
                return call(torch.cat, (inputs,), {"dim": settings.get("axis", 1)})
            case "flatten":
                return call(torch.flatten, tuple(inputs), {"start_dim": 1})
            case "mean":
                dims = tuple(settings.get("dims", (2, 3)))
                return call(torch.mean, tuple(inputs), {"dim": dims, "keepdim": settings["keepdim"]})
            case "pixel_shuffle":
                return call(F.pixel_shuffle, (inputs[0], settings["factor"]))
            case "interpolate":
                if "like" in settings:
                    settings["size"] = call(operator.getitem, (self._shape(settings.pop("like")), slice(2, None)))
                return call(F.interpolate, tuple(inputs), settings)
        return self._view(node.op, inputs[0], settings)

    def _view(self, op: str, x: fx.Node, s: dict[str, Any]) -> fx.Node:
        call, method = self.graph.call_function, self.graph.call_method
        match op:
            case "part":
                return method("narrow", (x, s.get("axis", 1), s["start"], s["stop"] - s["start"]))
            case "permute":
                return method("permute", (x, *s["dims"]))
            case "merge":
                return method("flatten", (x, s["start"], s["end"]))
            case "unsqueeze" | "squeeze":
                return method(op, (x, s["axis"]))
            case "narrow":
                whole = [slice(None)] * s["axis"]
                return call(operator.getitem, (x, (*whole, slice(s["start"], s["stop"]))))
            case "pick":
                return method("select", (x, s["axis"], s["index"]))
        assert op == "unmerge", op
        shape = self._shape(s["like"]) if "like" in s else None
        sizes = []
        for size in s["sizes"]:
            if not isinstance(size, int):
                axis, divisor = size
                size = call(operator.getitem, (shape, axis))
                size = call(operator.floordiv, (size, divisor)) if divisor > 1 else size
            sizes.append(size)
        return method("unflatten", (x, s["axis"], tuple(sizes)))

    def _shape(self, name: str) -> fx.Node:
        return self.graph.call_function(getattr, (self.values[name], "shape"))

    def _own(self, node: Node, position: int) -> bool:
        """Whether an input is new memory that nothing reads later and that no derivative needs."""
        name = node.inputs[position]
        source = self.nodes[name]
        keeps = source.op == "act" and source.settings["kind"] in KEEPS_INPUT
        if not (source.op in NEW_MEMORY or keeps) or node.settings.get("small") in (position, 2):
            return False
        others = [reader for reader in self.readers[name] if reader is not node]
        earlier = all(r.op in LINEAR and self.place[r.name] < self.place[node.name] for r in others)
        return earlier and node.inputs.count(name) == 1


def _layer(node: Node) -> nn.Module:
    s = node.settings
    axis, groups = s.get("axis", 1), s.get("groups", 1)
    match node.op:
        case "conv":
            sizes = (s["in"], s["out"], s["kernel"], s["stride"], s["padding"], s["dilation"])
            return safe_convolution(nn.Conv2d(*sizes, groups=groups, bias=s["bias"]))
        case "conv_transpose":
            sizes = (s["in"], s["out"], s["kernel"], s["stride"], s["padding"], s["output_padding"])
            return nn.ConvTranspose2d(*sizes, groups=groups, bias=s["bias"], dilation=s["dilation"])
        case "linear":
            return nn.Linear(s["in"], s["out"], bias=s["bias"])
        case "norm":
            return nn.BatchNorm2d(s["channels"], s["eps"], s["momentum"], s["affine"])
        case "layer_norm":
            return nn.LayerNorm(s["channels"], s["eps"], s["affine"], bias=s["bias"])
        case "group_norm":
            return nn.GroupNorm(groups, s["channels"], s["eps"], s["affine"])
        case "response_norm":
            return ResponseNorm(s["channels"], s["eps"], axis)
        case "attend":
            return Attend(s["heads"], s["size"], s["scale"])
        case "shift":
            return Shift(s["channels"], axis)
        case "scale":
            return Scale(s["channels"], axis)
        case "embed":
            return Embed(s["shape"])
        case "prepend":
            return Prepend(s["tokens"], s["channels"])
        case "select":
            return Select(s["runs"], s["layout"], axis)
    return PLAIN_MODULES[node.op](**s)
