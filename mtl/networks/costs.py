"""The costs of a trial's model without its zero channels."""

import torch
from torch import nn

from mtl.compaction import compact
from mtl.networks.measurement import count_macs, count_parameters, measure_latency

LATENCY_SECONDS = 1.0


def model_costs(model: nn.Module, image_size: tuple[int, int], *, latency: bool = False) -> dict[str, float]:
    """Columns of the results: `model_macs` and `model_parameters` of the whole compacted model, heads included; `macs`
    and `active_parameters` of its compacted backbone alone; with `latency`, `model_latency_ms` and `latency_ms` too.

    macs: multiply-accumulates of one (height, width) image. parameters: weights and biases. They are those of the
    smallest network, and so the same on every machine. Latencies, in milliseconds: the median for one image, on the
    model's device, of the network that is fastest there, which may keep some superfluous weights.
    """
    images = torch.zeros(1, 3, *image_size, device=next(model.parameters()).device)
    # A model of the user's own without a backbone counts as a whole, as the penalty takes it.
    shared = getattr(model, "backbone", None)
    shared = shared if isinstance(shared, nn.Module) else model
    whole = _smallest(model, images)
    backbone = whole if shared is model else _smallest(shared, images)
    costs: dict[str, float] = {
        "model_macs": count_macs(whole, image_size),
        "model_parameters": count_parameters(whole),
        "macs": count_macs(backbone, image_size),
        "active_parameters": count_parameters(backbone),
    }
    if latency:
        fastest = [compact(one, images) for one in (model, shared)]
        of_whole, of_backbone = measure_latency(fastest, images, LATENCY_SECONDS)
        costs |= {"model_latency_ms": of_whole.median_ms, "latency_ms": of_backbone.median_ms}
    return costs


def _smallest(model: nn.Module, images: torch.Tensor) -> nn.Module:
    return compact(model, images, selections="always", memory_format="channels_last")
