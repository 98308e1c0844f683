"""Numbers of a traced model that are no tensors: shapes, and what is computed of them."""

import operator
from typing import Any, NamedTuple

from torch import fx
from torch.utils._pytree import tree_map

from mtl.compaction.graph import Program

# What a tensor says of itself besides its shape.
ATTRIBUTES = frozenset(["ndim", "dtype", "device", "is_cuda", "requires_grad"])
METHODS = frozenset(["dim", "ndimension", "is_floating_point"])


class Size(NamedTuple):
    """The size of a value along an axis, divided and rounded down."""

    name: str
    axis: int
    divisor: int = 1


class Numbers:
    """What is known of the nodes of a trace that are numbers, or tuples of numbers.

    A number varies if it depends on the size of the images or of the batch. The others are as good as written out.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.plain: dict[fx.Node, Any] = {}  # numbers that do not vary
        self.sizes: dict[fx.Node, Size] = {}
        self.shapes: dict[fx.Node, list[Size]] = {}
        self.results: dict[fx.Node, Any] = {}

    def __contains__(self, node: Any) -> bool:
        return node in self.results

    def add_plain(self, node: fx.Node, value: Any) -> None:
        self.results[node] = self.plain[node] = value

    def of_value(self, node: fx.Node, names: dict[fx.Node, str]) -> bool:
        """Whether a node asks a value for its shape, type or device; it is remembered then."""
        x = node.args[0] if node.args else None
        if not isinstance(x, fx.Node) or x not in names:
            return False
        value = self.program[names[x]]
        shape = [Size(value.name, axis) for axis in range(len(value.shape) + 1)]
        what = node.args[1] if len(node.args) == 2 else None
        if (node.target is getattr and what == "shape") or (node.target == "size" and len(node.args) == 1):
            self.shapes[node] = shape
            self.results[node] = None
        elif node.target == "size" and isinstance(what, int):
            self._add_size(node, shape[what])
        elif (node.target is getattr and what in ATTRIBUTES) or node.target in METHODS:
            self.add_plain(node, None if what == "device" else _asked(node, value.shape))
        else:
            return False
        return True

    def add_result(self, node: fx.Node, result: Any) -> None:
        """A node that is computed of other numbers alone."""
        first = node.args[0] if node.args else None
        second = node.args[1] if len(node.args) == 2 else None
        if node.target is operator.getitem and isinstance(first, fx.Node) and first in self.shapes:
            if isinstance(second, int):
                self._add_size(node, self.shapes[first][second])
                return
            if (
                isinstance(second, slice)
                and not isinstance(second.start, fx.Node)
                and not isinstance(second.stop, fx.Node)
            ):
                self.shapes[node] = self.shapes[first][second]
                self.results[node] = result
                return
        if node.target is operator.floordiv and isinstance(first, fx.Node) and first in self.sizes:
            divisor = self.resolved(second)
            if type(divisor) is int and divisor > 0:
                size = self.sizes[first]
                self.sizes[node] = size._replace(divisor=size.divisor * divisor)
        self.results[node] = result
        if all(source in self.plain for source in node.all_input_nodes):
            self.plain[node] = result

    def _add_size(self, node: fx.Node, size: Size) -> None:
        value = self.program[size.name]
        self.sizes[node] = size
        self.results[node] = (1, *value.shape)[size.axis]
        if size.axis == value.axis:
            self.plain[node] = value.channels

    def resolved(self, value: Any) -> Any:
        """A structure with numbers in place of the nodes that are numbers which do not vary."""
        nodes = (list, tuple, dict)
        if isinstance(value, nodes):
            return tree_map(self.resolved, value, is_leaf=lambda x: not isinstance(x, nodes))
        if isinstance(value, slice):
            return slice(*(self.resolved(part) for part in (value.start, value.stop, value.step)))
        if isinstance(value, fx.Node) and value in self.shapes and value not in self.plain:
            return value
        return self.plain.get(value, value) if isinstance(value, fx.Node) else value

    def size_of(self, value: Any) -> str | None:
        """The name of the map whose height and width a structure is; None for anything else."""
        if isinstance(value, fx.Node):
            sizes = self.shapes.get(value, [])
        elif isinstance(value, tuple | list):
            sizes = [self.sizes[v] for v in value if isinstance(v, fx.Node) and v in self.sizes]
        else:
            return None
        if len(sizes) != 2 or [(s.axis, s.divisor) for s in sizes] != [(2, 1), (3, 1)]:
            return None
        name = sizes[0].name
        value_of = self.program[name]
        is_map = (len(value_of.shape), value_of.axis) == (3, 1)
        return name if sizes[1].name == name and is_map else None


def _asked(node: fx.Node, shape: tuple[int, ...]) -> Any:
    asked = node.args[1] if node.target is getattr else node.target
    return len(shape) + 1 if asked in ("ndim", "dim", "ndimension") else None
