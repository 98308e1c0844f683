"""A network with fewer channels from the start, for any network: every group of channels keeps the same share.

Torch-Pruning's dependency graph (Fang et al. 2023, arXiv 2301.12900) finds the channels that go together, and takes
them out of the untrained network; what is left is then drawn anew, so that weights are as large as a network of these
widths has them.
"""

import copy
import functools
import importlib
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch_pruning as tp  # type: ignore[import-untyped]
from torch import nn

from mtl.config import TrialSettings
from mtl.errors import BadInput
from mtl.networks.attention import attention_parts, attentions
from mtl.networks.built_size import FIELDS, build_on_meta
from mtl.networks.dependency import mend_concatenations, output_layers
from mtl.networks.measurement import count_macs, evaluating
from mtl.networks.smaller import rounded_up
from mtl.own_code import first_line
from mtl.tasks import Task

SMALLEST_SHARE = 0.05  # of the channels; what a target may ask for at least costs about its square
NEAR = 0.01  # below the target, as a share of the full network's cost: near enough
MOST_TRIES = 10
FINEST_STEP = 1 / 256  # of the share: a smaller one changes no layer of at most that many channels


def make_narrow(model: nn.Module, settings: TrialSettings, tasks: Sequence[Task], target: float) -> None:
    """Have an untrained model be the widest whose multiply-accumulates are at most `target` of its own, and redraw it.

    It is drawn from torch's global generator. Raises BadInput where no such network is wide enough, and for a network
    that cannot be thinned.
    """
    share = _share(_Plan(settings, tuple(tasks)), target)
    thin(model, settings.image_size, share)
    draw_anew(model)


def narrowest_macs(settings: TrialSettings, tasks: Sequence[Task]) -> int:
    """What the network costs with `SMALLEST_SHARE` of its channels. Raises BadInput as `make_narrow` does."""
    return _smallest(_Plan(settings, tuple(tasks)))


@functools.lru_cache(maxsize=64)
def _smallest(plan: "_Plan") -> int:
    return plan.macs(SMALLEST_SHARE)


class _Plan:
    """A network at different widths, on the meta device."""

    def __init__(self, settings: TrialSettings, tasks: tuple[Task, ...]) -> None:
        self._settings, self._tasks = settings, tasks
        # Not what differs between the trials of one network.
        fields = settings.model_dump(include={*FIELDS, "backbone_options"})
        self._text = repr((fields, getattr(settings, "network_version", ""), tasks))

    @functools.cached_property
    def _full(self) -> nn.Module:
        return build_on_meta(self._settings, self._tasks)

    @functools.cached_property
    def full_macs(self) -> int:
        return count_macs(self._full, self._settings.image_size)

    def macs(self, share: float) -> int:
        model = copy.deepcopy(self._full)
        thin(model, self._settings.image_size, share)
        return count_macs(model, self._settings.image_size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Plan) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@functools.lru_cache(maxsize=64)
def _share(plan: _Plan, target: float) -> float:
    """The share of the channels whose network costs just less than the target. Costs rise with the share."""
    low, high = (0.0, 0.0), (1.0, 1.0)  # shares and their costs
    share = target**0.5  # as both what a layer reads and what it writes become fewer
    for _ in range(MOST_TRIES):
        found = plan.macs(max(share, SMALLEST_SHARE)) / plan.full_macs
        if found <= target:
            low = (share, found)
        elif share <= SMALLEST_SHARE:
            raise BadInput(f"target_macs = {target:g}; allowed with narrow: {rounded_up(found):g} or more")
        else:
            high = (share, found)
        if low[0] and (target - low[1] < NEAR or high[0] - low[0] < FINEST_STEP):
            break
        # Between the two the cost is nearly a line; a step short of what is wanted ends above it half of the time.
        share = low[0] + (high[0] - low[0]) * (target - NEAR / 2 - low[1]) / (high[1] - low[1])
        share = min(max(share, SMALLEST_SHARE), 1.0)
    if not low[0]:
        raise BadInput(f"target_macs = {target:g} with narrow; allowed: another target, or another network")
    return low[0]


def thin(model: nn.Module, image_size: tuple[int, int], share: float) -> None:
    """Leave this share of the channels of each group, at least one of each; what the model gives stays.

    Heads of an attention stay as many, each with fewer channels. Raises BadInput for a network that Torch-Pruning does
    not know how to thin.
    """
    device = next(model.parameters()).device
    images = torch.zeros(1, 3, *image_size, device=device)
    known = {name for name, parts in attentions(model) if _qkv(model.get_submodule(name)) is not None}
    for name, module in model.named_modules():
        if name not in known and (isinstance(module, nn.MultiheadAttention) or "Attention" in type(module).__name__):
            raise BadInput(f"compressor narrow: {name} is a {type(module).__name__}, which cannot be made narrower; "
                           "allowed: other compressors")  # fmt: skip
    heads = {_qkv(model.get_submodule(name)): parts.heads for name, parts in attentions(model)}
    modes = {module: module.training for module in model.modules()}
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")  # about parameters that belong to no layer, whose last dimension is thinned
            model.eval()
            pruner = tp.pruner.BasePruner(model, images, importance=_First(), pruning_ratio=1 - share, num_heads=heads)
            mend_concatenations(pruner.DG)
            pruner.ignored_layers += output_layers(pruner.DG)
            pruner.step()
            _tell_attentions(model, known)
        with evaluating(model):
            model(images)
    # Torch-Pruning raises errors of every kind for what it does not know, and so does a network that it has broken.
    except Exception as error:
        raise BadInput(
            f"compressor narrow: the network cannot be made narrower ({type(error).__name__}: {first_line(error)}); "
            "allowed: other compressors"
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode


class _First(tp.importance.Importance):
    """Keeps the first channels of each group, as all are alike in a network that has learnt nothing."""

    def __call__(self, group: Any, **_: Any) -> torch.Tensor:
        return torch.arange(len(group[0].idxs), 0, -1, dtype=torch.float32, device="cpu")


def draw_anew(model: nn.Module) -> None:
    """New weights by the modules' own rules: torch's of each layer, and then those of the whole network's.

    A network of the user's own that draws its weights otherwise says so by a method `init_weights()`.
    """
    for module in model.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset) and not isinstance(module, nn.MultiheadAttention):
            reset()
    for module in model.modules():
        if callable(own := getattr(module, "init_weights", None)):
            own()
        elif type(module).__module__.startswith("timm.models."):
            _as_timm(module)


def _as_timm(network: nn.Module) -> None:
    """By the rule of the file of timm's that defines a network, where the network has no method for it."""
    from timm.models import named_apply

    rules = importlib.import_module(type(network).__module__)
    if not hasattr(network, "feature_info"):  # a part of one
        return
    if (whole := getattr(rules, "efficientnet_init_weights", None)) is not None:
        whole(network)
    elif (one := getattr(rules, "_init_weights", None)) is not None:
        named_apply(one, network)


def _qkv(attention: nn.Module) -> nn.Module | None:
    found = getattr(attention, "qkv", None)
    return found if isinstance(found, nn.Linear) and attention_parts(attention) is not None else None


def _tell_attentions(model: nn.Module, names: Iterable[str]) -> None:
    """Have timm's attentions know how large their heads are now."""
    for name in names:
        attention: Any = model.get_submodule(name)
        attention.head_dim = attention.qkv.out_features // (3 * attention.num_heads)
        attention.scale = attention.head_dim**-0.5
        if hasattr(attention, "attn_dim"):
            attention.attn_dim = attention.num_heads * attention.head_dim
