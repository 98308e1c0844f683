"""Penalties on weights: each has its value, its proximal step, and the distance of weights from a stationary point.

`strength` is the paper's lambda, an attribute that may be changed between optimizer steps: a number, or a 0-d tensor on
the weights' device, which a CUDA graph reads at each replay. The methods take lists of weights, so that small layers
are handled together, and the layout of each (see `mtl.proximal.groups`); without layouts all are plain.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

import torch
from torch import Tensor

from mtl.errors import BadInput
from mtl.proximal import triton_kernel
from mtl.proximal.blocks import AdamMetric, apply_in_blocks_, on_device
from mtl.proximal.groups import (
    GROUP_KINDS,
    PLAIN,
    GroupKind,
    Layout,
    as_layouts,
    check_groupable,
    dense,
    group_size,
    group_view,
    like,
)
from mtl.proximal.kernel import group_prox_
from mtl.proximal.prox import (
    group_firm_threshold,
    group_norm,
    group_soft_threshold,
    soft_threshold,
    spread,
    weighted_group_firm_threshold,
    weighted_group_soft_threshold,
)

HALVINGS = 60  # of an interval, to the rounding of a float


class Penalty(ABC):
    """strength * Omega(weights), with Omega the sum over the weights given."""

    groups: GroupKind = "elements"

    def __init__(self, strength: float) -> None:
        if not (isfinite(strength) and strength >= 0):
            raise BadInput(f"{type(self).__name__}: strength {strength!r}; allowed: a finite number >= 0")
        self.strength: float | Tensor = float(strength)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(strength={float(self.strength):g})"

    @property
    def is_off(self) -> bool:
        """Whether the strength is known to be 0; one on a device is not looked at, as that would stop the device."""
        return not isinstance(self.strength, Tensor) and self.strength == 0

    @property
    def kind(self) -> Hashable | None:
        """Equal for penalties that differ in their strengths alone, for `prox_each_`; None for a user's own."""
        if type(self).__module__ != __name__:
            return None
        return type(self), *((name, value) for name, value in sorted(vars(self).items()) if name != "strength")

    def check(self, weight: Tensor, name: str, layout: Layout = PLAIN) -> None:
        """Raise BadInput, with the parameter's name, for a weight that this penalty cannot be put on."""
        check_groupable(weight, self.groups, name, layout)

    def value(self, weights: Iterable[Tensor], layouts: Sequence[Layout] | None = None) -> Tensor:
        """The penalty, a scalar tensor, strength included; 0 for no weights."""
        weights = list(weights)
        pairs = zip(weights, as_layouts(layouts, len(weights)), strict=True)
        terms = [self._value(group_view(w, self.groups, layout)) for w, layout in pairs if w.numel()]
        return torch.stack(terms).sum() if terms else torch.zeros(())

    def violation(
        self, weights: Iterable[Tensor], gradients: Iterable[Tensor], layouts: Sequence[Layout] | None = None
    ) -> Tensor:
        """How far weights are from a stationary point of loss + penalty, a scalar tensor: 0 there and only there.

        The largest distance, over all groups, between the negative gradient of the loss and the penalty's
        subdifferential (its limiting one, for the MCP) in the Euclidean norm; in the unit of the gradients.
        """
        weights = list(weights)
        triples = zip(weights, gradients, as_layouts(layouts, len(weights)), strict=True)
        distances = [
            self._distance(group_view(w, self.groups, o), group_view(like(g, dense(w)), self.groups, o)).amax()
            for w, g, o in triples
            if w.numel()
        ]
        return torch.stack(distances).amax() if distances else torch.zeros(())

    def prox_(
        self,
        weights: Sequence[Tensor],
        step_size: Tensor | float,
        metrics: Sequence[AdamMetric] | None,
        layouts: Sequence[Layout] | None = None,
    ) -> None:
        """Replace each weight x by argmin_z 1/2 ||z - x||^2_D + step_size * penalty(z), in place.

        metrics: D for each weight, or None for the Euclidean metric. On CUDA nothing is read back by the host.
        """
        if not self.is_off:

            def operator(x: Tensor, d: Tensor | None, size: int) -> Tensor:
                return self._prox(x, d, size, step_size, self.strength)

            apply_in_blocks_(weights, metrics, self.groups, operator, layouts)

    def prox_each_(
        self,
        weights: Sequence[Tensor],
        step_sizes: Tensor,
        strengths: Tensor,
        metrics: Sequence[AdamMetric] | None,
        layouts: Sequence[Layout] | None = None,
    ) -> None:
        """As `prox_`, with a step size and a strength of its own for each of n weights, in place of this penalty's.

        step_sizes, strengths: (n,) float64, on the weights' device.
        """

        def operator(x: Tensor, d: Tensor | None, size: int, step_size: Tensor, strength: Tensor) -> Tensor:
            return self._prox(x, d, size, step_size, strength)

        apply_in_blocks_(weights, metrics, self.groups, operator, layouts, (step_sizes, strengths))

    def vanishing(
        self,
        weights: Sequence[Tensor],
        step_size: Tensor | float,
        metrics: Sequence[AdamMetric] | None,
        layouts: Sequence[Layout] | None = None,
    ) -> list[Tensor]:
        """For each weight (groups,): the smallest strength at which `prox_` makes each of its groups zero.

        It does not depend on this penalty's own strength. Up to rounding; 0 for a group that is zero.
        """
        values, layouts = [], as_layouts(layouts, len(weights))
        for index, weight in enumerate(map(dense, weights)):
            x = group_view(weight, self.groups, layouts[index])
            d = None
            if metrics:
                moment = group_view(like(metrics[index].second_moment, weight), self.groups, layouts[index])
                d = metrics[index].diagonal(moment)
            size = x.shape[0] * x.shape[2]
            values.append(self._vanishing(x, d, size, step_size) if x.numel() else x.new_zeros(x.shape[1]))
        return values

    def lambda_max(
        self,
        weights: Sequence[Tensor],
        step_size: Tensor | float,
        metrics: Sequence[AdamMetric] | None,
        layouts: Sequence[Layout] | None = None,
    ) -> float:
        """The smallest strength at which one proximal step from these weights makes all of them zero.

        For least squares it is usually the strength at which w = 0 is stationary, the largest norm of a group's
        gradient there (Simon et al. 2013, section 2.1; sklearn's alpha_max). A deep network has no gradient at w = 0,
        whatever the data: this is the other end of the same condition, with D w / step_size in place of the gradient.
        """
        vanishing = self.vanishing(weights, step_size, metrics, layouts)
        return max((float(value.max()) for value in vanishing if len(value)), default=0.0)

    @abstractmethod
    def _vanishing(self, x: Tensor, d: Tensor | None, size: int, step_size: Tensor | float) -> Tensor:
        """(outer, groups, inner) -> (groups,): what `vanishing` gives."""

    @abstractmethod
    def _value(self, x: Tensor) -> Tensor:
        """The penalty on one weight as (outer, groups, inner)."""

    @abstractmethod
    def _distance(self, x: Tensor, gradient: Tensor) -> Tensor:
        """(outer, groups, inner) twice -> (groups,): what `violation` takes the largest of."""

    @abstractmethod
    def _prox(
        self, x: Tensor, d: Tensor | None, size: int, step_size: Tensor | float, strength: Tensor | float
    ) -> Tensor:
        """The proximal operator on groups of `size` elements, x and d of shape (outer, groups, inner).

        step_size, strength: a number or 0-d tensor, or one for each group, (groups,).
        """


class L1(Penalty):
    """`strength * sum_j |w_j|`: unstructured sparsity, the paper's table 3."""

    def _value(self, x: Tensor) -> Tensor:
        return self.strength * x.abs().sum()

    def _distance(self, x: Tensor, gradient: Tensor) -> Tensor:
        return _l1_residual(x, gradient, self.strength).abs().flatten()

    def _prox(
        self, x: Tensor, d: Tensor | None, size: int, step_size: Tensor | float, strength: Tensor | float
    ) -> Tensor:
        threshold = _over(step_size * strength, x)
        return soft_threshold(x, threshold if d is None else threshold / d)

    def _vanishing(self, x: Tensor, d: Tensor | None, size: int, step_size: Tensor | float) -> Tensor:
        return (_scaled(x, d).abs() / step_size).flatten()


@dataclass(frozen=True)
class _Given:
    """What a proximal step is given: weights, and the metric, if any, and the layout of each."""

    weights: Sequence[Tensor]
    metrics: Sequence[AdamMetric] | None
    layouts: Sequence[Layout]

    def chosen(self, indices: Sequence[int]) -> "_Given":
        if len(indices) == len(self.weights):
            return self
        metrics = self.metrics and [self.metrics[i] for i in indices]
        return _Given([self.weights[i] for i in indices], metrics, [self.layouts[i] for i in indices])


class _GroupPenalty(Penalty):
    """A penalty on the norms of groups of weights, of a kind and of weights as `mtl.proximal.groups` says."""

    def __init__(self, strength: float, groups: GroupKind = "input_channels") -> None:
        super().__init__(strength)
        if groups not in GROUP_KINDS:
            raise BadInput(f"{type(self).__name__}: groups {groups!r}; allowed: {', '.join(GROUP_KINDS)}")
        self.groups = groups

    def prox_(
        self,
        weights: Sequence[Tensor],
        step_size: Tensor | float,
        metrics: Sequence[AdamMetric] | None,
        layouts: Sequence[Layout] | None = None,
    ) -> None:
        if self.is_off:
            return
        given = _Given(weights, metrics, as_layouts(layouts, len(weights)))
        given = given.chosen(self._by_kernel_(given, step_size * self.strength))
        super().prox_(given.weights, step_size, given.metrics, given.layouts)

    def prox_each_(
        self,
        weights: Sequence[Tensor],
        step_sizes: Tensor,
        strengths: Tensor,
        metrics: Sequence[AdamMetric] | None,
        layouts: Sequence[Layout] | None = None,
    ) -> None:
        given = _Given(weights, metrics, as_layouts(layouts, len(weights)))
        left = self._by_kernel_(given, step_sizes * strengths)
        step_sizes, strengths = (_chosen(values, left) for values in (step_sizes, strengths))
        given = given.chosen(left)
        super().prox_each_(given.weights, step_sizes, strengths, given.metrics, given.layouts)

    def _by_kernel_(self, given: "_Given", step_strength: Tensor | float) -> list[int]:
        """The proximal steps that a kernel takes; the weights that are left, here all.

        step_strength: step size times strength; if 1-d, one for each weight.
        """
        return list(range(len(given.weights)))

    def _on_device_(self, given: "_Given", step_strength: Tensor | float, element_share: float) -> list[int]:
        """The proximal step of the (sparse) group lasso where there is a kernel for CUDA; the weights that are left."""
        if not given.weights or not triton_kernel.serves(given.weights[0].device):
            return list(range(len(given.weights)))
        return triton_kernel.group_prox_(
            given.weights, step_strength, element_share, given.metrics, self.groups, given.layouts
        )


class GroupLasso(_GroupPenalty):
    """strength * sum_g sqrt(n_g) ||w_g||_2, n_g the group's size (Yuan & Lin 2006; arXiv 2308.12114, eq. 3).

    A weight (F, C, h, w) alone is taken for that of a plain convolution. Those of grouped, depthwise and transposed
    convolutions look the same, but their W[:, c] is not input channel c: give their `Layout` with them, as
    `mtl.optimizer.penalised_parameters` does for a whole model.
    """

    def _value(self, x: Tensor) -> Tensor:
        return self.strength * _root_size(x) * group_norm(x).sum()

    def _distance(self, x: Tensor, gradient: Tensor) -> Tensor:
        return _group_residual(x, gradient, self.strength * _root_size(x))

    def _by_kernel_(self, given: "_Given", step_strength: Tensor | float) -> list[int]:
        """The steps that a kernel takes, on CUDA or on CPU; the weights that are left."""
        left = self._on_device_(given, step_strength, 0.0)
        rest = given.chosen(left)
        if not all(w.device.type == "cpu" for w in rest.weights):
            return left
        if isinstance(step_strength, Tensor) and step_strength.ndim:
            thresholds = [step_strength.tolist()[i] for i in left]
        else:
            thresholds = [float(step_strength)] * len(left)
        thresholds = [
            threshold * sqrt(group_size(w, self.groups, layout)) if w.numel() else 0.0
            for threshold, w, layout in zip(thresholds, rest.weights, rest.layouts, strict=True)
        ]
        return [left[i] for i in group_prox_(rest.weights, thresholds, rest.metrics, self.groups, rest.layouts)]

    def _prox(
        self, x: Tensor, d: Tensor | None, size: int, step_size: Tensor | float, strength: Tensor | float
    ) -> Tensor:
        threshold = step_size * strength * sqrt(size)
        return group_soft_threshold(x, threshold) if d is None else weighted_group_soft_threshold(x, d, threshold)

    def _vanishing(self, x: Tensor, d: Tensor | None, size: int, step_size: Tensor | float) -> Tensor:
        return group_norm(_scaled(x, d)) / (step_size * sqrt(size))


class SparseGroupLasso(_GroupPenalty):
    """strength * ((1 - element_share) sum_g sqrt(n_g) ||w_g||_2 + element_share ||w||_1) (Simon et al. 2013).

    Its prox, in any diagonal metric D, is the soft threshold y of x followed by the group soft threshold z of y. For
    z_g != 0 the conditions D (y - x) + a s = 0, s in d||y||_1, and D (z - y) + b z / ||z|| = 0 add up to the condition
    of the sum: z has y's signs and zeros, so that s is in d||z||_1 too. For z_g = 0 the same holds with a vector of
    norm at most 1 in place of z / ||z||, as d||0||_1 holds every such s.
    """

    def __init__(self, strength: float, groups: GroupKind = "input_channels", element_share: float = 0.5) -> None:
        super().__init__(strength, groups)
        if not 0 <= element_share <= 1:
            raise BadInput(f"SparseGroupLasso: element_share {element_share!r}; allowed: 0 to 1")
        self.element_share = element_share

    def _value(self, x: Tensor) -> Tensor:
        elements, group = self._strengths(_root_size(x))
        return elements * x.abs().sum() + group * group_norm(x).sum()

    def _distance(self, x: Tensor, gradient: Tensor) -> Tensor:
        elements, group = self._strengths(_root_size(x))
        return _group_residual(x, _l1_residual(x, gradient, elements), group)

    def _by_kernel_(self, given: "_Given", step_strength: Tensor | float) -> list[int]:
        """The steps that the kernel for CUDA takes; the weights that are left."""
        return self._on_device_(given, step_strength, self.element_share)

    def _prox(
        self, x: Tensor, d: Tensor | None, size: int, step_size: Tensor | float, strength: Tensor | float
    ) -> Tensor:
        elements = _over(step_size * (strength * self.element_share), x)
        group = strength * (1 - self.element_share) * (step_size * sqrt(size))
        if d is None:
            return group_soft_threshold(soft_threshold(x, elements), group)
        return weighted_group_soft_threshold(soft_threshold(x, elements / d), d, group)

    def _vanishing(self, x: Tensor, d: Tensor | None, size: int, step_size: Tensor | float) -> Tensor:
        """The root of ||soft_threshold(d x, a s)|| = b s, whose sides fall and rise with s, by halving (a < 1) or
        directly: it is at least that of the L1 alone where b = 0, and at most both ||d x|| / b and max |d x| / a."""
        y = _scaled(x, d).abs() / step_size
        root = sqrt(size)
        low, high = torch.zeros_like(group_norm(y)), y.amax(dim=(0, 2)) / max(self.element_share, 1e-30)
        high = torch.minimum(high, group_norm(y) / max((1 - self.element_share) * root, 1e-30))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            rest = (y - spread(middle * self.element_share, y)).clamp(min=0)
            gone = group_norm(rest) <= middle * (1 - self.element_share) * root
            low, high = torch.where(gone, low, middle), torch.where(gone, middle, high)
        return high

    def _strengths(self, scale: Tensor | float) -> tuple[Tensor | float, Tensor | float]:
        """That of single weights, and that of groups times `scale`."""
        return self.strength * self.element_share, self.strength * (1 - self.element_share) * scale


class GroupMCP(_GroupPenalty):
    """sum_g mcp(||w_g||_2) (Breheny & Huang 2009), mcp(t) = s t - t^2 / (2 gamma) up to t = gamma s, constant beyond.

    s = strength * sqrt(n_g). For gamma -> infinity it is the group lasso; groups beyond gamma s are not shrunk.
    gamma > 1. The prox is exact also where its problem is not convex: see `weighted_group_firm_threshold`.
    """

    def __init__(self, strength: float, groups: GroupKind = "input_channels", gamma: float = 3.0) -> None:
        super().__init__(strength, groups)
        if not gamma > 1:
            raise BadInput(f"GroupMCP: gamma {gamma!r}; allowed: a number > 1")
        self.gamma = gamma

    def _value(self, x: Tensor) -> Tensor:
        strength = self.strength * _root_size(x)
        norm = group_norm(x).clamp(max=self.gamma * strength)
        return (strength * norm - norm.square() / (2 * self.gamma)).sum()

    def _distance(self, x: Tensor, gradient: Tensor) -> Tensor:
        return _group_residual(x, gradient, (self.strength * _root_size(x) - group_norm(x) / self.gamma).clamp(min=0))

    def _prox(
        self, x: Tensor, d: Tensor | None, size: int, step_size: Tensor | float, strength: Tensor | float
    ) -> Tensor:
        strength = strength * sqrt(size)
        if d is None:
            return group_firm_threshold(x, step_size, strength, self.gamma)
        return weighted_group_firm_threshold(x, d, step_size, strength, self.gamma)

    def _vanishing(self, x: Tensor, d: Tensor | None, size: int, step_size: Tensor | float) -> Tensor:
        """As `weighted_group_firm_threshold` has it: 0 is a minimum from ||d x|| on, and better than x itself where
        that is within reach, or costs more than the whole distance."""
        distance = group_norm(x if d is None else d.sqrt() * x) * (self.gamma / step_size) ** 0.5
        beyond = torch.minimum(group_norm(x), distance) / self.gamma
        return torch.maximum(group_norm(_scaled(x, d)) / step_size, beyond) / sqrt(size)


PENALTIES: dict[str, type[Penalty]] = {"group_lasso": GroupLasso, "group_mcp": GroupMCP, "l1": L1}


def _over(value: Tensor | float, x: Tensor) -> Tensor | float:
    """One for each group, (groups,), so that it broadcasts over x; a number for all of them as it is."""
    return spread(value, x) if isinstance(value, Tensor) and value.ndim else value


def _chosen(values: Tensor, indices: Sequence[int]) -> Tensor:
    """(n,) -> (indices,), without waiting for their device."""
    return values if len(indices) == len(values) else values[on_device(torch.tensor(indices).long(), values.device)]


def _scaled(x: Tensor, d: Tensor | None) -> Tensor:
    return x if d is None else d * x


def _root_size(x: Tensor) -> float:
    return sqrt(x.shape[0] * x.shape[2])


def _l1_residual(x: Tensor, gradient: Tensor, strength: Tensor | float) -> Tensor:
    """The smallest element of gradient + strength * d|x|, elementwise."""
    return torch.where(x == 0, soft_threshold(gradient, strength), gradient + strength * x.sign())


def _group_residual(x: Tensor, gradient: Tensor, strength: Tensor | float) -> Tensor:
    """The norm of the smallest element of gradient + strength * d||x||, for each group."""
    norm = group_norm(x)
    at_zero = (group_norm(gradient) - strength).clamp(min=0)
    direction = x / spread(torch.where(norm == 0, 1, norm), x)
    return torch.where(norm == 0, at_zero, group_norm(gradient + _over(strength, x) * direction))
