"""Costs against sums by hand, and latency on a clock that does as it is told."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from mtl.networks.backbones import DilatedResNet
from mtl.networks.measurement import (
    BLOCK,
    FEWEST_CALLS,
    MOST_CALLS,
    WARM_UP,
    best_format,
    count_macs,
    count_parameters,
    evaluating,
    measure_latency,
    peak_memory_bytes,
    time_calls,
)


def test_macs_of_layers_by_hand() -> None:
    plain = nn.Conv2d(3, 8, kernel_size=(3, 5), padding=(1, 2))
    assert count_macs(plain, (16, 20)) == 8 * 3 * 3 * 5 * 16 * 20
    strided = nn.Conv2d(3, 8, kernel_size=3, stride=2, padding=2, dilation=2)
    assert count_macs(strided, (16, 20)) == 8 * 3 * 9 * 8 * 10
    linear = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7), nn.ReLU(), nn.BatchNorm1d(7))
    assert count_macs(linear, (16, 20)) == 3 * 7


def test_macs_of_a_backbone_by_hand() -> None:
    assert count_macs(DilatedResNet("resnet18", 16, (1, 1, 1, 1)), (48, 48)) == sum(
        [
            16 * 3 * 49 * 24 * 24,
            2 * 16 * 16 * 9 * 12 * 12,
            (32 * 16 * 9 + 32 * 32 * 9 + 32 * 16) * 6 * 6,
            (64 * 32 * 9 + 64 * 64 * 9 + 64 * 32) * 6 * 6,
            (128 * 64 * 9 + 128 * 128 * 9 + 128 * 64) * 6 * 6,
        ]
    )


def test_counting_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count_macs(model, (16, 16))
    peak_memory_bytes(model, torch.randn(2, 3, 16, 16))
    measure_latency([model], torch.randn(2, 3, 16, 16), seconds=0)
    assert [module.training for module in model.modules()] == [True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with evaluating(model):
        assert not model.training
        assert not torch.is_grad_enabled()


def test_parameters_that_training_changes() -> None:
    shared = nn.Linear(5, 5)
    assert count_parameters(nn.Sequential(shared, shared)) == 30
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert count_parameters(model) == 3 * 4 * 9 + 4 + 2 * 4


def test_peak_memory_of_pointwise_layers_by_hand() -> None:
    images = torch.randn(2, 3, 64, 80)
    size = images.numel() * 4
    # The input stays, and while one value is made of another both are there.
    assert peak_memory_bytes(nn.ReLU(), images) == 2 * size
    assert peak_memory_bytes(nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.ReLU()), images) == 3 * size
    norm = nn.BatchNorm2d(3)
    own = sum(t.numel() * t.element_size() for t in [*norm.parameters(), *norm.buffers()])
    assert own + 2 * size <= peak_memory_bytes(norm, images) < own + 2 * size + 1000


class Clock:
    """Seconds of each call by a script, and how often each was called."""

    def __init__(self, *scripts: Callable[[int], float]) -> None:
        self.scripts = scripts
        self.called = [0] * len(scripts)
        self.order: list[int] = []
        self.calls = [self._call(k) for k in range(len(scripts))]

    def _call(self, k: int) -> Callable[[], int]:
        def call() -> int:
            self.called[k] += 1
            self.order.append(k)
            return k

        return call

    def timer(self, call: Callable[[], object]) -> float:
        k = call()
        assert isinstance(k, int)
        return self.scripts[k](self.called[k])

    def times(self, monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[list[float]]:
        monkeypatch.setattr("mtl.networks.measurement._time_cpu", self.timer)
        return time_calls(self.calls, torch.device("cpu"), seconds)


def test_warm_up_and_the_first_call_of_each_turn_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_is_slow(call: int) -> float:
        return 100.0 if call <= WARM_UP or (call - WARM_UP - 1) % (BLOCK + 1) == 0 else 1.0

    clock = Clock(first_is_slow, first_is_slow)
    times = clock.times(monkeypatch, seconds=0)
    assert [set(own) for own in times] == [{1.0}, {1.0}]
    assert [len(own) for own in times] == [FEWEST_CALLS, FEWEST_CALLS]
    timed = clock.order[2 * WARM_UP :]
    assert timed == ([0] * (BLOCK + 1) + [1] * (BLOCK + 1)) * (FEWEST_CALLS // BLOCK)


@pytest.mark.parametrize(("seconds", "calls"), [(0, FEWEST_CALLS), (30, 30), (1e9, MOST_CALLS)])
def test_calls_go_on_while_there_is_time_within_bounds(
    seconds: float, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(lambda call: 1.0, lambda call: 2.0)
    times = clock.times(monkeypatch, seconds)
    assert [len(own) for own in times] == [calls, calls]


def test_median_and_quartiles_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([t for k in range(20) for t in (k, k + [0.005, 0.001, 0.002, 0.004, 0.003][k % 5])])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    (latency,) = measure_latency([nn.Identity()], torch.zeros(4, 3, 8, 8), seconds=0)
    assert (latency.lower_ms, latency.median_ms, latency.upper_ms) == pytest.approx((2, 3, 4))
    assert (latency.calls, latency.batch, latency.device, latency.threads) == (10, 4, "cpu", torch.get_num_threads())


def test_latency_is_measured_in_inference_mode_and_eval(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []

    class Spy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append((torch.is_inference_mode_enabled(), self.training))
            return x

    ticks: Iterator[float] = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks) * 1e-3)
    (latency,) = measure_latency([Spy()], torch.zeros(4, 3, 8, 8), seconds=0)
    assert set(seen) == {(True, False)}
    assert (latency.batch, latency.device, latency.threads) == (4, "cpu", torch.get_num_threads())
    assert (latency.lower_ms, latency.median_ms, latency.upper_ms) == pytest.approx((1, 1, 1))


def test_the_faster_memory_format_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = nn.Conv2d(3, 4, 3), torch.zeros(1, 3, 8, 8)

    def channels_last_is(seconds: float) -> None:
        def time_of(call: Callable[[], object]) -> float:
            return seconds if model.weight.is_contiguous(memory_format=torch.channels_last) else 1.0

        monkeypatch.setattr("mtl.networks.measurement._time_cpu", time_of)

    channels_last_is(0.5)
    assert best_format(model, images) == torch.channels_last
    assert model.weight.is_contiguous(memory_format=torch.channels_last)
    channels_last_is(2.0)
    assert best_format(model, images) == torch.contiguous_format
    assert model.weight.is_contiguous()


@pytest.mark.gpu
def test_on_a_gpu_events_time_and_the_allocator_counts() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    images = torch.randn(2, 3, 64, 80, device="cuda")
    assert peak_memory_bytes(nn.Sequential(nn.ReLU(), nn.ReLU()), images) >= 3 * images.numel() * 4
    (latency,) = measure_latency([nn.Conv2d(3, 64, 3).cuda()], images, seconds=0.1)
    assert 0 < latency.lower_ms <= latency.median_ms <= latency.upper_ms < 1000
    assert latency.device == torch.cuda.get_device_name(images.device)
