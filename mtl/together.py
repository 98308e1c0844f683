"""One step of several `ProximalAdamW` at once: what is alike in them goes into one call.

A GPU that trains small networks waits for calls more than for numbers, and a step of each optimizer by itself has as
many calls as its network's pass has in a pack. The numbers are those of each by itself.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mtl.errors import TrialFailed
from mtl.penalties import Penalty
from mtl.proximal.blocks import AdamMetric, on_device
from mtl.proximal.gradients import count_not_finite, find_not_finite
from mtl.proximal.groups import Layout, like

if TYPE_CHECKING:
    from mtl.optimizer import ProximalAdamW

State = dict[str, Any]


@dataclass
class _Update:
    """Weights that one call of AdamW updates: they share its settings, and what says that the step is refused."""

    settings: dict[str, Any]
    refused: Tensor | None
    weights: list[Tensor] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    states: list[State] = field(default_factory=list)


@dataclass
class _Shrinking:
    """Weights whose proximal steps are one call: under penalties that differ in their strengths alone.

    owners, rates, strengths: for each weight, the number of its optimizer, the learning rate and the strength.
    """

    penalty: Penalty
    metric: str
    beta: float
    eps: float
    weights: list[Tensor] = field(default_factory=list)
    layouts: list[Layout] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)
    rates: list[float | Tensor] = field(default_factory=list)
    strengths: list[float | Tensor] = field(default_factory=list)
    parts: set[tuple[int, int]] = field(default_factory=set)  # optimizers and their parameter groups


@torch.no_grad()
def step_together(optimizers: "Sequence[ProximalAdamW]") -> list[TrialFailed | None]:
    """One step of each, from the gradients that there are; for each why it was not taken, or None.

    All weights and moments are on one device, or there is one optimizer. Where gradients are checked later, a refused
    step changes nothing, as in each by itself: a call of AdamW can refuse all it is given or nothing, so that there
    each optimizer has its own.
    """
    failures, refused = _check(optimizers)
    updates: dict[Hashable, _Update] = {}
    shrinkings: dict[Hashable, _Shrinking] = {}
    copies: list[tuple[Tensor, Tensor]] = []  # of a parameter in half precision and its master
    for number, optimizer in enumerate(optimizers):
        optimizer._opt_called = True  # type: ignore[attr-defined]  # what torch's schedulers look for
        if failures[number] is None:
            for place in range(len(optimizer.param_groups)):
                _collect(
                    number, place, optimizer, refused.get(number), len(optimizers) > 1, updates, shrinkings, copies
                )
    if updates:
        torch._foreach_add_([state["step"] for update in updates.values() for state in update.states], 1)
    for update in updates.values():
        _update(update)
    _refuse_steps(list(updates.values()))
    for shrinking in shrinkings.values():
        _shrink(shrinking, refused)
    for parameter, master in copies:
        parameter.copy_(master)
    return failures


def _check(optimizers: "Sequence[ProximalAdamW]") -> tuple[list[TrialFailed | None], dict[int, Tensor]]:
    """Why a gradient that is not finite stops an optimizer; and, by number, 1.0 or 0.0 where it is for later."""
    failures: list[TrialFailed | None] = []
    later: dict[int, tuple[tuple[str, ...], list[Tensor]]] = {}
    for number, optimizer in enumerate(optimizers):
        gradients = optimizer.gradients()
        now = [gradient for gradient in gradients if optimizer.checked_now(gradient)]
        bad = find_not_finite(now)
        failure = None
        if bad is not None:
            # Names take time, so they are made only where they are needed.
            name = next(n for n, one in zip(optimizer.gradient_names(), gradients, strict=True) if one is now[bad])
            failure = TrialFailed(f"the gradient of {name} is not finite; the step was not taken")
        elif len(now) < len(gradients):
            later[number] = optimizer.gradient_names(), gradients
        failures.append(failure)
    checks = [optimizers[number].deferred for number in later]
    return failures, dict(zip(later, count_not_finite(checks, list(later.values())), strict=True))


def _collect(
    number: int,
    place: int,
    optimizer: "ProximalAdamW",
    refused: Tensor | None,
    several: bool,
    updates: dict[Hashable, _Update],
    shrinkings: dict[Hashable, _Shrinking],
    copies: list[tuple[Tensor, Tensor]],
) -> None:
    """Put what one parameter group has to do to what there is to do."""
    group = optimizer.param_groups[place]
    taken = [(p, layout) for p, layout in zip(group["params"], group["layouts"], strict=True) if p.grad is not None]
    if not taken:
        return
    states = [optimizer.state_of(p) for p, _ in taken]
    weights = [state.get("master", p) for state, (p, _) in zip(states, taken, strict=True)]
    settings = {name: group[name] for name in ("lr", "betas", "eps", "weight_decay")}
    owner = None if refused is None else number
    shared = (owner, *(_same(value) for value in settings.values()))
    for (p, _), weight, state in zip(taken, weights, states, strict=True):
        if weight is not p:
            weight.copy_(torch.where(weight.to(p.dtype) == p, weight, p.to(weight.dtype)))
            copies.append((p, weight))
        key = (shared, weight.device, weight.dtype)
        update = updates.get(key)
        if update is None:
            update = updates[key] = _Update(settings, refused)
        update.weights.append(weight)
        update.states.append(state)
        gradient = p.grad
        # torch 2.15's fused kernel on CPU pairs elements by their places in memory, whatever the strides are.
        if gradient.dtype != weight.dtype or gradient.stride() != weight.stride():
            gradient = like(gradient.to(weight.dtype), weight)
        update.gradients.append(gradient)
    penalty: Penalty | None = group["penalty"]
    if penalty is None or penalty.is_off:
        return
    # A tensor as rate or strength is read when a captured graph is replayed: that of one call alone.
    tensors = isinstance(penalty.strength, Tensor) or isinstance(group["lr"], Tensor)
    alike = penalty.kind if several and not tensors else None
    kind: Hashable = (alike or (number, place), optimizer.metric, group["betas"][1], group["eps"])
    shrinking = shrinkings.get(kind)
    if shrinking is None:
        shrinking = shrinkings[kind] = _Shrinking(penalty, optimizer.metric, group["betas"][1], group["eps"])
    shrinking.weights += weights
    shrinking.layouts += [layout for _, layout in taken]
    shrinking.states += states
    shrinking.owners += [number] * len(taken)
    shrinking.rates += [group["lr"]] * len(taken)
    shrinking.strengths += [penalty.strength] * len(taken)
    shrinking.parts.add((number, place))


def _same(value: Any) -> Hashable:
    """Equal for settings that are the same; a tensor is only itself."""
    return id(value) if isinstance(value, Tensor) else value


def _update(update: _Update) -> None:
    """AdamW's step, by the call that torch's own AdamW makes: one pass over memory, 5 times as fast as its loop."""
    settings, device = update.settings, update.weights[0].device
    lr = settings["lr"]
    if isinstance(lr, Tensor) and lr.device.type != "cpu":
        lr = lr.to(device, non_blocking=True)
    torch._fused_adamw_(
        update.weights,
        update.gradients,
        [state["exp_avg"] for state in update.states],
        [state["exp_avg_sq"] for state in update.states],
        [],
        [state["step"] for state in update.states],
        lr=lr,
        beta1=settings["betas"][0],
        beta2=settings["betas"][1],
        weight_decay=settings["weight_decay"],
        eps=settings["eps"],
        amsgrad=False,
        maximize=False,
        grad_scale=None,
        found_inf=None if update.refused is None else update.refused.to(device, non_blocking=True),
    )


def _refuse_steps(updates: Sequence[_Update]) -> None:
    """Take back the count of the steps that were refused."""
    refused = [
        (state["step"], update.refused) for update in updates if update.refused is not None for state in update.states
    ]
    if refused:
        steps = [step for step, _ in refused]
        torch._foreach_sub_(steps, [flag.to(step.device, non_blocking=True) for step, flag in refused])


def _shrink(shrinking: _Shrinking, refused: dict[int, Tensor]) -> None:
    """The proximal steps. A refused one has length 0, for which every prox is the identity."""
    metrics = None
    if shrinking.metric == "adaptive":
        metrics = metrics_of_states(shrinking.states, shrinking.beta, shrinking.eps)
    if len(shrinking.parts) == 1:
        rate, flag = shrinking.rates[0], refused.get(shrinking.owners[0])
        step_size = rate if flag is None else rate * (1 - flag.double())
        shrinking.penalty.prox_(shrinking.weights, step_size, metrics, shrinking.layouts)
        return
    device = shrinking.weights[0].device
    numbers = [[float(one) for one in row] for row in (shrinking.rates, shrinking.strengths, shrinking.owners)]
    rates, strengths, owners = on_device(torch.tensor(numbers, dtype=torch.float64), device).unbind()
    if refused:
        some = next(iter(refused.values()))
        zero = torch.zeros_like(some)
        flags = torch.stack([refused.get(number, zero) for number in range(max(shrinking.owners) + 1)])
        rates = rates * (1 - flags[owners.long()])
    shrinking.penalty.prox_each_(shrinking.weights, rates, strengths, metrics, shrinking.layouts)


def metrics_of_states(states: Sequence[State], beta: float, eps: float) -> list[AdamMetric]:
    """sqrt(v_hat) + eps for each weight, the diagonal by which Adam divides the gradient's mean; beta: the second."""
    # In float64, as 1 - 0.999 in float32 has a relative error of 6e-5.
    corrections = 1 - beta ** torch.stack([state["step"] for state in states]).double()
    corrections = torch.where(corrections == 0, 1, corrections)  # before the first step v is 0
    values = corrections.tolist() if corrections.device.type == "cpu" else corrections.unbind()
    return [AdamMetric(state["exp_avg_sq"], value, eps) for state, value in zip(states, values, strict=True)]
