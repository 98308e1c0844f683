"""From a program, or its plan of plain data, to a module."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from mtl.compaction.graph import Node, Program, renamed
from mtl.compaction.plan import LAYERS, MEMORY_FORMATS, PLAIN_MODULES, Plan, check_plan
from mtl.networks.strided import safe_convolution

MOST_RUNS = 8  # up to this many runs, copying each takes less time than gathering all


class Shift(nn.Module):
    """Adds a number to each channel of (N, C, H, W) or (N, C): what is left of a branch that is constant."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.view(1, -1, *[1] * (x.ndim - 2))


class Select(nn.Module):
    """Some channels of (N, C, H, W) or (N, C), by runs of their positions, which are no part of the state dict.

    One run is a view. In channels_last, few runs are copied one by one, and more are gathered in rows of pixels:
    index_select, which goes by planes, takes 5 to 30 times as long there, and its result is contiguous.
    """

    index: Tensor

    def __init__(self, runs: list[list[int]], layout: str) -> None:
        super().__init__()
        self.runs, self.layout = [(start, stop) for start, stop in runs], layout
        # On the CPU even where the weights are on the meta device, as they are before a file is read.
        index = torch.cat([torch.arange(start, stop, device="cpu") for start, stop in runs])
        self.register_buffer("index", index, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.runs) == 1:
            start, stop = self.runs[0]
            return x.narrow(1, start, stop - start)
        if self.layout == "contiguous" or x.ndim == 2:
            return torch.index_select(x, 1, self.index)
        if len(self.runs) <= MOST_RUNS:
            return torch.cat([x.narrow(1, start, stop - start) for start, stop in self.runs], dim=1)
        n, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        gathered = torch.gather(rows, 1, self.index.expand(rows.shape[0], -1))
        return gathered.view(n, height, width, -1).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f"{len(self.index)} channels in {len(self.runs)} runs, {self.layout}"


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
    tensors = node.tensors
    if node.op in ("conv", "linear"):
        weight = tensors["weight"]
        settings |= {"out": weight.shape[0], "in": weight.shape[1], "bias": "bias" in tensors}
    if node.op == "conv":
        settings["kernel"] = tuple(weight.shape[2:])
    elif node.op in ("norm", "shift"):
        settings["channels"] = len(tensors["running_mean" if node.op == "norm" else "bias"])
    return settings


class _Building:
    """The module of a checked plan, built operation by operation."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = Program({node.name: node for node in nodes})
        self.readers = self.nodes.readers()
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
            case op if op in LAYERS or op in PLAIN_MODULES:
                self.root.add_submodule(node.name, _layer(node))
                return self.graph.call_module(node.name, tuple(inputs))
            case "relu":
                return call(F.relu, tuple(inputs), {"inplace": self._own(node.inputs[0])})
            case "add":
                # The memory of an own value is overwritten, which saves that of another value.
                own = [self._own(name) for name in node.inputs]
                inputs = inputs[::-1] if own[1] and not own[0] else inputs
                return call(operator.iadd if any(own) else operator.add, tuple(inputs))
            case "cat":
                return call(torch.cat, (inputs,), {"dim": 1})
            case "flatten":
                return call(torch.flatten, tuple(inputs), {"start_dim": 1})
            case "mean":
                return call(torch.mean, tuple(inputs), {"dim": (2, 3), **settings})
        assert node.op == "interpolate", node.op
        if "like" in settings:
            shape = call(getattr, (self.values[settings.pop("like")], "shape"))
            settings["size"] = call(operator.getitem, (shape, slice(2, None)))
        return call(F.interpolate, tuple(inputs), settings)

    def _own(self, name: str) -> bool:
        """Whether a value is new memory that only one node reads and that no derivative needs."""
        return self.nodes[name].op in ("conv", "linear", "norm", "shift", "add") and len(self.readers[name]) == 1


def _layer(node: Node) -> nn.Module:
    s = node.settings
    match node.op:
        case "conv":
            sizes = (s["in"], s["out"], s["kernel"], s["stride"], s["padding"], s["dilation"])
            return safe_convolution(nn.Conv2d(*sizes, bias=s["bias"]))
        case "linear":
            return nn.Linear(s["in"], s["out"], bias=s["bias"])
        case "norm":
            return nn.BatchNorm2d(s["channels"], s["eps"], s["momentum"], s["affine"])
        case "shift":
            return Shift(s["channels"])
        case "select":
            return Select(s["runs"], s["layout"])
    return PLAIN_MODULES[node.op](**s)
