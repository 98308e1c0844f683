"""What only a clock can tell: which memory format is faster, and where a layer gains by reading fewer channels."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.compaction.build import Select, with_tensors
from mtl.compaction.graph import Node, Program
from mtl.compaction.plan import MEMORY_FORMATS
from mtl.compaction.rewrite import runs

MARGIN = 0.95  # a selection is one more operation, which must pay by more than a clock's error


def with_format(program: Program, memory_format: str) -> Program:
    """The program that brings its input into a memory format first; what follows keeps to it."""
    program = program.copy()
    nodes: dict[str, Node] = {}
    for node in program.nodes.values():
        node.inputs = ["format" if name in nodes and nodes[name].op == "input" else name for name in node.inputs]
        nodes[node.name] = node
        if node.op == "input":
            nodes["format"] = Node("format", "format", [node.name], {"memory_format": memory_format})
            program.shapes["format"] = program.shapes[node.name]
    for node in nodes.values():
        if node.op == "conv":
            node.tensors["weight"] = node.tensors["weight"].contiguous(memory_format=MEMORY_FORMATS[memory_format])
        elif node.op == "select":
            node.settings["layout"] = memory_format
    program.nodes = nodes
    return program


@torch.inference_mode()
def faster_format(program: Program, example_input: Tensor) -> str:
    """The memory format in which the program runs faster on the example input."""
    models = {name: with_tensors(with_format(program, name)) for name in MEMORY_FORMATS}
    runs = {name: partial(model, example_input) for name, model in models.items()}
    return min(medians(runs, rounds=2, device=example_input.device).items(), key=lambda item: item[1])[0]


class MeasuredChoice:
    """A `Chooser` that times both on ones, in a memory format, at a batch size; each shape once."""

    def __init__(self, batch: int, memory_format: str) -> None:
        self.batch, self.memory_format = batch, memory_format
        self.known: dict[tuple[object, ...], bool] = {}

    def __call__(self, layer: Node, shape: tuple[int, ...], index: Sequence[int]) -> bool:
        weight = layer.tensors["weight"]
        key = (layer.op, tuple(weight.shape), shape, len(index), len(runs(index)), str(layer.settings))
        if key not in self.known:
            self.known[key] = self._faster(layer, shape, index)
        return self.known[key]

    @torch.inference_mode()
    def _faster(self, layer: Node, shape: tuple[int, ...], index: Sequence[int]) -> bool:
        weight = layer.tensors["weight"]
        layout = MEMORY_FORMATS[self.memory_format] if weight.ndim == 4 else torch.contiguous_format
        x = torch.ones((self.batch, *shape), dtype=weight.dtype, device=weight.device).contiguous(memory_format=layout)
        select = Select(runs(index), self.memory_format).to(weight.device)
        whole = weight.contiguous(memory_format=layout)
        part = weight[:, select.index].contiguous(memory_format=layout)

        def run(x: Tensor, weight: Tensor) -> Tensor:
            return F.linear(x, weight) if layer.op == "linear" else F.conv2d(x, weight, **layer.settings)

        ways = {
            "whole": lambda: run(x, whole),
            "part": lambda: run(select(x), part),
        }
        times = medians(ways, rounds=5, device=weight.device)
        return times["part"] < MARGIN * times["whole"]


def medians(runs: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each, in turn, so that what else the machine does meets all alike; after one run of each."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            _wait(device)
            started = time.perf_counter()
            run()
            _wait(device)
            if turn:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
