"""Plans of compact networks: plain data, which may come from a file of somebody else's, checked before it is built.

Building a plan has torch.fx write Python and run it. What a plan says therefore has to be data beyond doubt: names of
a fixed alphabet, operations and settings from a list with types and ranges, and channels that fit each other.
"""

import keyword
import math
import re
from collections.abc import Callable
from typing import Any, TypeGuard

import torch
from torch import fx, nn

from mtl.compaction.graph import Node, values_of
from mtl.errors import BadInput
from mtl.networks.tensor_file import shown

Plan = list[dict[str, Any]]
STEP = {"name", "op", "inputs", "settings"}
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

# Far beyond any network of ours (a ResNet-152 has 600 steps and 60 million weights), and little enough to be tried.
MOST_STEPS = 10_000
MOST_CHANNELS = 2**20
MOST_WEIGHTS = 2**31
MOST_POSITIONS = 2**24  # that all selections of a plan read
MOST_PIXELS = 2**14  # of a side, a kernel, a stride
MOST_DEPTH = 10  # of dicts and lists that a network returns

PART = re.compile(r"\w(?:[\w -]{0,98}\w)?")  # of a name; other letters than a to z count, as in names of tasks
Check = Callable[[Any], bool]


def check_plan(plan: Any) -> list[Node]:
    """The plan's operations, each after its inputs. Raises BadInput, one line, at the first that is not allowed."""
    return _Checking(plan).nodes


def is_name(name: Any) -> TypeGuard[str]:
    """Whether a text can name a module within a network: parts, joined by points, that are no attributes of modules."""
    return isinstance(name, str) and len(name) <= 1000 and all(_is_part(part) for part in name.split("."))


def _is_part(part: str) -> bool:
    free = not part.startswith("__") and not keyword.iskeyword(part) and part not in TAKEN
    return free and bool(PART.fullmatch(part))


TAKEN = frozenset([*dir(fx.GraphModule(nn.Module(), fx.Graph())), *nn.Module().__dict__])


def _whole(least: int, most: int) -> Check:
    return lambda value: type(value) is int and least <= value <= most


def _number(least: float, most: float) -> Check:
    return lambda value: type(value) in (int, float) and least <= value <= most


def _pair(one: Check) -> Check:
    return lambda value: isinstance(value, tuple | list) and len(value) == 2 and all(map(one, value))


def _flag(value: Any) -> bool:
    return type(value) is bool


def _one_of(*choices: Any) -> Check:
    return lambda value: any(type(value) is type(choice) and value == choice for choice in choices)


def _either(*checks: Check) -> Check:
    return lambda value: any(check(value) for check in checks)


def _runs(value: Any) -> bool:
    position = _whole(0, MOST_POSITIONS)
    return isinstance(value, list) and bool(value) and all(_pair(position)(run) and run[0] < run[1] for run in value)


_nothing = _one_of(None)
_channels = _whole(1, MOST_CHANNELS)
_size, _border = _whole(1, MOST_PIXELS), _whole(0, MOST_PIXELS)
_sizes, _borders = _either(_size, _pair(_size)), _either(_border, _pair(_border))
_scale = _number(1 / MOST_PIXELS, MOST_PIXELS)
_POOL: dict[str, Check] = {"kernel_size": _sizes, "stride": _sizes, "padding": _borders, "ceil_mode": _flag}

# Of each operation the settings that it has, all of them but those of OPTIONAL.
SETTINGS: dict[str, dict[str, Check]] = {
    "input": {"channels": _channels},
    "format": {"memory_format": _one_of(*MEMORY_FORMATS)},
    "conv": {
        **{"in": _channels, "out": _channels, "bias": _flag, "kernel": _pair(_size)},
        **{"stride": _pair(_size), "padding": _pair(_border), "dilation": _pair(_size)},
    },
    "linear": {"in": _channels, "out": _channels, "bias": _flag},
    "norm": {
        **{"channels": _channels, "affine": _flag, "eps": _number(0, 1e6)},
        "momentum": _either(_nothing, _number(0, 1)),
    },
    "shift": {"channels": _channels},
    "select": {"runs": _runs, "layout": _one_of(*MEMORY_FORMATS)},
    "relu": {},
    "add": {},
    "cat": {},
    "flatten": {},
    "dropout": {"p": _number(0, 1)},
    "mean": {"keepdim": _flag},
    "max_pool": {**_POOL, "dilation": _sizes},
    "avg_pool": {**_POOL, "count_include_pad": _flag},
    "adaptive_pool": {"output_size": _either(_sizes, _pair(_either(_size, _nothing)))},
    "interpolate": {
        **{"size": _either(_sizes, _nothing), "like": is_name},
        "scale_factor": _either(_scale, _pair(_scale), _nothing),
        "mode": _one_of("nearest", "nearest-exact", "bilinear", "bicubic", "area"),
        "align_corners": _either(_flag, _nothing),
        "recompute_scale_factor": _either(_flag, _nothing),
        "antialias": _flag,
    },
    "output": {"structure": lambda value: True},  # see _Checking._output
}
OPTIONAL: dict[str, set[str]] = {"interpolate": set(SETTINGS["interpolate"])}
# Which have a place of their own in the network, by their name.
MODULES = frozenset(["conv", "linear", "norm", "shift", "select", "max_pool", "avg_pool", "adaptive_pool", "dropout"])


class _Checking:
    def __init__(self, plan: Any) -> None:
        if not isinstance(plan, list) or not 2 <= len(plan) <= MOST_STEPS:
            raise BadInput(f"plan of a compact model: {shown(plan)}; allowed: a list of 2 to {MOST_STEPS} operations")
        self.nodes: list[Node] = []
        # Of each value its channels, None where only the image's size tells, and its dimensions.
        self.values: dict[str, tuple[int | None, int]] = {}
        self.modules: set[str] = set()
        self.folders: set[str] = set()  # in which modules lie
        self.weights = self.positions = 0
        for place, step in enumerate(plan):
            self.where = f"plan of a compact model: operation {place}"
            self._step(step, first=place == 0, last=place == len(plan) - 1)

    def _need(self, right: object, what: str, found: Any, allowed: str) -> None:
        if not right:
            raise BadInput(f"{self.where}: {what} {shown(found)}; allowed: {allowed}")

    def _step(self, step: Any, first: bool, last: bool) -> None:
        self._need(isinstance(step, dict) and set(step) == STEP, "is", step, f"{', '.join(sorted(STEP))}")
        name, op, inputs, settings = (step[part] for part in ("name", "op", "inputs", "settings"))
        self._need(is_name(name) and name not in self.values, "name", name, "parts of letters, digits and _, once")
        self.where += f", {name}"
        self._need(isinstance(op, str) and op in SETTINGS, "operation", op, ", ".join(SETTINGS))
        self._need(
            (op == "input") == first and (op == "output") == last, "operation", op, "one input, first; one output, last"
        )
        self._need(not first or _is_argument(name), "name", name, "a name that an argument can have")
        self._need(
            isinstance(inputs, list) and all(isinstance(i, str) and i in self.values for i in inputs),
            "inputs",
            inputs,
            "names of earlier operations",
        )
        self._settings(op, settings)
        node = Node(name, op, list(inputs), dict(settings))
        self.nodes.append(node)
        if op == "output":
            self._structure(settings["structure"], MOST_DEPTH)
            self._need(list(values_of(settings["structure"])) == inputs, "inputs", inputs, "what it returns")
        else:
            self.values[name] = self._value(node)
        if op in MODULES:
            self._place(name)

    def _settings(self, op: str, settings: Any) -> None:
        known, optional = SETTINGS[op], OPTIONAL.get(op, set())
        right = isinstance(settings, dict) and set(known) - optional <= set(settings) <= set(known)
        self._need(right, f"{op} with settings", settings, ", ".join(known) or "none")
        for name, value in settings.items():
            self._need(known[name](value), f"{op} with {name} =", value, "what compact sets")

    def _value(self, node: Node) -> tuple[int | None, int]:
        """Channels and dimensions of what an operation gives, which its inputs and settings must fit."""
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
        channels, whole = inputs[0][0], len(known) == len(inputs)
        if op in ("conv", "linear", "norm", "shift"):
            reads = settings["in" if op in ("conv", "linear") else "channels"]
            self._need(channels in (None, reads), "reads", reads, f"{channels} channels, as its input has")
            gives = settings.get("out", reads)
            self._count(gives * (reads + 1) * math.prod(settings.get("kernel", (1,))))
            channels = gives
        elif op == "add":
            self._need(len(set(known)) <= 1, "adds channels", known, "the same number twice")
            channels = known[0] if known else None
        elif op == "cat":
            channels = sum(known) if whole else None
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
        self._need(
            max(selected, most) <= (channels or MOST_CHANNELS), "selects", runs, f"each of {channels} channels once"
        )
        self._need(self.positions <= MOST_POSITIONS, "positions", self.positions, f"{MOST_POSITIONS} or fewer in all")
        return selected

    def _count(self, weights: int) -> None:
        self.weights += weights
        self._need(self.weights <= MOST_WEIGHTS, "weights so far", self.weights, f"{MOST_WEIGHTS} or fewer")

    def _place(self, name: str) -> None:
        """A module lies in none that has weights of its own, and has none in it."""
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
            self._need(
                isinstance(structure, str) and structure in self.values, "returns", structure, "earlier operations"
            )


def _is_argument(name: str) -> bool:
    return name.isidentifier() and name.isascii() and name != "self"
