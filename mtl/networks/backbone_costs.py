"""The costs of a trial's backbone without its zero channels."""

import torch
from torch import nn

from mtl.compaction import compact
from mtl.networks.measurement import count_macs, count_parameters, measure_latency

LATENCY_SECONDS = 1.0


def backbone_costs(backbone: nn.Module, image_size: tuple[int, int], *, latency: bool = False) -> dict[str, float]:
    """`macs` and `active_parameters` of the compacted backbone; with `latency`, `latency_ms` too.

    macs: multiply-accumulates of one (height, width) image. active_parameters: weights and biases. Both are for the
    smallest network, and so the same on every machine. latency_ms: the median for one image, on the backbone's device,
    of the network that is fastest there, which may keep some superfluous weights.
    """
    device = next(backbone.parameters()).device
    images = torch.zeros(1, 3, *image_size, device=device)
    smallest = compact(backbone, images, selections="always", memory_format="channels_last")
    costs: dict[str, float] = {
        "macs": count_macs(smallest, image_size),
        "active_parameters": count_parameters(smallest),
    }
    if latency:
        (measured,) = measure_latency([compact(backbone, images)], images, LATENCY_SECONDS)
        costs["latency_ms"] = measured.median_ms
    return costs
