"""What a proximal step costs: `python -m benchmarks.optimizer [--json] [--isa avx2] [--device cuda]`.

One step of each contestant over the convolutions and norms of torchvision's dilated ResNet-50, with random gradients
that stay the same, in turn, so that what else the machine does meets all alike; medians. `plain` is the adaptive step
on the path that is left without a compiler. `naive` is the adaptive step as the equations are first written down:
Newton's method on phi - 1 in eager mode, a layer at a time, to its cap of 100 steps; three whole steps of it are timed.
Memory is the most that a step takes beyond fused AdamW's, in units of the largest layer's weights. `--isa avx2` has
torch and the kernel do without AVX-512, as on processors that have none. `--processor-time` adds up what all threads
compute, without the time that other work has the processors: for machines that are not quiet.
"""

import argparse
import ctypes
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet50

from mtl.optimizer import Metric, ProximalAdamW
from mtl.penalties import GroupLasso
from mtl.proximal import triton_kernel
from mtl.proximal.kernel import why_unavailable

LR, STRENGTH, BETAS, EPS = 1e-4, 1e-5, (0.9, 0.999), 1e-8
NAIVE_NEWTON_STEPS = 100
PROCESSOR_TIME = "PARSIMONY_BENCHMARK_PROCESSOR_TIME"  # set: times are those


def dilated_resnet50() -> nn.Module:
    network = resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
    network.fc = nn.Identity()
    return network


def backbone(
    device: torch.device, layout: torch.memory_format, make: Callable[[], nn.Module] = dilated_resnet50
) -> tuple[list[Tensor], list[Tensor]]:
    """Weights of the convolutions, and all other parameters, each with a random gradient."""
    torch.manual_seed(0)
    network = make().to(device).to(memory_format=layout)
    for p in network.parameters():
        p.grad = 1e-3 * torch.randn_like(p)
    convolutions = [m.weight for m in network.modules() if isinstance(m, nn.Conv2d)]
    known = {id(weight) for weight in convolutions}
    return convolutions, [p for p in network.parameters() if id(p) not in known]


def proximal(
    device: torch.device,
    layout: torch.memory_format,
    metric: Metric,
    make: Callable[[], nn.Module] = dilated_resnet50,
) -> ProximalAdamW:
    convolutions, others = backbone(device, layout, make)
    groups = [{"params": convolutions, "penalty": GroupLasso(STRENGTH)}, {"params": others}]
    return ProximalAdamW(groups, lr=LR, betas=BETAS, eps=EPS, metric=metric)


@contextmanager
def without_kernel() -> Iterator[None]:
    """Within, the plain PyTorch path is taken."""
    os.environ["PARSIMONY_KERNELS"] = "0"
    try:
        yield
    finally:
        del os.environ["PARSIMONY_KERNELS"]


def plainly(step: Callable[[], object]) -> Callable[[], object]:
    def plain_step() -> None:
        with without_kernel():
            step()

    return plain_step


def naive_step(device: torch.device, layout: torch.memory_format) -> Callable[[], object]:
    """torch's AdamW, then the adaptive prox written down as the equations stand."""
    convolutions, others = backbone(device, layout)
    adamw = torch.optim.AdamW(convolutions + others, lr=LR, betas=BETAS, eps=EPS, weight_decay=0.0, fused=True)

    @torch.no_grad()
    def step() -> None:
        adamw.step()
        for weight in convolutions:
            state = adamw.state[weight]
            d = (state["exp_avg_sq"] / (1 - BETAS[1] ** state["step"])).sqrt() + EPS
            x, d = (a.transpose(0, 1).flatten(1) for a in (weight, d))
            threshold = LR * STRENGTH * x.shape[1] ** 0.5
            theta = torch.zeros(len(x), 1, device=device)
            for _ in range(NAIVE_NEWTON_STEPS):
                terms = (d * x) ** 2 / (d * theta + threshold) ** 2
                slope = (terms * 2 * d / (d * theta + threshold)).sum(dim=1, keepdim=True)
                theta = (theta + (terms.sum(dim=1, keepdim=True) - 1) / slope).clamp(min=0)
            alive = (d * x).norm(dim=1, keepdim=True) > threshold
            z = torch.where(alive, x * d * theta / (d * theta + threshold), 0)
            weight.copy_(z.view(weight.shape[1], weight.shape[0], *weight.shape[2:]).transpose(0, 1))

    return step


def captured(step: Callable[[], object]) -> Callable[[], object]:
    """The step as a CUDA graph, which takes the device's time alone; three steps are taken on the way."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def milliseconds(step: Callable[[], object], device: torch.device) -> float:
    """Of one step; on CUDA between two events, so that what was there before it has ended."""
    if device.type == "cuda":
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(device)
        started.record()
        step()
        ended.record()
        ended.synchronize()
        return started.elapsed_time(ended)
    clock = time.process_time if os.environ.get(PROCESSOR_TIME) else time.perf_counter
    before = clock()
    step()
    return 1000 * (clock() - before)


def medians_in_turn(
    contestants: dict[str, Callable[[], object]], device: torch.device, rounds: int
) -> dict[str, float]:
    """Milliseconds of each; steps are taken in turn, after three that do not count."""
    for step in contestants.values():
        for _ in range(3):
            step()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, step in contestants.items():
            times[name].append(milliseconds(step, device))
    return {name: statistics.median(values) for name, values in times.items()}


def contestants_on(
    device: torch.device, layout: torch.memory_format, make: Callable[[], nn.Module] = dilated_resnet50
) -> dict[str, Callable[[], object]]:
    """One step of each, on weights of its own."""
    convolutions, others = backbone(device, layout, make)
    on_gpu = device.type == "cuda"
    adamw = torch.optim.AdamW(
        convolutions + others, lr=LR, betas=BETAS, eps=EPS, weight_decay=0.0, fused=True, capturable=on_gpu
    )
    plain = plainly(proximal(device, layout, "adaptive", make).step)
    return {
        "fused AdamW": adamw.step,
        "euclidean": proximal(device, layout, "euclidean", make).step,
        "adaptive": proximal(device, layout, "adaptive", make).step,
        "plain": plain,
    }


def peak_extra_bytes(step: Callable[[], object], device: torch.device) -> int:
    """The most memory that one step takes beyond what was taken before it; on CPU Linux is needed to tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    # Freed memory goes back to the system first, and the high-water mark starts again from here.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_bytes("VmRSS")
    step()
    return max(0, _status_bytes("VmHWM") - before)


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def _ratios(medians: dict[str, float], on_gpu: bool) -> list[tuple[str, float, str, float]]:
    """What is compared, the ratio, and what it is to stay below or above."""
    bounds = {
        "euclidean": 1.2 if on_gpu else 2.0,
        "adaptive": 1.5 if on_gpu else 4.0,
        "plain": 10.0 if on_gpu else 15.0,
    }
    rows = [(f"{name} / fused AdamW", medians[name] / medians["fused AdamW"], "<=", b) for name, b in bounds.items()]
    return [*rows, ("naive / adaptive", medians["naive"] / medians["adaptive"], ">=", 50.0)]


def measure_captured(device: torch.device, layout: torch.memory_format, rounds: int) -> dict[str, object]:
    """As `measure`, the steps as CUDA graphs: without what it costs the host to launch them."""
    medians = medians_in_turn(
        {name: captured(step) for name, step in contestants_on(device, layout).items()}, device, rounds
    )
    ratios = _ratios(medians | {"naive": math.inf}, on_gpu=True)[:-1]
    return {
        "milliseconds": {name: round(value, 3) for name, value in medians.items()},
        "ratios": {name: {"is": round(value, 2), "wanted": f"{sign} {bound:g}"} for name, value, sign, bound in ratios},
    }


def measure(device: torch.device, layout: torch.memory_format, rounds: int) -> dict[str, object]:
    """Medians in milliseconds, ratios with what they are to stay below or above, and memory."""
    contestants = contestants_on(device, layout)
    medians = medians_in_turn(contestants, device, rounds)
    naive = naive_step(device, layout)
    medians["naive"] = statistics.median(milliseconds(naive, device) for _ in range(3))
    largest = max(4 * weight.numel() for weight in backbone(device, layout)[0])
    on_gpu = device.type == "cuda"
    ratios = _ratios(medians, on_gpu)
    peaks = {name: min(peak_extra_bytes(step, device) for _ in range(3)) for name, step in contestants.items()}
    base = peaks.pop("fused AdamW")
    memory = {name: round(max(0, peak - base) / largest, 2) for name, peak in peaks.items()}
    return {
        "milliseconds": {name: round(value, 2) for name, value in medians.items()},
        "ratios": {name: {"is": round(value, 2), "wanted": f"{sign} {bound:g}"} for name, value, sign, bound in ratios},
        "peak extra memory in layers, wanted <= 1": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", choices=("avx2",), help="the widest registers that are used")
    parser.add_argument("--processor-time", action="store_true", help="of all threads, in place of the clock's")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="the only one measured; all there are if left out")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device; allowed: cpu")
    # torch and its OpenMP read these once, before they are told anything.
    wanted = {"ATEN_CPU_CAPABILITY": options.isa} if options.isa else {}
    if options.processor_time:
        # Threads that wait sleep, as else they would count.
        wanted |= {"OMP_WAIT_POLICY": "passive", PROCESSOR_TIME: "1"}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.optimizer", *sys.argv[1:]], os.environ | wanted)
    torch.set_num_threads(options.threads)
    places = [("cpu, contiguous", "cpu", torch.contiguous_format), ("cpu, channels_last", "cpu", torch.channels_last)]
    if options.device == "cuda" or (options.device is None and torch.cuda.is_available()):
        places = [] if options.device else places
        places += [("cuda, contiguous", "cuda", torch.contiguous_format)]
        places += [("cuda, channels_last", "cuda", torch.channels_last)]
    result: dict[str, Any] = {
        "model": "torchvision's resnet50, dilated, without its classifier; float32",
        "machine": f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}, {options.threads} threads"
        + (", processor time" if options.processor_time else ""),
        "torch": torch.__version__,
        "kernel": why_unavailable() or "in use",
        "results": {name: measure(torch.device(device), layout, options.rounds) for name, device, layout in places}
        | {
            f"{name}, in a CUDA graph": measure_captured(torch.device(device), layout, options.rounds)
            for name, device, layout in places
            if device == "cuda"
        },
    }
    if any(device == "cuda" for _, device, _ in places):
        result["device"] = torch.cuda.get_device_name()
        result["kernel on the device"] = triton_kernel.why_unavailable(torch.device("cuda", 0)) or "in use"
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['machine']}, torch {result['torch']}, kernel: {result['kernel']}")
    if "device" in result:
        print(f"{result['device']}, kernel: {result['kernel on the device']}")
    for place, figures in result["results"].items():
        print(place)
        for section, rows in figures.items():
            print(f"  {section}")
            for name, value in rows.items():
                print(f"    {name:<26} {value if not isinstance(value, dict) else '  '.join(map(str, value.values()))}")


def _processor() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
