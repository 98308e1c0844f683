"""What a network costs: parameters, multiply-accumulates, memory and time of a forward pass."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

# Read when the profiler is first used: its log lines about its own start tell the user nothing.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

WARM_UP = 3
BLOCK = 5  # calls of one model in a row
FEWEST_CALLS = 10
MOST_CALLS = 200


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a forward pass: the median and the quartiles of `calls` passes, and how they were measured."""

    median_ms: float
    lower_ms: float
    upper_ms: float
    calls: int
    batch: int
    device: str
    threads: int  # of the CPU; on CUDA they only start kernels


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """The models in eval mode and without gradients; afterwards each of their modules in its own mode again."""
    modes = {module: module.training for model in models for module in model.modules()}
    for model in models:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def run_on_meta(model: nn.Module, image_size: tuple[int, int], within: AbstractContextManager[Any]) -> Any:
    """The outputs of one (3, height, width) image without their values: takes milliseconds whatever the size."""
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    # What a forward pass makes without naming a device belongs there too.
    with evaluating(model), torch.device("meta"), within:
        return torch.func.functional_call(model, state, (torch.empty(1, 3, *image_size, device="meta"),))


def count_parameters(model: nn.Module) -> int:
    """Numbers that training would change; a shared one counts once. Buffers, as batch norm's statistics, do not."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, image_size: tuple[int, int]) -> int:
    """Multiply-accumulates of one (3, height, width) image: half of what `torch.utils.flop_counter` counts.

    Convolutions and matrix products count; normalisation, activations and additions do not.
    """
    counter = FlopCounterMode(display=False)
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation, which the counter does not know
    try:
        run_on_meta(model, image_size, counter)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.get_total_flops() // 2


def peak_memory_bytes(model: nn.Module, images: Tensor) -> int:
    """The most memory that a forward pass needs at once: weights and buffers, images, and all that is computed.

    The last is what torch's allocator has given out and not yet taken back, including temporaries inside an operation:
    `torch.cuda.max_memory_allocated` on CUDA, the profiler's record of the allocator on CPU. Scratch memory that a
    library, such as oneDNN, keeps for itself is in neither.
    """
    own = sum(tensor.numel() * tensor.element_size() for tensor in [*model.parameters(), *model.buffers(), images])
    with evaluating(model):
        model(images)  # what is made only once, such as a library's handles, is no part of a pass
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
            torch.cuda.reset_peak_memory_stats(images.device)
            before = torch.cuda.memory_allocated(images.device)
            model(images)
            return own + torch.cuda.max_memory_allocated(images.device) - before
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            model(images)
    assert record.profiler is not None
    assert record.profiler.kineto_results is not None
    events = record.profiler.kineto_results.events()
    total = peak = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    return own + peak


def measure_latency(models: Sequence[nn.Module], images: Tensor, seconds: float = 2.0) -> list[Latency]:
    """The time of each model's forward pass over a batch (N, 3, height, width), in eval and inference mode.

    At least `FEWEST_CALLS` calls of each are timed, and more while their time is less than `seconds`.
    """
    with evaluating(*models), torch.inference_mode():
        times = time_calls([partial(model, images) for model in models], images.device, seconds)
    device = torch.cuda.get_device_name(images.device) if images.is_cuda else "cpu"
    latencies = []
    for own in times:
        lower, median, upper = (1e3 * value for value in statistics.quantiles(own, n=4, method="inclusive"))
        latencies.append(Latency(median, lower, upper, len(own), len(images), device, torch.get_num_threads()))
    return latencies


def time_calls(
    calls: Sequence[Callable[[], object]],
    device: torch.device,
    seconds: float = 0.0,
    *,
    warm_up: int = WARM_UP,
    untimed: int = 1,
    block: int = BLOCK,
    fewest: int = FEWEST_CALLS,
) -> list[list[float]]:
    """Seconds of single calls, for each of `calls`; on CUDA between events on the device.

    They take turns of `block` timed calls, so that other load of the machine disturbs all alike; the first `untimed`
    calls of a turn find the caches full of another model. torch.utils.benchmark.Timer does neither: it times one
    statement to its end before the next, gives means of several calls, which a single disturbance spoils, and on CUDA
    it includes the wait of the host.
    """
    timer = _time_cuda if device.type == "cuda" else _time_cpu
    for call in calls:
        for _ in range(warm_up):
            call()
    times: list[list[float]] = [[] for _ in calls]
    while len(times[0]) < fewest or (len(times[0]) < MOST_CALLS and min(map(sum, times)) < seconds):
        for call, own in zip(calls, times, strict=True):
            for _ in range(untimed):
                call()
            own += [timer(call) for _ in range(block)]
    return times


def best_format(model: nn.Module, images: Tensor, seconds: float = 0.5) -> torch.memory_format:
    """The memory format of weights and images in which the model is fastest here; the model is left in it."""
    medians = {}
    for memory_format in (torch.channels_last, torch.contiguous_format):
        model.to(memory_format=memory_format)
        (latency,) = measure_latency([model], images.contiguous(memory_format=memory_format), seconds)
        medians[memory_format] = latency.median_ms
    best = min(medians, key=medians.__getitem__)
    model.to(memory_format=best)
    return best


def _time_cpu(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _time_cuda(call: Callable[[], object]) -> float:
    started, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    started.record()
    call()
    ended.record()
    ended.synchronize()
    return started.elapsed_time(ended) / 1e3
