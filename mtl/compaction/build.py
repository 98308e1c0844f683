"""From a program, or its plan of plain data, to a module."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from mtl.compaction.graph import Node, Program, renamed
from mtl.compaction.plan import MEMORY_FORMATS, Plan, check_plan
from mtl.networks.strided import safe_convolution

MOST_RUNS = 8  # up to here a copy of each takes less time than a gather of all


class Shift(nn.Module):
    """Adds one number to each channel of (N, C, H, W) or (N, C): what is left of a branch that is a constant."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias.view(1, -1, *[1] * (x.ndim - 2))


class Select(nn.Module):
    """Some channels of (N, C, H, W) or (N, C), by runs of their positions, which are no part of the state dict.

    One run is a view. In channels_last a few are copied run by run and more are gathered, in rows of pixels:
    index_select, which goes by planes, takes 5 to 30 times as long there, and its result is contiguous.
    """

    index: Tensor

    def __init__(self, runs: list[list[int]], layout: str) -> None:
        super().__init__()
        self.runs, self.layout = [(start, stop) for start, stop in runs], layout
        # On the CPU also where weights that a file has are not made before they are read, on the meta device.
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


def make_plan(program: Program) -> Plan:
    """The program without its tensors, as plain data: dicts, lists, tuples, strings and numbers."""
    plan = []
    for node in program.nodes.values():
        settings = dict(node.settings)
        settings.pop("added_bias", None)
        if node.op in ("conv", "linear"):
            weight = node.tensors["weight"]
            settings |= {"out": weight.shape[0], "in": weight.shape[1], "bias": "bias" in node.tensors}
            if node.op == "conv":
                settings["kernel"] = tuple(weight.shape[2:])
        elif node.op == "norm":
            settings["channels"] = len(node.tensors["running_mean"])
        elif node.op == "shift":
            settings["channels"] = len(node.tensors["bias"])
        plan.append({"name": node.name, "op": node.op, "inputs": list(node.inputs), "settings": settings})
    return plan


def build(plan: Plan) -> fx.GraphModule:
    """The plan's network with new weights, torch's own at the start, in train mode; its `meta["plan"]` is the plan.

    Raises BadInput for a plan that does not say a network.
    """
    return _Building(check_plan(plan)).module


def with_tensors(program: Program) -> fx.GraphModule:
    """The program's network with its own weights, in eval mode, on their device."""
    state = {f"{node.name}.{name}": value for node in program.nodes.values() for name, value in node.tensors.items()}
    module = build(make_plan(program))
    missing = [name for name in module.state_dict() if name not in state and not name.endswith("num_batches_tracked")]
    assert not missing, missing
    first = next(iter(state.values()), torch.zeros(()))
    module = module.to(first.device, first.dtype)
    # A plain dict has no version, for which batch norm takes a missing num_batches_tracked as 0.
    module.load_state_dict(state)
    return module.eval()


def _layer(node: Node) -> nn.Module:
    s = node.settings
    if node.op == "conv":
        return safe_convolution(
            nn.Conv2d(s["in"], s["out"], s["kernel"], s["stride"], s["padding"], s["dilation"], bias=s["bias"])
        )
    if node.op == "linear":
        return nn.Linear(s["in"], s["out"], bias=s["bias"])
    if node.op == "norm":
        return nn.BatchNorm2d(s["channels"], s["eps"], s["momentum"], s["affine"])
    if node.op == "shift":
        return Shift(s["channels"])
    return Select(s["runs"], s["layout"])


MODULES: dict[str, Callable[..., nn.Module]] = {
    "max_pool": nn.MaxPool2d,
    "avg_pool": nn.AvgPool2d,
    "adaptive_pool": nn.AdaptiveAvgPool2d,
    "dropout": nn.Dropout,
}


class _Building:
    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.readers = dict.fromkeys(self.nodes, 0)
        for node in nodes:
            for name in [*node.inputs, *([node.settings["like"]] if "like" in node.settings else [])]:
                self.readers[name] += 1
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.values: dict[str, fx.Node] = {}
        for node in nodes:
            self._add(node)
        self.module = fx.GraphModule(self.root, self.graph, "CompactModel")
        self.module.meta["plan"] = [
            {"name": n.name, "op": n.op, "inputs": n.inputs, "settings": n.settings} for n in nodes
        ]

    def _add(self, node: Node) -> None:
        inputs = [self.values[name] for name in node.inputs]
        settings = node.settings
        if node.op == "output":
            self.graph.output(renamed(settings["structure"], self.values))
        elif node.op == "input":
            self.values[node.name] = self.graph.placeholder(node.name)
        elif node.op == "format":
            layout = MEMORY_FORMATS[settings["memory_format"]]
            self._call(node, torch.Tensor.contiguous, inputs, memory_format=layout)
        elif node.op in ("conv", "linear", "norm", "shift", "select"):
            self._submodule(node, _layer(node), inputs)
        elif node.op in MODULES:
            self._submodule(node, MODULES[node.op](**settings), inputs)
        elif node.op == "relu":
            self._call(node, F.relu, inputs, inplace=self._own(node.inputs[0]))
        elif node.op == "add":
            # What a layer has just written is written over, which saves the memory of another value.
            own = [self._own(name) for name in node.inputs]
            inputs = inputs[::-1] if own[1] and not own[0] else inputs
            self._call(node, operator.iadd if any(own) else operator.add, inputs)
        elif node.op == "cat":
            self._call(node, torch.cat, [inputs], dim=1)
        elif node.op == "flatten":
            self._call(node, torch.flatten, inputs, start_dim=1)
        elif node.op == "mean":
            self._call(node, torch.mean, inputs, dim=(2, 3), keepdim=settings["keepdim"])
        else:
            assert node.op == "interpolate", node.op
            arguments = dict(settings)
            if "like" in arguments:
                like = self.graph.call_function(getattr, (self.values[arguments.pop("like")], "shape"))
                arguments["size"] = self.graph.call_function(operator.getitem, (like, slice(2, None)))
            self._call(node, F.interpolate, inputs, **arguments)

    def _own(self, name: str) -> bool:
        """Whether a value is new memory that one node alone reads and that no derivative needs."""
        return self.nodes[name].op in ("conv", "linear", "norm", "shift", "add") and self.readers[name] == 1

    def _call(self, node: Node, function: Callable[..., Any], inputs: list[Any], **named: Any) -> None:
        self.values[node.name] = self.graph.call_function(function, tuple(inputs), named)

    def _submodule(self, node: Node, module: nn.Module, inputs: list[fx.Node]) -> None:
        *path, last = node.name.split(".")
        parent = self.root
        for part in path:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = getattr(parent, part)
        parent.add_module(last, module)
        self.graph.owning_module = None
        self.values[node.name] = self.graph.call_module(node.name, tuple(inputs))
