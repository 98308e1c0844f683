"""Select, then train: channels go one after the other early in a training, and the rest of it trains what is left."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mtl.selection.groups import ChannelGroups, check_target
from mtl.selection.members import Group, Member

Importance = Literal["taylor", "magnitude", "random"]

# Steps between two removals: many small ones let the channels that stay get used to the absence of the others.
EVERY = 2
# Steps, at least, that a worth is the mean of; fewer where there are fewer than twice as many in all.
OBSERVED = 10
# Of the running mean of what channels are worth: the share of the new step.
NEW_SHARE = 0.1


class Selector:
    """Removes channels until a model costs a share of what it cost at first.

    Between the steps `start` and `end` those channels go whose worth divided by the multiply-accumulates that their
    removal saves is least. What is left of the cost falls at an even rate, from the share s at the start: at a step it
    is

        s (target / s) ^ ((step - start) / (end - start))

    After `end` no more channels go. The worth of a channel is

        taylor      the running mean of (Σ γ ∂L/∂γ + β ∂L/∂β)² over the batch norms of its group: an estimate of what
                    the loss gains by it (Molchanov et al. 2019, arXiv 1906.10771). Where it has none, of the weights
                    and biases that write it, as a hidden unit's are, or of those that read an attention head: to first
                    order both are what the loss changes if the channel becomes zero
        magnitude   the mean square of all weights that write or read it
        random      a number drawn once from the seed

    Call `observe` between the backward pass and the optimizer's step, and `apply` after it.
    """

    def __init__(
        self,
        groups: ChannelGroups,
        importance: Importance,
        target: float,
        steps: tuple[int, int],
        seed: int,
    ) -> None:
        """target: share of the multiply-accumulates to keep; steps: start and end. Raises BadInput where it is less
        than what one channel in each group costs."""
        self.groups, self._importance, self._target = groups, importance, target
        self._start, self._end = steps
        self._full = groups.macs()
        check_target(groups, target)
        self._step, self._first_share = 0, 1.0
        generator = torch.Generator().manual_seed(seed)
        self._worths = [
            torch.rand(group.size, generator=generator) if importance == "random" else torch.zeros(group.size)
            for group in groups.groups
        ]
        self._worths = [one.to(group.device) for one, group in zip(self._worths, groups.groups, strict=True)]

    @property
    def last_step(self) -> int:
        return self._end

    @property
    def share(self) -> float:
        """Of the multiply-accumulates at first that are left."""
        return self.groups.macs() / self._full

    def observe(self) -> None:
        """Look at a step's gradients."""
        if self._importance != "taylor" or not self._start <= self._step < self._end:
            return
        for worth, gain in zip(self._worths, self._gains(), strict=True):
            worth.mul_(1 - NEW_SHARE).add_(NEW_SHARE * gain.square())

    def apply(self) -> None:
        """After the optimizer's step: remove what is due, and keep at zero what was removed."""
        if self._step == self._start:
            self._first_share = self.share
        self._step += 1
        observed, window = self._step - self._start, self._end - self._start
        due = self._step % EVERY == 0 and observed >= min(OBSERVED, window // 2)
        if 0 < observed <= window and (due or observed == window):
            share = self._first_share * min(1.0, self._target / self._first_share) ** (observed / window)
            self._remove_to(self._full * share)
        self.groups.clear()

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "first_share": self._first_share, "worths": self._worths}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step, self._first_share = state["step"], state["first_share"]
        self._worths = [one.to(own.device) for one, own in zip(state["worths"], self._worths, strict=True)]

    def removed(self, stayed: Sequence[Tensor]) -> None:
        """The groups have become smaller: these of their channels stayed, (size,) bool for each."""
        self._worths = [worth[one.to(worth.device)] for worth, one in zip(self._worths, stayed, strict=True)]

    @torch.no_grad()
    def _gains(self) -> list[Tensor]:
        """For each group (size,): by how much the loss would rise, to first order, without each of its channels."""
        gains = []
        for group in self.groups.groups:
            gain = torch.zeros(group.size, device=group.device)
            for member in _measured(group):
                for _, parameter, dimension in member.place.tensors():
                    if isinstance(parameter, nn.Parameter) and parameter.grad is not None:
                        product = (parameter * parameter.grad).movedim(dimension, 0)
                        terms = product.reshape(len(product), -1).sum(1).float()
                        gain.index_add_(0, member.group, terms[member.index])
            gains.append(gain)
        return gains

    @torch.no_grad()
    def _mean_squares(self) -> list[Tensor]:
        """For each group (size,): the mean square of the weights that write or read each channel."""
        means = []
        for group in self.groups.groups:
            squares, counts = (torch.zeros(group.size, device=group.device) for _ in range(2))
            for member in group.members:
                if member.kind == "norm":
                    continue
                rows = member.weight_rows().square()
                squares.index_add_(0, member.group, rows.sum(1).float()[member.index])
                counts.index_add_(0, member.group, torch.full_like(squares[member.group], rows.shape[1]))
            means.append(squares / counts)
        return means

    def _remove_to(self, macs: float) -> None:
        """Take channels away until no more than `macs` are left; one channel of each group stays."""
        worths: Sequence[Tensor] = self._mean_squares() if self._importance == "magnitude" else self._worths
        worths, groups = [worth.cpu() for worth in worths], self.groups
        while groups.macs() > macs:
            least: tuple[float, int, int] | None = None
            for number, (worth, alive) in enumerate(zip(worths, groups.alive, strict=True)):
                if int(alive.sum()) > 1:
                    channel = int(torch.where(alive, worth, math.inf).argmin())
                    price = float(worth[channel]) / groups.saving(number)
                    if least is None or price < least[0]:
                        least = (price, number, channel)
            if least is None:
                return
            groups.remove(*least[1:])


def _measured(group: Group) -> list[Member]:
    """The members whose gradients say what a group's channels are worth."""
    norms = [member for member in group.members if member.kind == "norm" and isinstance(member.module.weight, Tensor)]
    if norms:
        return norms
    # Queries and keys at zero would leave a head its mean value: its worth is what reads it.
    return [member for member in group.members if member.kind == ("in" if group.heads else "out")]
