"""What the penalty costs in the training of other networks: `python -m benchmarks.networks [--json]`.

A whole step, which is forward pass, backward pass and optimizer step, of timm's backbones on a batch of 8 images of
128 x 128 pixels on CPU: with `ProximalAdamW` and the group lasso on all convolutions and linear layers, and with
`torch.optim.AdamW(fused=True)`. Both take steps in turns, each on a copy of the model, so that what else the machine
does meets both alike; the ratio is the median over the rounds. The optimizers' own steps are timed within.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import timm
import torch
from torch import Tensor, nn

from mtl.optimizer import ProximalAdamW, penalised_parameters
from mtl.penalties import GroupLasso
from mtl.proximal.kernel import why_unavailable
from mtl.sparsity import measure_sparsity

NETWORKS = {
    "resnet50": {},
    "mobilenetv3_large_100": {},
    "efficientnet_b0": {},
    "convnext_tiny": {},
    "regnety_004": {},
    "vit_tiny_patch16_224": {"img_size": 128},
    "vit_small_patch16_224": {"img_size": 128},
}
BATCH, SIDE = 8, 128
LR, STRENGTH = 1e-4, 1e-5
WANTED = 1.5  # times the step with fused AdamW


@dataclass
class Contestant:
    """A model with its optimizer, and the seconds of its steps: in all, and in the optimizer alone."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    whole: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)

    def step(self, images: Tensor) -> None:
        started = time.perf_counter()
        self.optimizer.zero_grad()
        self.model(images).square().mean().backward()
        before = time.perf_counter()
        self.optimizer.step()
        ended = time.perf_counter()
        self.whole.append(ended - started)
        self.alone.append(ended - before)


def measure(name: str, rounds: int, layout: torch.memory_format) -> dict[str, object]:
    """Medians in milliseconds, and the ratio of the whole steps."""
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False, num_classes=0, **NETWORKS[name]).to(memory_format=layout)
    images = torch.randn(BATCH, 3, SIDE, SIDE).contiguous(memory_format=layout)
    other = copy.deepcopy(model)
    plain = Contestant(other, torch.optim.AdamW(other.parameters(), lr=LR, weight_decay=0.0, fused=True))
    ours = Contestant(model, ProximalAdamW(penalised_parameters(model, GroupLasso(STRENGTH)), lr=LR))
    contestants = (plain, ours)
    for one in contestants:
        for _ in range(2):
            one.step(images)
        one.whole.clear()
        one.alone.clear()
    for _ in range(rounds):
        for one in contestants:
            one.step(images)
    layers = measure_sparsity(model).layers
    return {
        "layers": len(layers),
        "groups": sum(layer.groups for layer in layers),
        "fused AdamW, ms": _ms(plain.whole),
        "proximal AdamW, ms": _ms(ours.whole),
        "of it the optimizer's, ms": [_ms(plain.alone), _ms(ours.alone)],
        "ratio": round(statistics.median(a / b for a, b in zip(ours.whole, plain.whole, strict=True)), 3),
        "wanted": f"<= {WANTED:g}",
    }


def _ms(seconds: Sequence[float]) -> float:
    return round(1e3 * statistics.median(seconds), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--contiguous", action="store_true", help="in place of channels_last, which trials train in")
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), help=f"of {', '.join(NETWORKS)}")
    options = parser.parse_args()
    if unknown := set(options.networks) - set(NETWORKS):
        parser.error(f"{', '.join(sorted(unknown))}; allowed: {', '.join(NETWORKS)}")
    torch.set_num_threads(options.threads)
    layout = torch.contiguous_format if options.contiguous else torch.channels_last
    kernel = why_unavailable() or "in use"
    if not options.json:
        print(
            f"batch {BATCH} at {SIDE} x {SIDE}, {options.threads} threads, torch {torch.__version__}, kernel: {kernel}"
        )
    results = {}
    for name in options.networks:
        results[name] = measure(name, options.rounds, layout)
        if not options.json:
            figures = "  ".join(f"{key} {value}" for key, value in results[name].items())
            print(f"  {name:<24}{figures}", flush=True)
    if options.json:
        about = {"threads": options.threads, "torch": torch.__version__, "timm": timm.__version__, "kernel": kernel}
        print(json.dumps({**about, "results": results}, indent=1))


if __name__ == "__main__":
    main()
