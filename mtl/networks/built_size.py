"""How large a network is that no formula of ours knows: it is made on the meta device, where tensors take no memory."""

import functools
import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from mtl.config import Compressor, TrialSettings
from mtl.errors import BadInput
from mtl.networks import measurement
from mtl.networks.model import build_full
from mtl.own_code import own_code
from mtl.tasks import Task

MOST_MODULES = 10_000  # the deepest networks of timm's have some 3,000
# What the size of a network depends on, besides its tasks.
FIELDS = (
    *("backbone", "backbone_options", "output_stride", "model", "head", "head_channels", "head_rates", "image_size"),
    *("backbone_width", "backbone_layers"),
)
NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm)
# To count the smallest network, the network itself is made. Larger ones are only checked where they are trained.
MOST_PARAMETERS = 400_000_000
MOST_MACS = 10**12


class Size(NamedTuple):
    """activations: inputs of norms for one image, which a forward pass keeps at least. macs: of one image."""

    parameters: int
    activations: int
    macs: int


def size(settings: TrialSettings, tasks: Sequence[Task]) -> Size:
    """Of the whole network, whatever makes a trial's smaller. Raises BadInput where it cannot be made."""
    return _size(_Key(settings), tuple(tasks))


def smallest_macs(settings: TrialSettings, tasks: Sequence[Task], compressor: Compressor = "selection") -> int:
    """Multiply-accumulates with one channel left in each group of channels that the compressor takes; at least 1.

    1 too for a network that is too large to be made here only to be counted, and for a model without `heads`.
    """
    return _smallest_macs(_Key(settings), tuple(tasks), compressor.startswith("torch_pruning"))


def build_on_meta(settings: TrialSettings, tasks: Sequence[Task]) -> nn.Module:
    """The network without its numbers. Raises BadInput for one that cannot be made so, or has too many layers."""
    with torch.device("meta"), _few_modules(settings), torch.random.fork_rng(devices=[]):
        if settings.own_network:
            with own_code(
                f"{'model' if settings.model else 'backbone'} {settings.network}", "__init__ on torch's meta device"
            ):
                return build_full(settings, tasks)
        return build_full(settings, tasks)


def network_key(settings: TrialSettings) -> "_Key":
    """Equal where the networks of settings are; its `settings` make the network."""
    return _Key(settings)


class _Key:
    """Settings that are equal where the network is."""

    def __init__(self, settings: TrialSettings) -> None:
        self.settings = settings
        self._text = repr([getattr(settings, name) for name in FIELDS] + [getattr(settings, "network_version", "")])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


@functools.lru_cache(maxsize=256)
def _size(key: _Key, tasks: tuple[Task, ...]) -> Size:
    model = build_on_meta(key.settings, tasks)
    found: list[int] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0].numel()))
        for module in model.modules()
        if isinstance(module, NORMS)
    ]
    macs = measurement.count_macs(model, key.settings.image_size)
    for hook in hooks:
        hook.remove()
    return Size(measurement.count_parameters(model), sum(found), macs)


@functools.lru_cache(maxsize=256)
def _smallest_macs(key: _Key, tasks: tuple[Task, ...], pruned: bool) -> int:
    full = _size(key, tasks)
    if full.parameters > MOST_PARAMETERS or full.macs > MOST_MACS:
        return 1
    # Imported late: selection is above networks.
    from mtl.selection.compression import channel_groups
    from mtl.selection.pruned_once import leave_heads

    with torch.random.fork_rng(devices=[]):
        model: Any = build_full(key.settings, tasks)
    if not hasattr(model, "heads"):  # whose outputs stay is then not known
        return 1
    groups = channel_groups(model, key.settings.image_size)
    if pruned:
        leave_heads(groups)
    # As a share, since the groups may not count all that `count_macs` does.
    least = math.ceil(full.macs * groups.smallest_macs() / groups.macs())
    del model, groups
    gc.collect()
    return max(1, least)


@contextmanager
def _few_modules(settings: TrialSettings) -> Iterator[None]:
    """Raise BadInput before an absurd number of layers takes all memory."""
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1
        if count > MOST_MODULES:
            raise BadInput(
                f"{'model' if settings.model else 'backbone'} {settings.network}: has more than {MOST_MODULES:,} "
                "modules; allowed: fewer"
            )

    hook = register_module_module_registration_hook(note)
    try:
        yield
    finally:
        hook.remove()
