"""AdamW followed by the proximal step of each parameter group's penalty."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from mtl.errors import BadInput, TrialFailed
from mtl.penalties import Penalty
from mtl.proximal.blocks import AdamMetric
from mtl.proximal.gradients import DeferredCheck
from mtl.proximal.groups import PLAIN, Layout, like
from mtl.proximal.layers import grouped_layers
from mtl.together import metrics_of_states, step_together

Metric = Literal["adaptive", "euclidean"]
Check = Literal["auto", "now", "later"]


class ProximalAdamW(torch.optim.Optimizer):
    """AdamW (decoupled weight decay) whose parameter groups may carry a `penalty`.

    After torch's own AdamW step z each penalised weight becomes argmin_w 1/2 ||w - z||^2_D + lr * penalty(w):

    - metric="adaptive": D = diag(sqrt(v_hat) + eps), Adam's own metric, v_hat corrected for its bias
      (Deleu & Bengio 2021, arXiv 2102.03869);
    - metric="euclidean": D = 1. Adam divides the gradients, and so a loss that is penalised has other minima than the
      fixed points of this step; the adaptive metric has the same (Deleu & Bengio 2021, section 3).

    With no penalty, or one of strength 0, a step is torch's fused AdamW step exactly.

        ProximalAdamW([{"params": convs, "penalty": GroupLasso(strength=1e-5)}, {"params": others}], lr=1e-4)

    A parameter group may have `layouts`, one `mtl.proximal.groups.Layout` for each parameter, or one for all. Without
    them weights are taken for those of plain convolutions and linear layers. `penalised_parameters(model, penalty)`
    gives parameter groups of a whole model, whatever its layers are.

    `params` may also be pairs (name, parameter), as torch's optimizers take them; errors then name the parameter.

    A gradient that is not finite is refused before anything has changed. check="now" raises TrialFailed at once;
    "later" does not change weights and state and raises at the next `raise_refused()`, so that the step never waits for
    a device. "auto" is now on CPU, later elsewhere. On CUDA a step then needs no host synchronisation and can be
    captured in a graph; `lr` and a penalty's `strength` are tensors on the device if they shall change.

    For weights in bfloat16 or float16, the state and a copy that the steps change are in float32; weights that somebody
    else has changed since the last step are copied first.

    Raises BadInput for values out of range and for a weight that its penalty cannot be put on.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        metric: Metric = "adaptive",
        check: Check = "auto",
    ) -> None:
        for name, value, allowed in (("metric", metric, get_args(Metric)), ("check", check, get_args(Check))):
            if value not in allowed:
                raise BadInput(f"ProximalAdamW: {name} {value!r}; allowed: {', '.join(map(repr, allowed))}")
        self.metric = metric
        self.check = check
        self.deferred = DeferredCheck()
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "penalty": None,
            "layouts": PLAIN,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for name, ok, allowed in (
            ("lr", group["lr"] >= 0, "a number >= 0"),
            ("betas", all(0 <= beta < 1 for beta in group["betas"]), "two numbers, 0 <= beta < 1"),
            ("eps", group["eps"] > 0, "a number > 0, as the metric is divided by"),
            ("weight_decay", group["weight_decay"] >= 0, "a number >= 0"),
            ("penalty", isinstance(group["penalty"], Penalty | None), "None or a Penalty such as GroupLasso(1e-5)"),
        ):
            if not ok:
                raise BadInput(f"ProximalAdamW: {name} {group[name]!r}; allowed: {allowed}")
        count = len(group["params"])
        given = group["layouts"]
        group["layouts"] = layouts = [given] * count if isinstance(given, Layout) else list(given)
        if len(layouts) != count or not all(isinstance(layout, Layout) for layout in layouts):
            raise BadInput(
                f"ProximalAdamW: layouts {given!r}; allowed: a Layout, or one for each of {count} parameters"
            )
        if group["penalty"] is not None:
            names = _names(group, len(self.param_groups) - 1)
            for weight, name, layout in zip(group["params"], names, layouts, strict=True):
                group["penalty"].check(weight, name, layout)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step from the gradients there are; `closure`, if given, computes them and the loss first."""
        loss: float | None = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        (failure,) = step_together([self])
        if failure is not None:
            raise failure
        return loss

    @property
    def has_hooks(self) -> bool:
        """Whether somebody is to be called with each `step`."""
        return bool(self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks)

    def raise_refused(self) -> None:
        """Raise TrialFailed if gradients have been refused since the last call; waits for the device."""
        if refused := self.deferred.take():
            name, count = next(iter(refused.items()))
            raise TrialFailed(f"the gradient of {name} was not finite in {count} steps, which were not taken")

    def gradients(self) -> list[Tensor]:
        """The gradients that there are, without those of no elements."""
        return [p.grad for group in self.param_groups for p in group["params"] if _has_gradient(p)]

    def gradient_names(self) -> tuple[str, ...]:
        """What errors call each of `gradients`."""
        return tuple(
            name
            for index, group in enumerate(self.param_groups)
            for name, p in zip(_names(group, index), group["params"], strict=True)
            if _has_gradient(p)
        )

    def checked_now(self, gradient: Tensor) -> bool:
        """Whether this gradient is looked at in its step, and not later."""
        return self.check == "now" or (self.check == "auto" and gradient.device.type == "cpu")

    def state_of(self, p: Tensor) -> dict[str, Any]:
        """The parameter's state, made at its first step."""
        state: dict[str, Any] = self.state[p]
        if not state:
            dtype = torch.promote_types(p.dtype, torch.float32)
            state["step"] = torch.zeros((), dtype=torch.float32, device=p.device)
            state["exp_avg"] = torch.zeros_like(p, dtype=dtype)
            state["exp_avg_sq"] = torch.zeros_like(p, dtype=dtype)
            if p.dtype != dtype:
                state["master"] = p.to(dtype)
        return state

    def metrics_of(self, parameters: Sequence[Tensor]) -> list[AdamMetric] | None:
        """Those of the parameters' next proximal steps; None where they are Euclidean, or before the first step."""
        if self.metric == "euclidean" or not all(self.state.get(p) for p in parameters):
            return None
        groups = {p: group for group in self.param_groups for p in group["params"]}
        states = [(self.state[p], groups[p]) for p in parameters]
        return [metrics_of_states([state], group["betas"][1], group["eps"])[0] for state, group in states]

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: torch's keeps what all optimizers have."""
        return super().__getstate__() | {"metric": self.metric, "check": self.check, "deferred": self.deferred}

    def state_dict(self) -> dict[str, Any]:
        """As torch's, without layouts and with each penalty as its strength alone: plain data, to be read back with
        weights_only=True."""
        state = super().state_dict()
        for group in state["param_groups"]:
            penalty = group.pop("penalty")
            group["strength"] = None if penalty is None else penalty.strength
            del group["layouts"]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore moments, steps and strengths; the kinds of penalty are those this optimizer was made with."""
        penalties = [group["penalty"] for group in self.param_groups]
        layouts = [group["layouts"] for group in self.param_groups]
        super().load_state_dict(state_dict)
        groups = zip(self.param_groups, state_dict["param_groups"], penalties, layouts, strict=True)
        for group, saved, penalty, layout in groups:
            group["layouts"] = layout
            strength = group.pop("strength")
            if (penalty is None) != (strength is None):
                raise BadInput("ProximalAdamW: the saved state has its penalties on other parameter groups")
            group["penalty"] = penalty
            if penalty is not None:
                penalty.strength = strength
            for p, key in zip(group["params"], saved["params"], strict=True):
                for name, value in state_dict["state"].get(key, {}).items():
                    # torch casts to the parameter's type, which may be shorter than the state's, and makes no copy.
                    mine = value.to(p.device)
                    self.state[p][name] = (mine if name == "step" else like(mine, p)).clone()


def penalised_parameters(model: nn.Module, penalty: Penalty) -> list[dict[str, Any]]:
    """Parameter groups for `ProximalAdamW`: all convolutions and linear layers with the penalty, and all the rest.

        ProximalAdamW(penalised_parameters(network, GroupLasso(strength=1e-5)), lr=1e-4)

    Groups of weights are then the input channels of each layer, also of grouped, depthwise and transposed convolutions,
    and attention heads: see `mtl.proximal.layers.grouped_layers`. Raises BadInput, with the layer's name, for a layer
    whose groups are not known.
    """
    layouts = {id(layer.weight): layer.layout for layer in grouped_layers(model)}
    named = list(model.named_parameters())
    penalised = [(name, p) for name, p in named if id(p) in layouts]
    others = [(name, p) for name, p in named if id(p) not in layouts]
    first = {"params": penalised, "layouts": [layouts[id(p)] for _, p in penalised], "penalty": penalty}
    return [group for group in (first, {"params": others}) if group["params"]]


def _has_gradient(p: Tensor) -> bool:
    return p.grad is not None and p.grad.numel() > 0


def _names(group: dict[str, Any], index: int) -> list[str]:
    """What errors call the group's parameters."""
    named: list[str] | None = group.get("param_names")
    return named or [f"parameter {i} of group {index}, {tuple(p.shape)}" for i, p in enumerate(group["params"])]
