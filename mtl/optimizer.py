"""AdamW followed by the proximal step of each parameter group's penalty."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from mtl.errors import BadInput
from mtl.penalties import Penalty

Metric = Literal["adaptive", "euclidean"]


class ProximalAdamW(torch.optim.AdamW):
    """AdamW (decoupled weight decay) whose parameter groups may carry a `penalty`.

    After torch's own AdamW step z each penalised weight becomes argmin_w 1/2 ||w - z||^2_D + lr * penalty(w):

    - metric="adaptive": D = diag(sqrt(v_hat) + eps), Adam's own metric, v_hat corrected for its bias
      (Deleu & Bengio 2021, arXiv 2102.03869);
    - metric="euclidean": D = 1. Adam divides the gradients, and so a loss that is penalised has other minima than the
      fixed points of this step; the adaptive metric has the same (Deleu & Bengio 2021, section 3).

    With no penalty, or one of strength 0, a step is torch's AdamW step exactly.

        ProximalAdamW([{"params": convs, "penalty": GroupLasso(strength=1e-5)}, {"params": others}], lr=1e-4)

    Raises BadInput for an unknown metric and for a weight that its penalty cannot be put on.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        metric: Metric = "adaptive",
    ) -> None:
        if metric not in ("adaptive", "euclidean"):
            raise BadInput(f"ProximalAdamW: metric {metric!r}; allowed: 'adaptive', 'euclidean'")
        self.metric = metric
        # fused: one pass over memory, 5 times as fast as the loop over tensors on CPU.
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        penalty = param_group.setdefault("penalty", None)
        super().add_param_group(param_group)
        if penalty is None:
            return
        if not isinstance(penalty, Penalty):
            raise BadInput(f"ProximalAdamW: penalty {penalty!r}; allowed: None or a Penalty such as GroupLasso(1e-5)")
        for weight in self.param_groups[-1]["params"]:
            penalty.check(weight)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step from the gradients there are; `closure`, if given, computes them and the loss first."""
        loss: float | None = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and not _same_order(p.grad, p):
                    # torch 2.15's fused kernel on CPU pairs elements by their place in memory, whatever the strides.
                    p.grad = torch.empty_like(p).copy_(p.grad)
        super().step()
        for group in self.param_groups:
            penalty: Penalty | None = group["penalty"]
            weights = [p for p in group["params"] if p.grad is not None]
            if penalty is None or penalty.strength == 0 or not weights:
                continue
            metrics = [self._adam_metric(p, group) for p in weights] if self.metric == "adaptive" else None
            penalty.prox_(weights, float(group["lr"]), metrics)
        return loss

    def _adam_metric(self, weight: Tensor, group: dict[str, Any]) -> Tensor:
        """sqrt(v_hat) + eps, the diagonal by which Adam divides the gradient's mean."""
        state = self.state[weight]
        # In float64: torch counts steps in float32, whose 1 - 0.999 is off by 6e-5 of itself.
        bias_correction = 1 - group["betas"][1] ** state["step"].to(weight.device, torch.float64)
        return (state["exp_avg_sq"] / bias_correction).sqrt_().add_(group["eps"])

    def state_dict(self) -> dict[str, Any]:
        """As torch's, with each penalty as its strength alone: plain data, to be read back with weights_only=True."""
        state = super().state_dict()
        for group in state["param_groups"]:
            penalty = group.pop("penalty")
            group["strength"] = None if penalty is None else penalty.strength
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore moments, steps and strengths; the kinds of penalty are those this optimizer was made with."""
        penalties = [group["penalty"] for group in self.param_groups]
        super().load_state_dict(state_dict)
        for group, penalty in zip(self.param_groups, penalties, strict=True):
            strength = group.pop("strength")
            if (penalty is None) != (strength is None):
                raise BadInput("ProximalAdamW: the saved state has its penalties on other parameter groups")
            group["penalty"] = penalty
            if penalty is not None:
                penalty.strength = strength


def _same_order(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape have their elements in the same order in memory."""
    return all(size <= 1 or i == j for size, i, j in zip(a.shape, a.stride(), b.stride(), strict=True))
