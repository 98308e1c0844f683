"""The operator in C as processors with other registers get it: by ATEN_CPU_CAPABILITY, and by a compiler for ARM."""

import math
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtl.penalties import GroupLasso
from mtl.proximal import compiler
from mtl.proximal import kernel as group_prox
from mtl.proximal.blocks import AdamMetric
from mtl.proximal.groups import Layout, group_view, split_view
from mtl.proximal.prox import group_norm
from tests.support.waiting import DEADLINE_SECONDS

# In the last each group has 1200 columns: the weights of one input channel lie together.
CASES = [
    ((64, 64, 3, 3), Layout()),
    ((300, 70, 1, 1), Layout()),
    ((17, 10, 5, 5), Layout()),
    ((130, 33), Layout()),
    ((6, 2, 3, 3), Layout(groups=3)),
    ((5, 48, 5, 5), Layout(transposed=True)),
]
COMPILERS = {"host": ["cc", "-march=native"], "arm": ["aarch64-linux-gnu-gcc", "-static"]}
EMULATOR = "qemu-aarch64-static"
HAS_ALL = {"host": bool(shutil.which("cc")), "arm": bool(shutil.which(COMPILERS["arm"][0]) and shutil.which(EMULATOR))}


@pytest.fixture(autouse=True)
def _compiled_anew() -> Iterator[None]:
    if (reason := group_prox.why_unavailable()) is not None:
        pytest.skip(f"no kernel here: {reason}")
    group_prox.load.cache_clear()
    yield
    group_prox.load.cache_clear()


def problem(shape: tuple[int, ...], layout: Layout, channels_last: bool) -> tuple[Tensor, AdamMetric, float]:
    """A weight, its metric, and a threshold that half of its groups are below."""
    generator = torch.Generator().manual_seed(math.prod(shape))
    weight = torch.randn(shape, generator=generator)
    moment = 1e-6 * torch.randn(shape, generator=generator).square()
    if channels_last and len(shape) == 4:
        weight, moment = (a.to(memory_format=torch.channels_last) for a in (weight, moment))
    metric = AdamMetric(moment, 0.01, 1e-8)
    scaled = group_view(metric.diagonal(moment) * weight, "input_channels", layout)
    return weight, metric, 0.999 * float(group_norm(scaled).median())


def expected_of(weight: Tensor, metric: AdamMetric, threshold: float, layout: Layout) -> Tensor:
    wide = weight.double()
    size = group_view(wide, "input_channels", layout)[:, 0].numel()
    metrics = [AdamMetric(metric.second_moment.double(), metric.bias_correction, metric.eps)]
    GroupLasso(threshold / math.sqrt(size)).prox_([wide], 1.0, metrics, [layout])
    return wide


def check(weight: Tensor, before: Tensor, expected: Tensor, layout: Layout) -> None:
    errors = group_norm(group_view(weight - expected, "input_channels", layout))
    assert (errors <= 5e-7 * group_norm(group_view(before.double(), "input_channels", layout))).all()
    zero = group_norm(group_view(expected, "input_channels", layout)) == 0
    assert torch.equal(group_norm(group_view(weight, "input_channels", layout)) == 0, zero)


@pytest.mark.parametrize("channels_last", [False, True])
def test_processors_without_wide_registers_get_the_same(channels_last: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    results: dict[str, list[Tensor]] = {}
    shrunk: dict[str, list[Tensor]] = {}
    for capability in ("", "avx2", "default"):
        if capability:
            monkeypatch.setenv("ATEN_CPU_CAPABILITY", capability)
        group_prox.load.cache_clear()
        for shape, layout in CASES:
            weight, metric, threshold = problem(shape, layout, channels_last)
            before, expected = weight.clone(), expected_of(weight, metric, threshold, layout)
            assert group_prox.group_prox_([weight], [threshold], [metric], "input_channels", [layout]) == []
            check(weight, before, expected, layout)
            results.setdefault(capability, []).append(weight)
            euclidean = before.clone()
            norms = group_norm(group_view(euclidean, "input_channels", layout))
            half = 0.5 * float(norms.median())
            assert group_prox.group_prox_([euclidean], [half], None, "input_channels", [layout]) == []
            metric = AdamMetric(torch.ones_like(before), 1.0, 0.0)
            check(euclidean, before, expected_of(before, metric, half, layout), layout)
            shrunk.setdefault(capability, []).append(euclidean)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if " avx512f " in flags and " fma " in flags:
        for made in (results, shrunk):
            assert all(torch.equal(a, b) for a, b in zip(made[""], made["avx2"], strict=True))


@pytest.mark.parametrize("processor", [name for name, there in HAS_ALL.items() if there])
@pytest.mark.parametrize("adaptive", [True, False])
def test_alone_as_a_program(processor: str, adaptive: bool, tmp_path: Path) -> None:
    """For ARM too, where its compiler and an emulator are installed."""
    program = tmp_path / "prox"
    flags = [flag for flag in compiler.FLAGS if not flag.startswith("-march")]
    source = Path(__file__).with_name("group_prox_alone.c")
    command = [*COMPILERS[processor], *flags, f"-I{group_prox.SOURCE.parent}", str(source), "-o", str(program), "-lm"]
    subprocess.run(command, check=True, timeout=DEADLINE_SECONDS)
    run = [str(program)] if processor == "host" else [EMULATOR, str(program)]
    for shape, layout in CASES:
        for channels_last in (False, True):
            weight, metric, threshold = problem(shape, layout, channels_last)
            if not adaptive:
                threshold = 0.999 * float(group_norm(group_view(weight, "input_channels", layout)).median())
                metric = AdamMetric(torch.ones_like(weight), 1.0, 0.0)
            expected = expected_of(weight, metric, threshold, layout)
            view = split_view(weight, "input_channels", layout)
            header = struct.pack("<5q3f", *view.shape, adaptive, threshold, metric.bias_correction, metric.eps)
            moments = split_view(metric.second_moment, "input_channels", layout)
            given = header + view.numpy().tobytes() + (moments.numpy().tobytes() if adaptive else b"")
            answer = subprocess.run(run, input=given, capture_output=True, check=True, timeout=DEADLINE_SECONDS).stdout
            before = weight.clone()
            view.copy_(torch.frombuffer(bytearray(answer), dtype=torch.float32).view(view.shape))
            check(weight, before, expected, layout)
