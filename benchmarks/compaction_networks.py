"""What zero groups are worth in other networks: `python -m benchmarks.compaction_networks [--json]`.

MobileNetV3-large, EfficientNet-B0, ConvNeXt-tiny and small ViTs of timm, random weights, float32. Pattern "layers": in
each layer on its own half of the input channels are zero, and half of the heads of each attention; of a residual stream
this removes nothing, as some layer reads each of its channels. Pattern "coupled": half of the channels of each of
Torch-Pruning's groups are zero in all layers that read them, so that streams narrow too, but those that a norm over
channels reads. Against the dense network in its own best memory format stand ours and Torch-Pruning, whose groups lose,
until nothing changes, what is zero in every reader, so that its outputs are equal as well; its heads are removed by its
functions one attention at a time. Contestants run in turn; medians. MACs are `mtl.networks.measurement.count_macs`.
"""

import argparse
import copy
import json
import time
from collections.abc import Iterator
from typing import Any

import timm
import torch
import torch_pruning
from torch import Tensor, nn

from benchmarks.compaction import best_format, medians
from benchmarks.optimizer import _processor
from mtl.compaction import certify, compact
from mtl.networks.attention import attentions
from mtl.networks.measurement import count_macs

NETWORKS = {
    "mobilenetv3_large_100": 224,
    "efficientnet_b0": 224,
    "convnext_tiny": 224,
    "vit_tiny_patch16_224": 224,
    "vit_small_patch16_224": 224,
}
WANTED_DIFFERENCE, WANTED_SHARE_OF_MACS, WANTED_AGAINST_PRUNING = 1e-5, 0.6, 1.0
READERS = (torch_pruning.prune_conv_in_channels, torch_pruning.prune_linear_in_channels)
Group = list[tuple[Any, list[int]]]


class Features(nn.Module):
    """A layer on the last map of a network, or on the tokens of a ViT."""

    def __init__(self, name: str, size: int) -> None:
        super().__init__()
        self.tokens = name.startswith("vit")
        settings = {"img_size": size, "num_classes": 0, "global_pool": ""} if self.tokens else {"features_only": True}
        self.net = timm.create_model(name, pretrained=False, **settings)

        # A layer that reads all channels of the result, as Torch-Pruning's graph does not know that it is read.
        width = self.net.num_features if self.tokens else self.net.feature_info.channels()[-1]
        self.head: nn.Module = nn.Linear(width, 8) if self.tokens else nn.Conv2d(width, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x) if self.tokens else self.net(x)[-1])


def randomised(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """With statistics and scales that are nowhere alike, as a trained network's."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, base in ((module.running_mean, 0.0), (module.running_var, 1.0), (module.bias, 0.0)):
                    tensor.copy_(base + 0.3 * torch.rand(tensor.shape, generator=generator))
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):  # ConvNeXt's begin at 1e-6
                parameter.copy_(torch.rand(parameter.shape, generator=generator))
    return model.eval()


def zero_half_of_each_layer(model: nn.Module, generator: torch.Generator) -> None:
    heads = {id(parts.projection): parts.head_size for _, parts in attentions(model)}
    with torch.no_grad():
        for name, module in model.named_modules():
            if not isinstance(module, nn.Conv2d | nn.Linear) or name == "head":
                continue
            weight = module.weight
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                weight[torch.randperm(len(weight), generator=generator)[: len(weight) // 2]] = 0
            elif weight.shape[1] > 3:
                size = heads.get(id(module), 1)
                groups = torch.randperm(weight.shape[1] // size, generator=generator)[: weight.shape[1] // size // 2]
                weight.view(weight.shape[0], -1, size, *weight.shape[2:])[:, groups] = 0


def groups_of(model: nn.Module, example: Tensor) -> tuple[Any, Iterator[Group]]:
    """Torch-Pruning's graph and its groups that may lose channels: with readers, and without a norm over channels."""
    graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=example)

    def groups() -> Iterator[Group]:
        inside = {id(part) for _, parts in attentions(model) for part in (parts.projection,)}
        for group in graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]):
            modules = [dependency.target.module for dependency, _ in group]
            readers = [d for d, _ in group if d.handler in READERS]
            if readers and not any(isinstance(m, nn.LayerNorm) or id(m) in inside for m in modules):
                yield group

    return graph, groups()


def dead_in(group: Group) -> Tensor:
    """(C,) bool: which channels of a group are zero in every layer that reads them."""
    found = [
        (d.target.module.weight == 0).transpose(0, 1).flatten(1).all(dim=1)[idxs]
        for d, idxs in group
        if d.handler in READERS
    ]
    return torch.stack(found).all(dim=0)


def zero_half_of_each_group(model: nn.Module, example: Tensor, generator: torch.Generator) -> None:
    for group in list(groups_of(model, example)[1]):
        count = len(group[0][1])
        chosen = torch.randperm(count, generator=generator)[: count // 2]
        with torch.no_grad():
            for dependency, idxs in group:
                if dependency.handler in READERS:
                    dependency.target.module.weight[:, torch.tensor(idxs)[chosen]] = 0
    with torch.no_grad():
        for _, parts in attentions(model):
            chosen = torch.randperm(parts.heads, generator=generator)[: parts.heads // 2]
            parts.projection.weight.view(-1, parts.heads, parts.head_size)[:, chosen] = 0


def prune_by_dependencies(model: nn.Module, example: Tensor) -> nn.Module:
    """Torch-Pruning's result where it takes away channels that are zero in all that read them, and no others."""
    for name, parts in list(attentions(model)):
        dead = (parts.projection.weight.view(-1, parts.heads, parts.head_size) == 0).all(dim=2).all(dim=0)
        own = dead.repeat_interleave(parts.head_size)
        if dead.any() and not dead.all():
            module = model.get_submodule(name)
            rows = own.repeat(3).nonzero().flatten().tolist()
            torch_pruning.prune_linear_out_channels(module.get_submodule("qkv"), rows)
            torch_pruning.prune_linear_in_channels(parts.projection, own.nonzero().flatten().tolist())
            heads = parts.heads - int(dead.sum())
            for attribute, value in (("num_heads", heads), ("attn_dim", heads * parts.head_size)):
                setattr(module, attribute, value)
    changed = True
    while changed:
        changed = False
        graph, groups = groups_of(model, example)
        for group in groups:
            dead = dead_in(group)
            remove = dead.nonzero().flatten().tolist()
            remove = remove[1:] if len(remove) == len(dead) else remove
            if not remove:
                continue
            root = group[0][0]
            graph.get_pruning_group(root.target.module, root.handler, remove).prune()
            changed = True
    return model


@torch.inference_mode()
def measure(name: str, size: int, pattern: str, batch: int, rounds: int) -> dict[str, Any]:
    """Each contestant's figures, and what ours is to reach."""
    with torch.inference_mode(False), torch.enable_grad():  # Torch-Pruning goes by the graph of derivatives
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        model = randomised(Features(name, size), generator)
        images = torch.randn(batch, 3, size, size, generator=generator)
        if pattern == "layers":
            zero_half_of_each_layer(model, generator)
        else:
            zero_half_of_each_group(model, images[:1], generator)
        started = time.perf_counter()
        ours = compact(model, images)
        seconds = time.perf_counter() - started
        pruned = prune_by_dependencies(copy.deepcopy(model), images[:1])
        contestants = {
            "dense": best_format(model, images),
            "Torch-Pruning": best_format(pruned, images),
            "ours": ours,
        }
    differences = {one: certify(model, other, [images[:2]], 1e-3).largest for one, other in contestants.items()}
    times = medians({one: lambda m=m: m(images) for one, m in contestants.items()}, rounds)
    macs = {one: count_macs(other, (size, size)) for one, other in contestants.items()}
    rows = {
        one: {
            "ms": round(times[one], 1),
            "GMAC": round(macs[one] / 1e9, 3),
            "parameters": sum(p.numel() for p in other.parameters()),
            "difference": differences[one],
            "speed_up": round(times["dense"] / times[one], 2),
            "MAC_ratio": round(macs["dense"] / macs[one], 2),
            "share": round(times["dense"] / times[one] * macs[one] / macs["dense"], 2),
        }
        for one, other in contestants.items()
    }
    against = round(times["Torch-Pruning"] / times["ours"], 2)
    return {
        "contestants": rows,
        "ours: difference": {"is": differences["ours"], "wanted": WANTED_DIFFERENCE},
        "ours: speed-up / MAC ratio": {"is": rows["ours"]["share"], "wanted": WANTED_SHARE_OF_MACS},
        "ours / Torch-Pruning": {"is": against, "wanted": WANTED_AGAINST_PRUNING},
        "compaction seconds": {"is": round(seconds, 1), "wanted": None},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pattern", choices=["layers", "coupled"], nargs="*", default=["layers", "coupled"])
    parser.add_argument("--network", choices=list(NETWORKS), nargs="*", default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = {
        "machine": f"{_processor()}, {options.threads} threads",
        "torch": torch.__version__,
        "torch-pruning": torch_pruning.__version__,
        "timm": timm.__version__,
        "batch": options.batch,
        "results": {},
    }
    if not options.json:
        print(f"{options.batch} images, {result['machine']}, torch {result['torch']}, timm {result['timm']}")
    for name in options.network:
        for pattern in options.pattern:
            figures = measure(name, NETWORKS[name], pattern, options.batch, options.rounds)
            result["results"][f"{name}, {pattern}"] = figures
            if not options.json:
                show(f"{name}, {pattern}", figures)
    if options.json:
        print(json.dumps(result, indent=1))


def show(case: str, figures: dict[str, Any]) -> None:
    rows = figures["contestants"]
    print(f"{case}\n  {'':<16}" + "".join(f"{column:>12}" for column in rows["dense"]))
    for one, row in rows.items():
        cells = (f"{v:.1e}" if column == "difference" else str(v) for column, v in row.items())
        print(f"  {one:<16}" + "".join(f"{cell:>12}" for cell in cells))
    for one, value in figures.items():
        if one != "contestants":
            print(f"  {one:<28} {value['is']:<10.3g} wanted {value['wanted']}", flush=True)


if __name__ == "__main__":
    main()
