"""Train, prune, train on: what a user of Torch-Pruning does (Fang et al. 2023, arXiv 2301.12900).

Its own pruner chooses the channels, as in its examples: in small steps that measure each channel's importance anew.
Only what is done with the choice is ours, so that checkpoints, costs and compaction are those of every other trial. Of
its settings those are taken that gave the better models on `rooms`.
"""

import bisect
import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
import torch_pruning as tp  # type: ignore[import-untyped]
from torch import Tensor, nn

from mtl.errors import BadInput
from mtl.networks.dependency import mend_concatenations
from mtl.networks.measurement import evaluating
from mtl.networks.model import MultiTaskModel
from mtl.selection.groups import ChannelGroups, check_target
from mtl.selection.members import Layer, in_groups

Criterion = Literal["norm", "taylor"]

# Of all channels, that go between two measurements of their importance.
SHARE_A_STEP = 0.02
# The coefficient of the sparse training's regularizer.
REGULARIZATION = 1e-4


def leave_heads(groups: ChannelGroups) -> None:
    """Have attention heads stay, as Torch-Pruning knows no heads by their cost.

    Raises BadInput for a convolution with groups, from whose groups it takes single channels.
    """
    for group in groups.groups:
        for member in group.members:
            if in_groups(member.module) and member.module.groups != member.module.out_channels:
                raise BadInput(
                    f"layer {member.name}: a convolution with groups = {member.module.groups}; allowed with "
                    "Torch-Pruning's pruners: groups = 1, or as many as channels"
                )
    groups.leave_out([i for i, group in enumerate(groups.groups) if group.heads], "heads, which this takes no part of")


class PrunedOnce:
    """Prunes a network at one step of its training, to a share of its multiply-accumulates.

    The importance of a channel is

        norm      the sum of squares of all weights that write or read it, relative to the largest of its group
                  (GroupMagnitudeImportance), ranked over all layers; before the step GroupNormPruner's regularizer
                  makes weak channels weaker
        taylor    |weight x gradient|, summed over the same weights, with the sum of the gradients of the `watched`
                  steps before the pruning (GroupTaylorImportance); each layer loses the same share of its channels,
                  because a ranking over all layers leaves some a single one, and a task behind it is lost
    """

    def __init__(
        self,
        model: MultiTaskModel,
        groups: ChannelGroups,
        image_size: tuple[int, int],
        criterion: Criterion,
        target: float,
        step: int,
        watched: int,
    ) -> None:
        """groups: the model's; attention heads all stay.

        Raises BadInput as `leave_heads` does, and where the target is less than what one channel in each of the other
        groups costs.
        """
        leave_heads(groups)
        check_target(groups, target)
        self._model, self.groups, self._image_size = model, groups, image_size
        self._criterion, self._macs, self._watched = criterion, target * groups.macs(), watched
        self.last_step, self._step = step, 0
        self._gradients: dict[str, Tensor] = {}
        self._regularizer = make_regularizer(model, groups, image_size) if criterion == "norm" else None

    def observe(self) -> None:
        """Look at a step's gradients, or add to them."""
        if self._step >= self.last_step:
            return
        if self._regularizer is not None:
            self._regularizer.regularize(self._model)
        elif self._step >= self.last_step - self._watched:
            for name, parameter in self._model.named_parameters():
                if parameter.grad is not None:
                    self._gradients[name] = parameter.grad + self._gradients.get(name, 0)

    def apply(self) -> None:
        """After the optimizer's step: prune if it is time to, and keep at zero what was removed."""
        self._step += 1
        if self._step == self.last_step:
            gradients = self._gradients if self._criterion == "taylor" else None
            prune(self._model, self.groups, self._image_size, self._macs, gradients)
            self._gradients = {}
        self.groups.clear()

    def removed(self, stayed: Sequence[Tensor]) -> None:
        """Nothing is known by channel once the network has been pruned."""

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step, "gradients": self._gradients}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step = state["step"]
        device = _images(self._model, self._image_size).device
        self._gradients = {name: gradient.to(device) for name, gradient in state["gradients"].items()}


def make_regularizer(model: MultiTaskModel, groups: ChannelGroups, image_size: tuple[int, int]) -> Any:
    """Torch-Pruning's sparse training: `regularize(model)` adds to the gradients."""
    pruner = _pruner(tp.pruner.GroupNormPruner, model, groups, image_size, group_norms(), reg=REGULARIZATION)
    # It divides by the range of a group's norms, which is 0 for a single channel.
    pruner._groups = [group for group in pruner._groups if len(group[0].idxs) > 1]
    return pruner


def group_norms() -> Any:
    return tp.importance.GroupMagnitudeImportance(normalizer="max")


def prune(
    model: MultiTaskModel,
    groups: ChannelGroups,
    image_size: tuple[int, int],
    macs: float,
    gradients: Mapping[str, Tensor] | None = None,
) -> None:
    """Remove from `groups`, the model's, what Torch-Pruning removes until at most `macs` are left.

    With one channel less than it removes, more are left. The model stays as it is.

    gradients: by the names of the parameters, for Taylor's importance; None for group norms.
    """
    copied = copy.deepcopy(model)
    if gradients is not None:
        for name, parameter in copied.named_parameters():
            parameter.grad = gradients[name].clone() if name in gradients else torch.zeros_like(parameter)
    importance = group_norms() if gradients is None else tp.importance.GroupTaylorImportance()
    modules = dict(copied.named_modules())
    roots = {modules[group.members[0].name]: number for number, group in enumerate(groups.groups)}
    # Where the last of the larger steps would remove a layer whole, the pruner leaves it; single channels still go.
    for share in (SHARE_A_STEP, 0):
        total = sum(int(alive.sum()) for alive in groups.alive)
        ranked = {"global_pruning": gradients is None, "pruning_ratio": 1.0, "iterative_steps": total}
        pruner = _pruner(tp.pruner.BasePruner, copied, groups, image_size, importance, **ranked)
        _prune_with(pruner, roots, groups, macs, max(1, round(share * total)))


def _pruner(
    kind: Any,
    model: MultiTaskModel,
    groups: ChannelGroups,
    image_size: tuple[int, int],
    importance: Any,
    **settings: Any,
) -> Any:
    """One of Torch-Pruning's; what is in none of the groups stays, as what the model's heads give."""
    written = {member.name for group in groups.groups for member in group.members if member.kind == "out"}
    stays = [module for name, module in model.named_modules() if isinstance(module, Layer) and name not in written]
    with evaluating(model), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of parameters outside of layers, whose channels are in none of the groups
        pruner = kind(model, _images(model, image_size), importance, ignored_layers=stays, **settings)
    mend_concatenations(pruner.DG)
    return pruner


def _images(model: nn.Module, image_size: tuple[int, int]) -> Tensor:
    return torch.zeros(1, 3, *image_size, device=next(model.parameters()).device)


def _prune_with(pruner: Any, roots: Mapping[nn.Module, int], groups: ChannelGroups, macs: float, most: int) -> None:
    """Let a pruner whose nth step leaves n channels fewer take `most` steps at once, until at most `macs` are left."""

    def fits(step: int) -> bool:
        """Whether at most so many would be left after that step; nothing is removed."""
        before = [alive.clone() for alive in groups.alive]
        pruner.current_step = step - 1
        for part in pruner.step(interactive=True):
            _remove(part, roots, groups)
        left = groups.macs()
        groups.keep(before)
        return left <= macs

    done = 0
    while done < pruner.iterative_steps and groups.macs() > macs:
        steps = range(done + 1, min(done + most, pruner.iterative_steps) + 1)
        last = bisect.bisect_left(steps, True, key=fits) if fits(steps[-1]) else -1
        pruner.current_step = steps[last] - 1
        for part in pruner.step(interactive=True):
            _remove(part, roots, groups)
            part.prune()
        done = steps[last]


def _remove(part: Any, roots: Mapping[nn.Module, int], groups: ChannelGroups) -> None:
    """Remove from `groups` the channels of one of Torch-Pruning's groups, which numbers those that are left."""
    number = roots[part[0].dep.target.module]
    left = groups.alive[number].nonzero()[:, 0]
    for channel in left[part[0].idxs].tolist():
        groups.remove(number, channel)
