"""A penalty with a target in place of λ: it shrinks until so much is gone, and then the rest trains without it."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtl.config import TrialConfig
from mtl.networks.model import MultiTaskModel
from mtl.optimizer import ProximalAdamW
from mtl.penalties import PENALTIES, Penalty
from mtl.selection.groups import ChannelGroups, check_target
from mtl.selection.penalised import BackboneGroups, CoupledGroups, Penalised, Weights
from mtl.sparsity import penalised_layers

# λ begins at this share of `Penalty.lambda_max` divided by the steps of the window.
FIRST_SHARE = 0.1
# The logarithm of λ is a sum of the deviation from the plan times the first, and of its integral over the window times
# the second. The integral alone would swing: weights go on shrinking while λ falls, and fewer come back than went.
PROPORTIONAL = 8.0
INTEGRAL = 40.0
# It stays within this of its start, in which no float leaves its range.
MOST_CHANGE = 20.0
# A group is not taken away if that goes further below the target than this, as long as others will do.
SLACK = 0.01


class PenaltyToTarget:
    """Takes groups away by the proximal steps of a penalty until a share of the cost, or of the groups, is left.

    From the step `start` to the step `end` the penalty's strength λ follows what is left: it rises where more is left
    than planned, and falls where less is (proportional and integral control of log λ). Planned is

        1 - (1 - target) √((step - start) / (end - start)),

    many groups early, when a network has more than it uses, and few late. What the penalty has not made zero by then is
    set to zero in the order in which it would go: that of the smallest λ at which this proximal step makes it zero,
    which is its norm in the penalty's own metric. So λ need not race to the plan and shrink all that stays. Groups at
    zero may come back in the next step, as with every penalty.

    Once the target is met, or at `end`, it ends: groups go in this order, and no more of them than the target needs.
    What is gone stays gone, λ is 0, and the rest of the training trains what is left without shrinkage.
    """

    def __init__(self, groups: Penalised, penalty: Penalty, target: float, steps: tuple[int, int]) -> None:
        """target: the share to be left; steps: start and end. The penalty's groups are input channels."""
        self._groups, self._penalty, self._target = groups, penalty, target
        self._start, self._end = steps
        self._step, self._ended = 0, False
        self._first, self._integral = 0.0, 0.0
        self._penalty.strength = 0.0

    @property
    def groups(self) -> ChannelGroups | None:
        """Those whose channels are gone for good, once it has ended."""
        return self._groups.channels if self._ended else None

    @property
    def last_step(self) -> int:
        """The number of steps after which no more groups go."""
        return self._end

    @property
    def strength(self) -> float:
        """λ of the last proximal step; 0 before the first and after the end."""
        return float(self._penalty.strength)

    @property
    def left(self) -> float:
        """The share of the cost, or of the groups, that is left."""
        return self._groups.left()

    def observe(self) -> None:
        """The weights after the step say all."""

    @torch.no_grad()
    def apply(self) -> None:
        self._step += 1
        if not self._ended and self._step > self._start:
            self._shrink()
        if self._ended:
            self._groups.clear()

    def removed(self, stayed: Sequence[Tensor]) -> None:
        """What is left is no more looked at."""

    def state_dict(self) -> dict[str, Any]:
        # The strength is not in the optimizer's state: its own penalties are off.
        control = {"strength": self.strength, "first": self._first, "integral": self._integral}
        return {"step": self._step, "ended": self._ended, "alive": self._groups.alive, **control}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step, self._ended = state["step"], state["ended"]
        self._first, self._integral = state["first"], state["integral"]
        self._penalty.strength = state["strength"]
        if self.groups is None:  # else they have been taken out of the network
            self._groups.keep([alive.cpu() for alive in state["alive"]])

    def _shrink(self) -> None:
        """One proximal step, or the last one."""
        weights, step_size = self._groups.read(), self._groups.step_size
        vanishing = [self._vanishing(one, step_size) for one in weights]
        strength = self._next_strength(vanishing)
        self._groups.keep([values > strength for values in vanishing])
        for number, values in enumerate(vanishing):
            if (least := self._groups.least(number)) > int(self._groups.alive[number].sum()):
                self._groups.alive[number][values.topk(least).indices] = True
        self._groups.keep(self._groups.alive)
        if self._groups.left() <= self._target or self._step >= self._end:
            self._settle(vanishing)
            return
        self._remove_to(vanishing, self._planned(self._step))
        for weight, values, alive in zip(weights, vanishing, self._groups.alive, strict=True):
            self._prox_(weight, strength, step_size, alive & (values <= strength))
            weight.tensor[:, ~alive.to(weight.tensor.device)] = 0
        self._penalty.strength = strength
        self._groups.write(weights)

    def _prox_(self, one: Weights, strength: float, step_size: float, held: Tensor) -> None:
        """Shrink these groups, but for those that are `held`, (groups,) bool."""
        held = held.to(one.tensor.device)
        before = one.tensor[:, held]
        self._penalty.strength = strength * one.factor
        self._penalty.prox_([one.tensor], step_size, one.metrics)
        one.tensor[:, held] = before

    def _vanishing(self, one: Weights, step_size: float) -> Tensor:
        """(groups,): the λ at which the next proximal step makes each group zero, on the CPU."""
        (values,) = self._penalty.vanishing([one.tensor], step_size, one.metrics)
        values = values.cpu()
        return torch.where(values == 0, values, values / one.factor if one.factor else math.inf)

    def _next_strength(self, vanishing: Sequence[Tensor]) -> float:
        """λ by what the step before has left; the first follows from `vanishing` alone."""
        window = self._end - self._start
        if self._step == self._start + 1:
            largest = [float(one[one.isfinite()].max()) for one in vanishing if one.isfinite().any()]
            self._first = FIRST_SHARE * max(largest, default=0.0) / window
            return self._first
        deviation = (self._groups.left() - self._planned(self._step - 1)) / (1 - self._target)
        self._integral += deviation / window
        change = PROPORTIONAL * deviation + INTEGRAL * self._integral
        return self._first * math.exp(min(max(change, -MOST_CHANGE), MOST_CHANGE))

    def _planned(self, step: int) -> float:
        """The share that should be left after a step of the window."""
        return 1 - (1 - self._target) * math.sqrt((step - self._start) / (self._end - self._start))

    def _settle(self, vanishing: Sequence[Tensor]) -> None:
        """Have those groups gone that the target needs, and end."""
        self._groups.keep([torch.ones_like(one) for one in self._groups.alive])
        self._remove_to(vanishing, self._target)
        self._ended = True
        self._penalty.strength = 0.0

    def _remove_to(self, vanishing: Sequence[Tensor], share: float) -> None:
        """Count groups as gone until this share is left, those first that vanish at the smallest λ."""
        groups = self._groups
        order = [
            (float(values[index]), number, index)
            for number, (values, alive) in enumerate(zip(vanishing, groups.alive, strict=True))
            for index in alive.nonzero().flatten().tolist()
        ]
        spare = [int(alive.sum()) - groups.least(number) for number, alive in enumerate(groups.alive)]
        for slack in (SLACK, math.inf):
            skipped = []
            for value, number, index in sorted(order):
                missing = groups.left() - share
                if missing <= 0:
                    return
                # Beyond the slack only what comes nearer to the share than before.
                if spare[number] and groups.saving(number) - missing <= min(slack, missing):
                    groups.remove(number, index)
                    spare[number] -= 1
                else:
                    skipped.append((value, number, index))
            order = skipped


def make_penalty_to_target(
    config: TrialConfig,
    model: MultiTaskModel,
    channels: ChannelGroups,
    optimizer: ProximalAdamW,
    steps: tuple[int, int],
) -> PenaltyToTarget:
    """With the trial's penalty and target. Raises BadInput where the network cannot be made so small."""
    groups: Penalised
    if config.target_group_sparsity:
        names = {id(p): name for name, p in model.named_parameters()}
        layers = list(penalised_layers(model, config.penalised))
        groups = BackboneGroups(layers, [config.stage_factor(names[id(one.weight)]) for one in layers], optimizer)
        target = 1 - config.target_group_sparsity
    else:
        check_target(channels, config.target_macs)
        groups, target = CoupledGroups(channels, optimizer), config.target_macs
    return PenaltyToTarget(groups, PENALTIES[config.penalty](0.0), target, steps)
