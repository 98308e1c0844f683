"""Plans of compact networks: plain data, which may come from a stranger's file, checked before a network is built.

To build a plan, torch.fx writes Python and runs it. Therefore a plan must be data and nothing else: names of a fixed
alphabet, operations and settings from a list with types and ranges, and channels that fit each other.
"""

import keyword
import math
import re
from typing import Any, TypeGuard

import torch
from pydantic import ValidationError
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from mtl.compaction.activations import ACTIVATIONS
from mtl.compaction.graph import Node
from mtl.compaction.layouts import Layout, layout_after
from mtl.compaction.settings import (
    ADAPTERS,
    MOST_CHANNELS,
    MOST_POSITIONS,
    OPTIONAL,
    OWN_MODULES,
    PLAIN_MODULES,
    SETTINGS,
)
from mtl.errors import BadInput
from mtl.networks.tensor_file import shown

Plan = list[dict[str, Any]]
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

# Far beyond any network of ours (a ResNet-152 has 600 steps and 60 million weights), and small enough to be tried.
MOST_STEPS = 10_000
MOST_WEIGHTS = 2**31
MOST_DEPTH = 10  # of the dicts and lists that a network returns

PART = re.compile(r"\w(?:[\w -]{0,98}\w)?")  # of a name; letters beyond a to z count, as in names of tasks
TAKEN = frozenset([*dir(fx.GraphModule(nn.Module(), fx.Graph())), *nn.Module().__dict__])


def is_name(name: Any) -> TypeGuard[str]:
    """Whether a text can name a module within a network: parts joined by points, none of them a module's attribute."""
    return isinstance(name, str) and len(name) <= 1000 and all(_is_part(part) for part in name.split("."))


def _is_part(part: str) -> bool:
    free = not part.startswith("__") and not keyword.iskeyword(part) and part not in TAKEN
    return free and bool(PART.fullmatch(part))


def check_plan(plan: Any) -> list[Node]:
    """The plan's operations, each after its inputs. Raises BadInput, one line, at the first that is not allowed."""
    if not isinstance(plan, list) or not 2 <= len(plan) <= MOST_STEPS:
        raise BadInput(f"plan of a compact model: {shown(plan)}; allowed: a list of 2 to {MOST_STEPS} operations")
    checking = _Checking()
    return [checking.node(step, place, last=len(plan) - 1) for place, step in enumerate(plan)]


class _Checking:
    """What is known of the operations so far."""

    def __init__(self) -> None:
        # Of each value its channels (None where they depend on the image's size) and where they are.
        self.values: dict[str, tuple[int | None, Layout]] = {}
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
        if op in OWN_MODULES or op in PLAIN_MODULES:
            self._place(name)
        return node

    def _settings(self, op: str, settings: Any) -> None:
        known, optional = ADAPTERS[op], OPTIONAL.get(op, set())
        right = isinstance(settings, dict) and set(known) - optional <= set(settings) <= set(known)
        if right and op == "act" and isinstance(settings["kind"], str) and settings["kind"] in ACTIVATIONS:
            right = set(settings) == {"kind", *ACTIVATIONS[settings["kind"]][1]}
        self._need(right, f"{op} with settings", settings, ", ".join(known) or "none")
        for name, value in settings.items():
            try:
                known[name].validate_python(value, strict=True)
            except ValidationError:
                self._need(False, f"{op} with {name} =", value, "what compact sets")

    def _value(self, node: Node) -> tuple[int | None, Layout]:
        """Channels and layout of a result, which the inputs and settings must fit."""
        inputs, settings, op = [self.values[name] for name in node.inputs], node.settings, node.op
        layout = layout_after(op, settings, [own for _, own in inputs])
        self._need(layout, "inputs", node.inputs, "as many values, of the dimensions that it reads, as it takes")
        assert layout is not None
        if "like" in settings:
            self._like(op, settings)
        elif op == "unmerge":
            fixed = all(isinstance(size, int) for size in settings["sizes"])
            self._need(fixed, "sizes", settings["sizes"], "numbers where there is no like")
        known = [channels for channels, _ in inputs if channels is not None]
        channels = self._channels(node, inputs[0][0] if inputs else None, known, len(known) == len(inputs))
        self._need(channels is None or channels <= MOST_CHANNELS, "channels", channels, f"{MOST_CHANNELS} or fewer")
        self._need(self.weights <= MOST_WEIGHTS, "weights so far", self.weights, f"{MOST_WEIGHTS} or fewer")
        return channels, layout

    def _channels(self, node: Node, channels: int | None, known: list[int], all_known: bool) -> int | None:
        """The channels of a result. channels: of its first input; known: of the inputs of which they are known."""
        s, op = node.settings, node.op
        match op:
            case "input":
                return int(s["channels"])
            case "conv" | "conv_transpose" | "linear":
                return self._layer(s, channels)
            case "norm" | "layer_norm" | "group_norm" | "response_norm" | "shift" | "scale" | "prepend":
                own: int = s["channels"]
                self._need(channels in (None, own), "reads", own, f"{channels} channels, as its input has")
                if op == "group_norm":
                    self._need(own % s["groups"] == 0, "groups", s["groups"], f"a divisor of {own} channels")
                if op == "layer_norm":
                    self._need(s["affine"] or not s["bias"], "bias", s["bias"], "False without weights")
                self.weights += own * (s["tokens"] if op == "prepend" else 2)
                return own
            case "embed":
                axis = self.values[node.inputs[0]][1][1]
                own = s["shape"][axis - 1]
                self._need(channels in (None, own), "adds channels", own, f"{channels}, as its input has")
                self.weights += math.prod(s["shape"])
                return own
            case "attend":
                own = s["heads"] * s["size"]
                self._need(channels in (None, 3 * own), "reads", 3 * own, f"{channels} channels, as its input has")
                return own
            case "add" | "mul":
                self._need(len(set(known)) <= 1, "joins channels", known, "the same number twice")
                return known[0] if known else None
            case "cat":
                return sum(known) if all_known else None
            case "select":
                return self._selected(channels, s["runs"])
            case "part":
                fits = s["start"] < s["stop"] <= (channels or MOST_CHANNELS)
                self._need(fits, "part", (s["start"], s["stop"]), f"some of {channels} channels")
                return int(s["stop"] - s["start"])
            case "pixel_shuffle":
                square = s["factor"] ** 2
                self._need((channels or 0) % square == 0, "factor", s["factor"], f"a square divides {channels}")
                return channels // square if channels else None
            case "flatten":
                return channels if self.values[node.inputs[0]][1][0] == 2 else None
        return channels

    def _layer(self, s: dict[str, Any], channels: int | None) -> int:
        reads, out, groups = s["in"], s["out"], s.get("groups", 1)
        self._need(channels in (None, reads), "reads", reads, f"{channels} channels, as its input has")
        self._need(not reads % groups and not out % groups, "groups", groups, f"a divisor of {reads} and of {out}")
        self.weights += out * (reads // groups + 1) * math.prod(s.get("kernel", (1,)))
        return int(out)

    def _like(self, op: str, settings: dict[str, Any]) -> None:
        dims, axis = self.values[settings["like"]][1] if settings["like"] in self.values else (0, 0)
        if op == "interpolate":
            self._need((dims, axis) == (4, 1), "like", settings["like"], "an earlier map")
            return
        taken = [size[0] for size in settings["sizes"] if not isinstance(size, int)]
        fits = taken and all(0 < own < dims and own != axis for own in taken)
        self._need(fits, "like", settings["like"], "an earlier value that has these axes")

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
