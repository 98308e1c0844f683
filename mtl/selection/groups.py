"""Channels that must go together: of all layers that write and read one channel, heads and residual streams included.

A channel of a residual stream is written by several layers and read by several: only if all of them let it go is
anything saved. `mtl.selection.dependencies` finds these groups.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mtl.errors import BadInput
from mtl.networks.smaller import ONE_CHANNEL, rounded_up
from mtl.selection.costs import Key, Term, channel_counts, cost_terms
from mtl.selection.dependencies import find_groups
from mtl.selection.members import Member, Place


class ChannelGroups:
    """The groups of a model, which of their channels are left, and what they cost.

    Attributes:
        alive: for each group (size,) bool, on the CPU: which of its channels are left. `keep` and `remove` change it.
        kept: the same, of the groups as they were found: `forget_removed` makes the groups themselves smaller.
        left_out: layers whose channels all stay, by name, and why.
    """

    def __init__(self, model: nn.Module, images: Tensor, outputs: Sequence[nn.Module]) -> None:
        """images: (N, 3, H, W) on the model's device; outputs: layers whose output channels stay: users read them."""
        self._terms, self._fixed = cost_terms(model, images[:1])
        groups, self.left_out = find_groups(model, images[:1], outputs)
        self.groups = tuple(groups)
        self._terms_of: dict[Key, list[Term]] = defaultdict(list)
        for term in self._terms:
            for key in term.keys:
                self._terms_of[key].append(term)
        self._start()

    def leave_out(self, numbers: Collection[int], why: str) -> None:
        """Have all channels of these groups stay."""
        for number in numbers:
            self.left_out[self.groups[number].members[0].name] = why
        self.groups = tuple(group for number, group in enumerate(self.groups) if number not in numbers)
        self._start()

    def _start(self) -> None:
        self.keep([torch.ones(group.size, dtype=torch.bool) for group in self.groups])
        self.kept = [alive.clone() for alive in self.alive]

    def keep(self, alive: Sequence[Tensor]) -> None:
        """Have these channels left, (size,) bool for each group, and no others."""
        self.alive = [one.clone() for one in alive]
        self._left = channel_counts(self._terms)
        for group, one in zip(self.groups, self.alive, strict=True):
            for member, count in group.layers:
                self._left[_key(member)] -= int((count * ~one).sum())

    def keep_used(self) -> None:
        """Have those channels left that some layer writes with weights that are not zero, and one of each group."""
        used = []
        for group in self.groups:
            alive = torch.zeros(group.size, dtype=torch.bool)
            for member in group.members:
                if member.kind == "out":
                    writes = member.weight_rows().detach().ne(0).any(1)
                    alive[member.group[writes[member.index]].cpu()] = True
            alive[0] |= not alive.any()
            used.append(alive)
        self.keep(used)

    def remove(self, number: int, channel: int) -> None:
        """Take one channel of a group away."""
        self.alive[number][channel] = False
        for member, count in self.groups[number].layers:
            self._left[_key(member)] -= int(count[channel])

    def macs(self) -> int:
        """Multiply-accumulates of one image, of the whole model with the channels that are left."""
        return self._fixed + sum(
            term.factor * math.prod(map(self._left.__getitem__, term.keys)) for term in self._terms
        )

    def smallest_macs(self) -> int:
        """Those with one channel left in each group."""
        before = self.alive
        self.keep([torch.arange(group.size) == 0 for group in self.groups])
        least = self.macs()
        self.keep(before)
        return least

    def saving(self, number: int) -> float:
        """What one channel less of a group saves now, in multiply-accumulates."""
        group, saved = self.groups[number], 0.0
        for member, _ in group.layers:
            own = _key(member)
            for term in self._terms_of[own]:
                others = math.prod(self._left[key] for key in term.keys if key != own)
                saved += len(member.index) / group.size * others * term.factor
        return saved

    def places_left(self) -> dict[Place, Tensor]:
        """Of the layers and norms that have lost channels: the places of their channels that are left, (k,)."""
        left: dict[Place, Tensor] = {}
        for group, alive in zip(self.groups, self.alive, strict=True):
            if alive.all():
                continue
            for member in group.members:
                place = member.place
                mask = left.setdefault(place, torch.ones(place.size, dtype=torch.bool, device=member.index.device))
                mask[member.index[~alive.to(member.group.device)[member.group]]] = False
        return {key: mask.nonzero().flatten() for key, mask in left.items()}

    def forget_removed(self, places: Mapping[Place, Tensor]) -> list[Tensor]:
        """Be the groups of a model whose layers have lost all but these places, which `places_left` gave.

        Returns for each group (size,) bool, which of its channels stayed.
        """
        stayed, groups = self.alive, []
        for group, alive in zip(self.groups, stayed, strict=True):
            members = []
            for member in group.members:
                here = alive.to(member.group.device)[member.group]
                found = places.get(member.place)
                index = member.index[here] if found is None else torch.searchsorted(found, member.index[here])
                number = (alive.cumsum(0) - 1).to(member.group.device)[member.group[here]]
                members.append(replace(member, index=index, group=number))
            groups.append(replace(group, size=int(alive.sum()), members=tuple(members)))
        self.groups = tuple(groups)
        for first, alive in zip(self.kept, stayed, strict=True):
            first[first.clone()] = alive
        self.keep([torch.ones(group.size, dtype=torch.bool) for group in self.groups])
        return stayed

    @torch.no_grad()
    def clear(self) -> None:
        """Set to zero all that belongs to channels that are gone, so that compaction removes it exactly."""
        for group, alive in zip(self.groups, self.alive, strict=True):
            if alive.all():
                continue
            for member in group.members:
                gone = member.index[~alive.to(member.group.device)[member.group]]
                for name, tensor, dimension in member.place.tensors():
                    if not name.startswith("running"):
                        tensor.index_fill_(dimension, gone, 0)


def _key(member: Member) -> Key:
    return member.module, "in" if member.kind == "in" else "out"


def check_target(groups: ChannelGroups, target: float) -> None:
    """Raise BadInput for a share of the multiply-accumulates that is less than what one channel in each group costs."""
    if (least := groups.smallest_macs() / groups.macs()) > target:
        stay = (
            f", with all channels of {len(groups.left_out)} layers that {_example(groups)}" if groups.left_out else ""
        )
        raise BadInput(
            f"target_macs = {target:g}; allowed: {rounded_up(least):g} or more, what {ONE_CHANNEL} costs{stay}"
        )


def _example(groups: ChannelGroups) -> str:
    name, why = next(iter(groups.left_out.items()))
    return f"cannot lose any, such as {name} ({why})"
