"""Multiply-accumulates of one image, as products of the channels that layers have left."""

import math
from collections import Counter
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mtl.networks.attention import attentions
from mtl.networks.measurement import evaluating
from mtl.selection.members import Layer, Side, channels, in_groups

Key = tuple[nn.Module, Side]


class Term(NamedTuple):
    """`factor` times the number of channels of each key."""

    factor: int
    keys: tuple[Key, ...]


def cost_terms(model: nn.Module, images: Tensor) -> tuple[list[Term], int]:
    """Those of convolutions, linear layers and attention's heads, and what all other matrix products cost.

    images: (1, 3, H, W) on the model's device.
    """
    pixels: Counter[nn.Module] = Counter()
    tokens: dict[nn.Module, int] = {}

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        written = (isinstance(layer, nn.Linear) and layer.out_features) or output.shape[1]
        # What a transposed convolution multiplies with its kernel are the pixels that it reads.
        transposed = isinstance(layer, nn.ConvTranspose2d)
        pixels[layer] += inputs[0].numel() // inputs[0].shape[1] if transposed else output.numel() // written
        if isinstance(layer, nn.Linear) and output.ndim == 3:
            tokens[layer] = output.shape[1]

    hooks = [layer.register_forward_hook(note) for layer in model.modules() if isinstance(layer, Layer)]
    counter = FlopCounterMode(display=False)
    try:
        # So that the products of an attention are counted on any device.
        with evaluating(model), sdpa_kernel(SDPBackend.MATH), counter:
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    terms = []
    for layer, count in pixels.items():
        factor = count * (math.prod(layer.kernel_size) if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) else 1)
        if in_groups(layer):
            terms.append(Term(factor * (layer.in_channels // layer.groups), ((layer, "out"),)))
        else:
            terms.append(Term(factor, ((layer, "out"), (layer, "in"))))
    modules = {id(module.weight): module for module in model.modules() if isinstance(module, nn.Linear)}
    for _, parts in attentions(model):
        qkv = modules.get(id(parts.qkv_weight))
        # Scores and weighted values: each token with each, for all inputs of the projection.
        if qkv in tokens and (windows := pixels[qkv] * tokens[qkv]):
            terms.append(Term(2 * windows, ((parts.projection, "in"),)))
    whole = sum(term.factor * math.prod(_count(key) for key in term.keys) for term in terms)
    return terms, max(0, counter.get_total_flops() // 2 - whole)


def _count(key: Key) -> int:
    layer, side = key
    return channels(layer)[int(side == "in")]


def channel_counts(terms: list[Term]) -> dict[Key, int]:
    """How many channels the layers of the terms have."""
    return {key: _count(key) for term in terms for key in term.keys}
