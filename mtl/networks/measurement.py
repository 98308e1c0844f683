"""What a network costs: parameters, multiply-accumulates, bytes on disk, memory and time of a pass forward."""

import functools
import io
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

# Read at the profiler's first use: what it logs of its own start is no news to whoever asks for memory.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

WARM_UP = 3
# Calls in a row of one model before the next one's turn: short, so that a disturbance of the machine meets all of them.
BLOCK = 5
FEWEST_CALLS = 10
MOST_CALLS = 200


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one pass forward: the median and the quartiles of `calls` of them, and how it was measured."""

    median_ms: float
    lower_ms: float
    upper_ms: float
    calls: int
    batch: int
    device: str
    threads: int  # of the CPU, which on CUDA only start kernels


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode and without gradients; each of its modules in its own mode again afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def count_parameters(model: nn.Module) -> int:
    """Numbers that training would change; a shared one counts once. Buffers, as batch norm's statistics, do not."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, image_size: tuple[int, int]) -> int:
    """Multiply-accumulates of one (3, height, width) image: half of what `torch.utils.flop_counter` counts.

    These are of convolutions and matrix products; normalisation, activations and additions count nothing. Run on the
    meta device, so that it takes milliseconds whatever the size.
    """
    state = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    images = torch.empty(1, 3, *image_size, device="meta")
    counter = FlopCounterMode(display=False)
    with evaluating(model), counter:
        torch.func.functional_call(model, state, (images,))
    return counter.get_total_flops() // 2


def state_bytes(model: nn.Module) -> int:
    """Bytes of a file in which torch.save writes the model's state dict."""
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.getbuffer().nbytes


def peak_memory_bytes(model: nn.Module, images: Tensor) -> int:
    """The most memory that a pass forward needs at once: weights and buffers, images, and all that is computed.

    Of what is computed, all that torch's allocator has given out and not yet taken back counts, temporaries inside of
    an operation included. On CUDA that is `torch.cuda.max_memory_allocated`, on CPU the profiler's record of the
    allocator; scratch memory that a library, such as oneDNN, keeps for itself is in neither.
    """
    own = sum(_bytes(tensor) for tensor in [*model.parameters(), *model.buffers()]) + _bytes(images)
    with evaluating(model):
        model(images)  # what is made once, such as a library's handles, is no part of a pass
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
            torch.cuda.reset_peak_memory_stats(images.device)
            before = torch.cuda.memory_allocated(images.device)
            model(images)
            return own + torch.cuda.max_memory_allocated(images.device) - before
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            model(images)
    results = record.profiler.kineto_results if record.profiler else None
    assert results is not None
    changes = [(event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]"]
    total = peak = 0
    for _, change in sorted(changes, key=lambda item: item[0]):
        total += change
        peak = max(peak, total)
    return own + peak


def measure_latency(models: Sequence[nn.Module], images: Tensor, seconds: float = 2.0) -> list[Latency]:
    """The time of each model's pass forward over a batch (N, 3, height, width), in eval and inference mode.

    The models take turns, a few calls each, so that what else the machine does falls on all of them alike; the first
    call of a turn finds the caches full of another model and is not counted. On CUDA times are those of events on the
    device. At least `FEWEST_CALLS` calls of each are timed, more while their time is less than `seconds`.
    """
    modes = [{module: module.training for module in model.modules()} for model in models]
    timer = _time_cuda if images.is_cuda else _time_cpu
    try:
        for model in models:
            model.eval()
        with torch.inference_mode():
            times = time_calls([functools.partial(model, images) for model in models], timer, seconds)
    finally:
        for mode in modes:
            for module, training in mode.items():
                module.training = training
    device = torch.cuda.get_device_name(images.device) if images.is_cuda else "cpu"
    return [summarise(own, len(images), device, torch.get_num_threads()) for own in times]


def time_calls(
    calls: Sequence[Callable[[], object]],
    timer: Callable[[Callable[[], object]], float],
    seconds: float,
) -> list[list[float]]:
    """Seconds of each call, by what is called, after `WARM_UP` calls of each; `timer` gives the seconds of one call."""
    for call in calls:
        for _ in range(WARM_UP):
            call()
    times: list[list[float]] = [[] for _ in calls]
    while len(times[0]) < FEWEST_CALLS or (len(times[0]) < MOST_CALLS and min(map(sum, times)) < seconds):
        for call, own in zip(calls, times, strict=True):
            call()
            own += [timer(call) for _ in range(BLOCK)]
    return times


def summarise(times: Sequence[float], batch: int, device: str, threads: int) -> Latency:
    """Median and quartiles of at least two times in seconds."""
    lower, median, upper = (1e3 * value for value in statistics.quantiles(times, n=4, method="inclusive"))
    return Latency(median, lower, upper, len(times), batch, device, threads)


def best_format(model: nn.Module, images: Tensor, seconds: float = 0.5) -> torch.memory_format:
    """The memory format of weights and images in which the model is fastest here; the model is left in it."""
    formats = (torch.channels_last, torch.contiguous_format)
    medians = []
    for memory_format in formats:
        model.to(memory_format=memory_format)
        (latency,) = measure_latency([model], images.contiguous(memory_format=memory_format), seconds)
        medians.append(latency.median_ms)
    best = formats[medians.index(min(medians))]
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


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
