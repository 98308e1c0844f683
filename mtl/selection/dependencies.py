"""Which channels of a network go together.

Torch-Pruning's dependency graph (Fang et al. 2023, arXiv 2301.12900) follows channels through the network: residual
streams, depthwise convolutions, products such as those of squeeze-and-excite, concatenations, hidden units. Ours are
what it takes no account of: norms over channels, whose every channel stays; groups of convolutions, which go whole; and
attention heads, which go whole too.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch_pruning as tp  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mtl.errors import BadInput
from mtl.networks.attention import AttentionParts, attentions
from mtl.networks.dependency import mend_concatenations
from mtl.networks.measurement import evaluating
from mtl.selection.members import Group, Kind, Layer, Member, Place, in_groups


@dataclass(eq=False)
class _Found:
    """One of Torch-Pruning's groups; `why` it cannot lose channels, or empty."""

    size: int
    members: list[Member]
    why: str

    @property
    def name(self) -> str:
        return self.members[0].name


def find_groups(model: nn.Module, images: Tensor, outputs: Sequence[nn.Module]) -> tuple[list[Group], dict[str, str]]:
    """The groups of channels that can go, and for layers whose channels all stay the reason, by name.

    images: (1, 3, H, W); outputs: layers whose output channels stay.
    """
    names = {module: name for name, module in model.named_modules()}
    heads, left_out = _heads(model, names, images.device)
    with evaluating(model), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parameters outside of layers: `_why` looks for them
        graph = _graph(model, images)
        mend_concatenations(graph)
        found: list[_Found | Group] = []
        roots = [nn.Conv2d, nn.ConvTranspose2d, nn.Linear]
        for parts in graph.get_all_groups(ignored_layers=list(outputs), root_module_types=roots):
            written = {part.dep.target.module for part in parts if _side(graph, part) == "out"}
            if touched := [head for qkv, head in heads.items() if qkv in written]:
                found += [head for head in touched if head is not None and not any(head is one for one in found)]
                continue
            members = list(_members(graph, parts, names, images.device))
            found.append(_Found(len(parts[0].idxs), members, _why(graph, parts, members)))
    own = [one for one in found if isinstance(one, _Found)]
    groups = {id(one): group for one, group in _joined_by_convolutions(own)}
    left_out |= {one.name: one.why for one in own if one.why}
    kept = [one if isinstance(one, Group) else groups.get(id(one)) for one in found]
    return [group for group in kept if group is not None], left_out


def _graph(model: nn.Module, images: Tensor) -> Any:
    try:
        return tp.DependencyGraph().build_dependency(model, example_inputs=images)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        said = str(error).split("\n")[0]
        raise BadInput(
            f"the channels of {type(model).__name__} cannot be followed ({type(error).__name__}: {said}); allowed: "
            "networks that Torch-Pruning's dependency graph can follow, or compressor = penalty"
        ) from error


def _side(graph: Any, part: Any) -> str:
    return "out" if graph.is_out_channel_pruning_fn(part.dep.handler) else "in"


def _members(graph: Any, parts: Any, names: dict[nn.Module, str], device: torch.device) -> Iterator[Member]:
    for part in parts:
        module = part.dep.target.module
        if isinstance(module, _NormBase):
            kind: Kind = "norm"
        elif isinstance(module, Layer):
            kind = "out" if _side(graph, part) == "out" else "in"
        else:
            continue
        index, group = (torch.tensor(one, device=device) for one in (part.idxs, part.root_idxs))
        yield Member(names[module], module, kind, index, group)


def _why(graph: Any, parts: Any, members: Sequence[Member]) -> str:
    """Why these channels must all stay, or nothing."""
    for part in parts:
        module = part.dep.target.module
        if isinstance(module, nn.LayerNorm | nn.GroupNorm):
            return f"normalised over channels by {type(module).__name__}"
        if isinstance(module, nn.Parameter):
            return "a parameter outside of convolutions, linear layers and batch norms has these channels"
        if isinstance(module, tp.ops._OutputOp):
            return "the model's own output"
        known = isinstance(module, Layer | _NormBase) or type(module).__module__ == tp.ops.__name__
        if not known and any(True for _ in module.parameters(recurse=False)):
            return f"{type(module).__name__} reads or writes these channels"
        if isinstance(module, nn.ConvTranspose2d) and module.groups not in (1, module.in_channels, module.out_channels):
            return "a transposed convolution with groups reads or writes these channels"
    for member in members:
        # Broadcasting, which Torch-Pruning takes for one channel to each.
        if int(member.index.max()) >= member.place.size or len(member.index.unique()) < len(member.index):
            return f"{member.name} has other channels"
    return ""


def _heads(
    model: nn.Module, names: dict[nn.Module, str], device: torch.device
) -> tuple[dict[nn.Module, Group | None], dict[str, str]]:
    """By the layer that makes queries, keys and values the heads of its attention; and why others all stay, by name."""
    layers = {id(module.weight): module for module in model.modules() if isinstance(module, nn.Linear)}
    found: dict[nn.Module, Group | None] = {}
    left_out = {}
    for name, parts in attentions(model):
        qkv = layers.get(id(parts.qkv_weight))
        # timm's reshapes to attn_dim, but for old releases; torch's wants as many inputs of all heads as there were.
        if qkv is None or not hasattr(model.get_submodule(name), "attn_dim"):
            left_out[name] = f"heads of {type(model.get_submodule(name)).__name__}, which cannot have fewer"
        if qkv is not None:
            found[qkv] = None if name in left_out else _head_group(parts, qkv, names, device)
    return found, left_out


def _head_group(parts: AttentionParts, qkv: nn.Linear, names: dict[nn.Module, str], device: torch.device) -> Group:
    inputs = torch.arange(parts.heads * parts.head_size, device=device)
    head = inputs // parts.head_size
    rows = torch.arange(3 * len(inputs), device=device)
    members = (
        Member(names[qkv], qkv, "out", rows, head.repeat(3)),
        Member(names[parts.projection], parts.projection, "in", inputs, head),
    )
    return Group(parts.heads, members, heads=True)


def _joined_by_convolutions(found: Sequence[_Found]) -> Iterator[tuple[_Found, Group]]:
    """Groups in which those that a grouped convolution reads and writes are one, whole groups of it being a channel.

    Each comes with the first of those that it is made of; `why` of those that cannot lose any is set.
    """
    sides: dict[Place, list[tuple[int, Member]]] = {}
    for number, one in enumerate(found):
        for member in one.members:
            if in_groups(member.module) and not _is_depthwise(member.module):
                sides.setdefault(member.place, []).append((number, member))
    first = torch.tensor([0, *(one.size for one in found)]).cumsum(0).tolist()
    parent, owner = list(range(first[-1])), list(range(len(found)))
    for place, here in sides.items():
        if place.side == "in":
            continue
        module = place.module
        assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        there = sides.get(Place(place.name, module, "in"), [])
        together = [*here, *there]
        counts = [sum(len(member.index) for _, member in side) for side in (here, there)]
        if counts != [module.out_channels, module.in_channels] or isinstance(module, nn.ConvTranspose2d):
            for number, _ in together:
                found[number].why = found[number].why or f"{place.name} has groups, and others of its channels stay"
        for number, _ in together[1:]:
            _unite(owner, together[0][0], number)
        leaders: dict[int, int] = {}
        for number, member in together:
            size = member.place.size // module.groups
            for index, channel in zip(member.index.tolist(), member.group.tolist(), strict=True):
                node = first[number] + channel
                _unite(parent, leaders.setdefault(index // size, node), node)
    joined: dict[int, list[int]] = {}
    for number in range(len(found)):
        joined.setdefault(_leader(owner, number), []).append(number)
    for numbers in joined.values():
        if whys := [found[number].why for number in numbers if found[number].why]:
            for number in numbers:
                found[number].why = found[number].why or whys[0]
        elif len(numbers) == 1 and not any(number == numbers[0] for here in sides.values() for number, _ in here):
            yield found[numbers[0]], Group(found[numbers[0]].size, tuple(found[numbers[0]].members))
        else:
            yield found[numbers[0]], _one_group([(found[n], first[n]) for n in numbers], parent)


def _one_group(parts: Sequence[tuple[_Found, int]], parent: list[int]) -> Group:
    """Of several groups, with the number of their first channel, one whose channels are the united ones."""
    numbers: dict[int, int] = {}
    members = []
    for one, first in parts:
        units = [numbers.setdefault(_leader(parent, first + channel), len(numbers)) for channel in range(one.size)]
        table = torch.tensor(units, device=one.members[0].index.device)
        for member in one.members:
            # A grouped convolution's rows are in its groups already.
            if not (in_groups(member.module) and member.kind == "in"):
                members.append(replace(member, group=table[member.group]))
    return Group(len(numbers), tuple(members))


def _is_depthwise(module: nn.Module) -> bool:
    """Whether each channel that it writes reads one, which Torch-Pruning follows."""
    assert isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    return module.groups == module.in_channels == module.out_channels


def _leader(parent: list[int], node: int) -> int:
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


def _unite(parent: list[int], a: int, b: int) -> None:
    a, b = sorted((_leader(parent, a), _leader(parent, b)))
    parent[b] = a
