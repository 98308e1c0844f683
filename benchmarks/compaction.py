"""What zero groups are worth: `python -m benchmarks.compaction [--json]`.

A dilated ResNet-50 backbone, 8 images of 256 x 256, float32, with the zeros that proximal training leaves
(`benchmarks.trained_zeros`; `--pattern even` spreads them evenly instead) at four group sparsities. Against the dense
model in its own best memory format stand ours and Torch-Pruning, whose dependency graph removes, group by group until
nothing changes, what is zero in every consumer, so that its outputs are equal as well; it does not fold batch norms, so
it stands here once more with torch.fx's folding after it. Contestants run in turn, so that what else the machine does
meets all alike; medians. MACs are multiply-accumulates by torch.utils.flop_counter; memory is the most that one forward
takes beyond the model and its input.
"""

import argparse
import copy
import io
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.optimizer import _processor, milliseconds, peak_extra_bytes
from benchmarks.trained_zeros import random_images, zeroed_resnet50
from mtl.compaction import certify, compact
from mtl.networks.backbones import DilatedResNet

IN, OUT = torch_pruning.prune_conv_in_channels, torch_pruning.prune_conv_out_channels
CPU = torch.device("cpu")
SPARSITIES = (0.3, 0.5, 0.7, 0.9)
WANTED_SPEED_UP, WANTED_SHARE_OF_MACS, WANTED_COMPACTION_SECONDS = {0.7: 2.3}, 0.65, 10.0


def prune_by_dependencies(model: DilatedResNet, example: Tensor) -> nn.Module:
    """Torch-Pruning's result where it takes away channels that are zero in all that read them, and no others."""
    changed = True
    while changed:
        changed = False
        graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example)
        for group in graph.get_all_groups(root_module_types=[nn.Conv2d]):
            dead = None
            # The graph does not know that the network's output is read.
            if any(d.handler == OUT and d.target.module is model.last_convolution for d, _ in group):
                continue
            for dependency, _ in group:
                if dependency.handler == IN:
                    zero = (dependency.target.module.weight == 0).flatten(2).all(dim=2).all(dim=0)
                    dead = zero if dead is None else dead & zero
            if dead is None or not dead.any():
                continue
            remove = dead.nonzero().flatten().tolist()
            remove = remove[1:] if len(remove) == len(dead) else remove
            if remove:
                root = group[0].dep
                graph.get_pruning_group(root.target.module, root.handler, remove).prune()
                changed = True
    return model


def best_format(model: nn.Module, images: Tensor) -> nn.Module:
    """The model in the memory format in which it is faster, images coming in either."""
    twins = {
        layout: copy.deepcopy(model).to(memory_format=layout)
        for layout in (torch.contiguous_format, torch.channels_last)
    }
    times = medians({str(layout): lambda m=m: m(images) for layout, m in twins.items()}, rounds=2)
    return twins[min(twins, key=lambda layout: times[str(layout)])]


def medians(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            taken = milliseconds(run, CPU)
            if turn:
                times[name].append(taken)
    return {name: statistics.median(values) for name, values in times.items()}


def macs(model: nn.Module, images: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        model(images)
    return counter.get_total_flops() / 2


def file_bytes(model: nn.Module) -> int:
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell()


@torch.inference_mode()
def measure(sparsity: float, pattern: str, images: Tensor, rounds: int) -> dict[str, Any]:
    """Each contestant's figures, and the ratios of ours with what they are to reach."""
    with torch.inference_mode(False), torch.enable_grad():  # Torch-Pruning goes by the graph of derivatives
        model = zeroed_resnet50(sparsity, pattern)
        started = time.perf_counter()
        ours = compact(model, images)
        compaction_seconds = time.perf_counter() - started
        pruned = copy.deepcopy(model)
        started = time.perf_counter()
        prune_by_dependencies(pruned, images[:1])
        pruning_seconds = time.perf_counter() - started
        contestants = {
            "dense": best_format(model, images),
            "dense, folded": best_format(fuse(model), images),
            "Torch-Pruning": best_format(pruned, images),
            "Torch-Pruning, folded": best_format(fuse(pruned), images),
            "ours": ours,
        }
    differences = {name: certify(model, other, [images[:2]]).largest for name, other in contestants.items()}
    times = medians({name: lambda m=m: m(images) for name, m in contestants.items()}, rounds)
    rows = {
        name: {
            "ms": round(times[name], 1),
            "GMAC": round(macs(other, images) / 1e9, 2),
            "parameters": sum(p.numel() for p in other.parameters()),
            "MB": round(file_bytes(other) / 1e6, 2),
            "peak_MB": round(min(peak_extra_bytes(lambda m=other: m(images), CPU) for _ in range(3)) / 1e6, 1),
            "difference": differences[name],
        }
        for name, other in contestants.items()
    }
    for row in rows.values():
        row["speed_up"] = round(rows["dense"]["ms"] / row["ms"], 2)
        row["MAC_ratio"] = round(rows["dense"]["GMAC"] / row["GMAC"], 2)
        row["share"] = round(row["speed_up"] / row["MAC_ratio"], 2)
    best_other = max(rows[name]["speed_up"] for name in rows if name.startswith("Torch-Pruning"))
    return {
        "contestants": rows,
        "ours: speed-up": {"is": rows["ours"]["speed_up"], "wanted": WANTED_SPEED_UP.get(sparsity)},
        "ours: speed-up / MAC ratio": {"is": rows["ours"]["share"], "wanted": WANTED_SHARE_OF_MACS},
        "ours / best of Torch-Pruning": {"is": round(rows["ours"]["speed_up"] / best_other, 2), "wanted": 1.0},
        "compaction seconds": {"is": round(compaction_seconds, 1), "wanted": WANTED_COMPACTION_SECONDS},
        "Torch-Pruning seconds": {"is": round(pruning_seconds, 1), "wanted": None},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pattern", choices=["trained", "even"], default="trained")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--sparsity", type=float, nargs="*", default=SPARSITIES)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    images = random_images(options.batch, 256, seed=1)
    result = {
        "model": f"dilated ResNet-50 backbone, {options.batch} x 3 x 256 x 256, float32, zeros: {options.pattern}",
        "machine": f"{_processor()}, {options.threads} threads",
        "torch": torch.__version__,
        "torch-pruning": torch_pruning.__version__,
        "results": {f"{s:g}": measure(s, options.pattern, images, options.rounds) for s in options.sparsity},
    }
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['model']}\n{result['machine']}, torch {result['torch']}")
    for sparsity, figures in result["results"].items():
        rows = figures.pop("contestants")
        print(f"group sparsity {sparsity}\n  {'':<24}" + "".join(f"{column:>12}" for column in rows["dense"]))
        for name, row in rows.items():
            cells = (f"{v:.1e}" if column == "difference" else str(v) for column, v in row.items())
            print(f"  {name:<24}" + "".join(f"{cell:>12}" for cell in cells))
        for name, value in figures.items():
            print(f"  {name:<32} {value['is']:<8} wanted {value['wanted']}")


if __name__ == "__main__":
    main()
