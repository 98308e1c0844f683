"""What only a clock can tell: which memory format is faster, and where a layer gains by reading fewer channels."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from mtl.compaction.build import with_tensors
from mtl.compaction.graph import Node, Program, renamed
from mtl.compaction.layers import Select
from mtl.compaction.plan import MEMORY_FORMATS
from mtl.compaction.rewrite import runs
from mtl.networks.measurement import time_calls

MARGIN = 0.95  # a selection is one operation more, which must pay by more than the error of a clock


def with_format(program: Program, memory_format: str) -> Program:
    """The program that first brings its input into a memory format, which all later maps keep."""
    new = Program()
    instead: dict[str, str] = {}
    for node in program.copied().values():
        node.inputs = renamed(node.inputs, instead)
        new[node.name] = node
        if node.op == "input":
            settings = {"memory_format": memory_format}
            new["format"] = Node("format", "format", [node.name], settings, shape=node.shape)
            instead = {node.name: "format"}
        elif node.op in ("conv", "conv_transpose"):
            node.tensors["weight"] = node.tensors["weight"].contiguous(memory_format=MEMORY_FORMATS[memory_format])
        elif node.op == "select":
            node.settings["layout"] = memory_format
    return new


@torch.inference_mode()
def faster_format(program: Program, example_input: Tensor) -> str:
    """The memory format in which the program runs faster on the example input."""
    models = {name: with_tensors(with_format(program, name)) for name in MEMORY_FORMATS}
    times = medians({name: partial(model, example_input) for name, model in models.items()}, 2, example_input.device)
    return min(times, key=times.__getitem__)


class MeasuredChoice:
    """A `Chooser` that times both ways on ones, in a memory format, at a batch size; each shape once."""

    def __init__(self, batch: int, memory_format: str) -> None:
        self.batch, self.memory_format = batch, memory_format
        self.known: dict[tuple[object, ...], bool] = {}

    def __call__(self, layer: Node, source: Node, index: Sequence[int]) -> bool:
        weight = layer.tensors["weight"]
        key = (layer.op, tuple(weight.shape), source.shape, len(index), len(runs(index)), str(layer.settings))
        if key not in self.known:
            self.known[key] = self._faster(layer, source, index)
        return self.known[key]

    @torch.inference_mode()
    def _faster(self, layer: Node, source: Node, index: Sequence[int]) -> bool:
        weight = layer.tensors["weight"]
        layout = MEMORY_FORMATS[self.memory_format] if weight.ndim == 4 else torch.contiguous_format
        x = torch.ones((self.batch, *source.shape), dtype=weight.dtype, device=weight.device)
        x = x.contiguous(memory_format=layout)
        select = Select(runs(index), self.memory_format, source.axis).to(weight.device)
        whole = weight.contiguous(memory_format=layout)
        part = weight.index_select(0 if layer.op == "conv_transpose" else 1, select.index)
        part = part.contiguous(memory_format=layout)
        functions: dict[str, Callable[..., Tensor]] = {
            "linear": F.linear,
            "conv": F.conv2d,
            "conv_transpose": F.conv_transpose2d,
        }
        run = partial(functions[layer.op], **layer.settings)
        ways = {"whole": lambda: run(x, whole), "part": lambda: run(select(x), part)}
        times = medians(ways, 5, weight.device)
        return times["part"] < MARGIN * times["whole"]


def medians(calls: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each call; one of each in turn, so that what else the machine does disturbs all alike."""
    times = time_calls(list(calls.values()), device, warm_up=1, untimed=0, block=1, fewest=rounds)
    return {name: statistics.median(own) for name, own in zip(calls, times, strict=True)}
