"""Plans of compact networks: plain data, which may come from a stranger's file, checked before a network is built.

To build a plan, torch.fx writes Python and runs it. Therefore a plan must be data and nothing else: names of a fixed
alphabet, operations and settings from a list with types and ranges, and channels that fit each other.
"""

import keyword
import math
import re
from typing import Annotated, Any, Literal, TypeGuard

import torch
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from mtl.compaction.graph import Node
from mtl.errors import BadInput
from mtl.networks.tensor_file import shown

Plan = list[dict[str, Any]]
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

# Far beyond any network of ours (a ResNet-152 has 600 steps and 60 million weights), and small enough to be tried.
MOST_STEPS = 10_000
MOST_CHANNELS = 2**20
MOST_WEIGHTS = 2**31
MOST_POSITIONS = 2**24  # that all selections of a plan read
MOST_PIXELS = 2**14  # of a side, a kernel, a stride
MOST_DEPTH = 10  # of the dicts and lists that a network returns

PART = re.compile(r"\w(?:[\w -]{0,98}\w)?")  # of a name; letters beyond a to z count, as in names of tasks
TAKEN = frozenset([*dir(fx.GraphModule(nn.Module(), fx.Graph())), *nn.Module().__dict__])


def is_name(name: Any) -> TypeGuard[str]:
    """Whether a text can name a module within a network: parts joined by points, none of them a module's attribute."""
    return isinstance(name, str) and len(name) <= 1000 and all(_is_part(part) for part in name.split("."))


def _is_part(part: str) -> bool:
    free = not part.startswith("__") and not keyword.iskeyword(part) and part not in TAKEN
    return free and bool(PART.fullmatch(part))


def _named(name: str) -> str:
    assert is_name(name)
    return name


def _forward(run: Any) -> Any:
    assert run[0] < run[1]
    return run


# Types of settings, which pydantic checks strictly: True is no number, and 2.0 no whole number.
Flag = bool
TWO = Field(min_length=2, max_length=2)
Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
Size = Annotated[int, Field(ge=1, le=MOST_PIXELS)]
Border = Annotated[int, Field(ge=0, le=MOST_PIXELS)]
Position = Annotated[int, Field(ge=0, le=MOST_POSITIONS)]
Scale = Annotated[float, Field(ge=1 / MOST_PIXELS, le=MOST_PIXELS, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Pair = Annotated[list[Size], TWO] | tuple[Size, Size]
Borders = Annotated[list[Border], TWO] | tuple[Border, Border]
Scales = Annotated[list[Scale], TWO] | tuple[Scale, Scale]
SizeOrNone = Size | None
Run = Annotated[Annotated[list[Position], TWO] | tuple[Position, Position], AfterValidator(_forward)]
Format = Literal["contiguous", "channels_last"]
_POOL: dict[str, Any] = {"kernel_size": Size | Pair, "stride": Size | Pair, "padding": Border | Borders}

# The settings of each operation. A step has all of them, except for those of OPTIONAL.
SETTINGS: dict[str, dict[str, Any]] = {
    "input": {"channels": Channels},
    "format": {"memory_format": Format},
    "conv": {"stride": Pair, "padding": Borders, "dilation": Pair}
    | {"in": Channels, "out": Channels, "bias": Flag, "kernel": Pair},
    "linear": {"in": Channels, "out": Channels, "bias": Flag},
    "norm": {
        "eps": Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)],
        "momentum": Share | None,
        "affine": Flag,
        "channels": Channels,
    },
    "shift": {"channels": Channels},
    "select": {"runs": Annotated[list[Run], Field(min_length=1)], "layout": Format},
    "relu": {},
    "add": {},
    "cat": {},
    "flatten": {},
    "dropout": {"p": Share},
    "mean": {"keepdim": Flag},
    "max_pool": {**_POOL, "dilation": Size | Pair, "ceil_mode": Flag},
    "avg_pool": {**_POOL, "ceil_mode": Flag, "count_include_pad": Flag},
    "adaptive_pool": {"output_size": Size | Annotated[list[SizeOrNone], TWO] | tuple[SizeOrNone, SizeOrNone]},
    "interpolate": {
        "size": Size | Pair | None,
        "scale_factor": Scale | Scales | None,
        "mode": Literal["nearest", "nearest-exact", "bilinear", "bicubic", "area"],
        "align_corners": Flag | None,
        "recompute_scale_factor": Flag | None,
        "antialias": Flag,
        "like": Annotated[str, AfterValidator(_named)],
    },
    "output": {"structure": Any},  # see _Checking._structure
}
OPTIONAL = {"interpolate": set(SETTINGS["interpolate"])}
ADAPTERS = {op: {name: TypeAdapter(kind) for name, kind in kinds.items()} for op, kinds in SETTINGS.items()}
# Operations that torch has a module for whose arguments are the settings.
PLAIN_MODULES: dict[str, type[nn.Module]] = {
    "max_pool": nn.MaxPool2d,
    "avg_pool": nn.AvgPool2d,
    "adaptive_pool": nn.AdaptiveAvgPool2d,
    "dropout": nn.Dropout,
}
LAYERS = ("conv", "linear", "norm", "shift", "select")


def check_plan(plan: Any) -> list[Node]:
    """The plan's operations, each after its inputs. Raises BadInput, one line, at the first that is not allowed."""
    if not isinstance(plan, list) or not 2 <= len(plan) <= MOST_STEPS:
        raise BadInput(f"plan of a compact model: {shown(plan)}; allowed: a list of 2 to {MOST_STEPS} operations")
    checking = _Checking()
    return [checking.node(step, place, last=len(plan) - 1) for place, step in enumerate(plan)]


class _Checking:
    """What is known of the operations so far."""

    def __init__(self) -> None:
        # Of each value its channels (None where they depend on the image's size) and its number of dimensions.
        self.values: dict[str, tuple[int | None, int]] = {}
        self.modules: set[str] = set()
        self.folders: set[str] = set()  # the paths that modules lie below
        self.weights = self.positions = 0

    def _need(self, right: object, what: str, found: Any, allowed: str) -> None:
        if not right:
            raise BadInput(f"{self.where}: {what} {shown(found)}; allowed: {allowed}")

    def node(self, step: Any, place: int, last: int) -> Node:
        parts = ["name", "op", "inputs", "settings"]
        self.where = f"plan of a compact model: operation {place}"
        self._need(isinstance(step, dict) and set(step) == set(parts), "is", step, ", ".join(sorted(parts)))
        name, op, inputs, settings = (step[part] for part in parts)
        self._need(is_name(name) and name not in self.values, "name", name, "parts of letters, digits and _, once")
        self.where += f", {name}"
        self._need(isinstance(op, str) and op in SETTINGS, "operation", op, ", ".join(SETTINGS))
        ends = (op == "input") == (place == 0) and (op == "output") == (place == last)
        self._need(ends, "operation", op, "one input, first; one output, last")
        argument = name.isidentifier() and name.isascii() and name != "self"
        self._need(place > 0 or argument, "name", name, "a name that an argument can have")
        earlier = isinstance(inputs, list) and all(isinstance(i, str) and i in self.values for i in inputs)
        self._need(earlier, "inputs", inputs, "names of earlier operations")
        self._settings(op, settings)
        node = Node(name, op, list(inputs), dict(settings))
        if op == "output":
            self._structure(settings["structure"], MOST_DEPTH)
            self._need(tree_leaves(settings["structure"]) == inputs, "inputs", inputs, "what it returns")
        else:
            self.values[name] = self._value(node)
        if op in LAYERS or op in PLAIN_MODULES:
            self._place(name)
        return node

    def _settings(self, op: str, settings: Any) -> None:
        known, optional = ADAPTERS[op], OPTIONAL.get(op, set())
        right = isinstance(settings, dict) and set(known) - optional <= set(settings) <= set(known)
        self._need(right, f"{op} with settings", settings, ", ".join(known) or "none")
        for name, value in settings.items():
            try:
                known[name].validate_python(value, strict=True)
            except ValidationError:
                self._need(False, f"{op} with {name} =", value, "what compact sets")

    def _value(self, node: Node) -> tuple[int | None, int]:
        """Channels and number of dimensions of a result, which the inputs and settings must fit."""
        inputs, settings, op = [self.values[name] for name in node.inputs], node.settings, node.op
        count = {"input": 0, "add": 2, "cat": max(1, len(inputs))}.get(op, 1)
        self._need(len(inputs) == count, "inputs", node.inputs, f"{count} of them")
        if op == "input":
            return settings["channels"], 4
        dimensions = {d for _, d in inputs}
        images = op not in ("linear", "relu", "add", "cat", "dropout", "shift", "select", "flatten")
        fit = dimensions <= ({2} if op == "linear" else {4} if images else {2, 4}) and len(dimensions) == 1
        self._need(fit, "inputs", node.inputs, "values of the dimensions that it reads")
        if "like" in settings:
            like = self.values.get(settings["like"], (0, 0))
            self._need(like[1] == 4, "like", settings["like"], "an earlier map")
        known = [channels for channels, _ in inputs if channels is not None]
        channels = inputs[0][0]
        if op in ("conv", "linear", "norm", "shift"):
            reads = settings["in" if op in ("conv", "linear") else "channels"]
            self._need(channels in (None, reads), "reads", reads, f"{channels} channels, as its input has")
            channels = settings.get("out", reads)
            self.weights += channels * (reads + 1) * math.prod(settings.get("kernel", (1,)))
            self._need(self.weights <= MOST_WEIGHTS, "weights so far", self.weights, f"{MOST_WEIGHTS} or fewer")
        elif op == "add":
            self._need(len(set(known)) <= 1, "adds channels", known, "the same number twice")
            channels = known[0] if known else None
        elif op == "cat":
            channels = sum(known) if len(known) == len(inputs) else None
        elif op == "select":
            channels = self._selected(channels, settings["runs"])
        elif op == "flatten" and inputs[0][1] == 4:
            channels = None
        self._need(channels is None or channels <= MOST_CHANNELS, "channels", channels, f"{MOST_CHANNELS} or fewer")
        flat = op in ("flatten", "linear") or (op == "mean" and not settings["keepdim"])
        return channels, 2 if flat else inputs[0][1]

    def _selected(self, channels: int | None, runs: list[list[int]]) -> int:
        selected, most = sum(stop - start for start, stop in runs), max(stop for _, stop in runs)
        self.positions += selected
        fits = max(selected, most) <= (channels or MOST_CHANNELS)
        self._need(fits, "selects", runs, f"each of {channels} channels once")
        self._need(self.positions <= MOST_POSITIONS, "positions", self.positions, f"{MOST_POSITIONS} or fewer in all")
        return selected

    def _place(self, name: str) -> None:
        """A module lies in no module that has weights of its own, and contains none."""
        parts = name.split(".")
        above = {".".join(parts[:n]) for n in range(1, len(parts))}
        free = not above & self.modules and name not in self.folders
        self._need(free, "name", name, "no part of another operation's")
        self.modules.add(name)
        self.folders |= above

    def _structure(self, structure: Any, depth: int) -> None:
        self._need(depth, "returns", structure, f"dicts, lists and tuples {MOST_DEPTH} deep")
        if isinstance(structure, dict):
            named = all(type(key) is int or (isinstance(key, str) and key.isprintable()) for key in structure)
            self._need(named, "returns", structure, "names or whole numbers as keys")
            structure = list(structure.values())
        if isinstance(structure, list | tuple):
            for part in structure:
                self._structure(part, depth - 1)
        else:
            known = isinstance(structure, str) and structure in self.values
            self._need(known, "returns", structure, "earlier operations")
