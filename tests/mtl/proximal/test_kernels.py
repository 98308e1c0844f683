"""The compiled operator against the plain one, and its compilation: once, by one process, or not at all."""

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtl.penalties import GroupLasso
from mtl.proximal import compiler
from mtl.proximal import kernel as group_prox
from mtl.proximal.blocks import AdamMetric
from mtl.proximal.groups import group_view
from mtl.proximal.prox import group_norm
from tests.support.waiting import DEADLINE_SECONDS

SHAPES = [
    (64, 3, 7, 7),
    (64, 64, 3, 3),
    (300, 70, 1, 1),
    (17, 10, 5, 5),
    (4700, 6, 1, 1),
    (130, 33),
    (2, 5),
    (8, 40, 3),
]


@pytest.fixture(autouse=True)
def _compiled() -> None:
    reason = group_prox.why_unavailable()
    if reason is not None:
        pytest.skip(f"no kernel here: {reason}")


def problem(shape: tuple[int, ...], decades: float, scale: float, channels_last: bool) -> tuple[Tensor, AdamMetric]:
    generator = torch.Generator().manual_seed(math.prod(shape))
    weight = scale * torch.randn(shape, generator=generator)
    weight[:, 1] = 0
    moment = 1e-6 * torch.randn(shape, generator=generator).square()
    moment *= 10 ** (decades * (torch.rand(shape, generator=generator) - 0.5))
    if channels_last and len(shape) == 4:
        weight, moment = (a.to(memory_format=torch.channels_last) for a in (weight, moment))
    return weight, AdamMetric(moment, 0.01, 1e-8)


def in_float64(weight: Tensor, threshold: float, metric: AdamMetric | None) -> Tensor:
    """The same by the plain path, which takes what is not float32."""
    penalty = GroupLasso(threshold / math.sqrt(weight.numel() / weight.shape[1]))
    wide = weight.double()
    metrics = None if metric is None else [AdamMetric(metric.second_moment.double(), 0.01, metric.eps)]
    penalty.prox_([wide], 1.0, metrics)
    return wide


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1e-19, 1e-10, 1.0, 1e15])
def test_agrees_with_the_plain_path(shape: tuple[int, ...], adaptive: bool, channels_last: bool, scale: float) -> None:
    for decades in (0, 8):
        for fraction in (1e-6, 1e-3, 0.5, 0.99, 2.0):
            weight, metric = problem(shape, decades, scale, channels_last)
            d = metric.diagonal(metric.second_moment) if adaptive else torch.ones_like(weight)
            threshold = fraction * float(group_norm(group_view(weight * d, "input_channels")).median())
            expected = in_float64(weight, threshold, metric if adaptive else None)
            norms = group_norm(group_view(weight.double(), "input_channels"))
            left = group_prox.group_prox_([weight], [threshold], [metric] if adaptive else None, "input_channels")
            if threshold < group_prox.SMALLEST_THRESHOLD:
                assert left == [0]
                continue
            assert left == []
            errors = group_norm(group_view(weight - expected, "input_channels"))
            assert (errors <= 5e-7 * norms).all()
            zero = group_norm(group_view(expected, "input_channels")) == 0
            assert torch.equal(group_norm(group_view(weight, "input_channels")) == 0, zero)
            assert not torch.signbit(weight[weight == 0]).any()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_many_layers_and_threads(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        problems = [problem(shape, 2, 1.0, layout) for shape in SHAPES for layout in (False, True)]
        weights, metrics = [w for w, _ in problems], [m for _, m in problems]
        expected = [in_float64(w, 1e-3, m) for w, m in problems]
        assert group_prox.group_prox_(weights, [1e-3] * len(weights), metrics, "input_channels") == []
        for weight, reference in zip(weights, expected, strict=True):
            torch.testing.assert_close(weight.double(), reference, rtol=1e-5, atol=1e-6)
    finally:
        torch.set_num_threads(before)


# Larger than a block where there are threads to share it: narrow pieces of rows, or more columns than a block takes.
LARGE = [(602, 1500, 1, 1), (21, 9001), (70, 600, 3, 3), (33, 30, 200)]


def on_threads(count: int, weights: list[Tensor], thresholds: list[float], metrics: list[AdamMetric] | None) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        assert group_prox.group_prox_(weights, thresholds, metrics, "input_channels") == []
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("adaptive", [False, True])
def test_results_do_not_depend_on_the_number_of_threads(adaptive: bool) -> None:
    results = []
    for threads in (1, 2, 7):
        problems = [problem(shape, 2, 1.0, layout) for shape in LARGE for layout in (False, True)]
        weights, metrics = [w for w, _ in problems], [m for _, m in problems] if adaptive else None
        on_threads(threads, weights, [1e-3] * len(weights), metrics)
        results.append(weights)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("threads", [1, 7])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", LARGE)
def test_euclidean_leaves_some_groups_as_they_are(shape: tuple[int, ...], channels_last: bool, threads: int) -> None:
    """Those of which 1 - threshold / norm is 1 in float32, and those that are zero, alone and many side by side."""
    weight, _ = problem(shape, 0, 1.0, channels_last)
    groups = group_view(weight, "input_channels")
    generator = torch.Generator().manual_seed(0)
    kind = torch.randint(4, (shape[1],), generator=generator)
    kind[shape[1] // 3 : 2 * shape[1] // 3] = 0
    threshold = 0.5 * float(group_norm(groups).median())
    groups[:, kind == 0] *= 1e9
    groups[:, kind == 1] = -0.0
    groups[:, kind == 2] *= 0.1
    before, expected = weight.clone(), in_float64(weight, threshold, None)
    on_threads(threads, [weight], [threshold], None)
    errors = group_norm(group_view(weight - expected, "input_channels"))
    assert (errors <= 5e-7 * group_norm(group_view(before.double(), "input_channels"))).all()
    assert torch.equal(groups[:, kind == 0], group_view(before, "input_channels")[:, kind == 0])
    assert (groups[:, (kind == 1) | (kind == 2)] == 0).all()
    assert (groups[:, kind == 3] != 0).any()
    assert not torch.signbit(weight[weight == 0]).any()


@pytest.mark.parametrize("adaptive", [False, True])
def test_nan_stays_nan(adaptive: bool) -> None:
    weight, metric = problem((32, 16, 3, 3), 0, 1.0, False)
    weight[3, 5, 1, 1] = math.nan
    group_prox.group_prox_([weight], [1e-3], [metric] if adaptive else None, "input_channels")
    assert weight[3, 5, 1, 1].isnan()
    assert weight[:, 6:].isfinite().all()


def test_leaves_to_the_plain_path_what_it_cannot_do() -> None:
    weight, metric = problem((8, 8, 3, 3), 0, 1.0, False)
    others = [
        (weight.double(), AdamMetric(metric.second_moment.double(), 0.01, 1e-8)),
        (weight.bfloat16(), metric),
        (weight[:, ::2], AdamMetric(metric.second_moment[:, ::2], 0.01, 1e-8)),
        (weight.clone(), AdamMetric(metric.second_moment.to(memory_format=torch.channels_last), 0.01, 1e-8)),
        (torch.zeros(0, 4), AdamMetric(torch.zeros(0, 4), 0.01, 1e-8)),
    ]
    for other, its_metric in others:
        before = other.clone()
        assert group_prox.group_prox_([other], [1e-3], [its_metric], "input_channels") == [0]
        assert torch.equal(other, before)
    assert group_prox.group_prox_([weight], [0.0], [metric], "input_channels") == [0]
    assert group_prox.group_prox_([weight], [1e-3], [metric], "filters") == [0]


def test_can_be_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARSIMONY_KERNELS", "0")
    assert group_prox.why_unavailable() == "PARSIMONY_KERNELS=0"
    weight, metric = problem((8, 8), 0, 1.0, False)
    assert group_prox.group_prox_([weight], [1e-3], [metric], "input_channels") == [0]


# In a process of its own, and without torch, which takes longer to start than the compiler.
LOAD = """
import sys
from pathlib import Path
from mtl.proximal.compiler import load_library
print(load_library(Path(sys.argv[1])).group_prox is not None)
"""


def test_processes_at_once_compile_once(tmp_path: Path) -> None:
    real = next(path for name in compiler.COMPILERS if (path := shutil.which(name)))
    calls = tmp_path / "calls"
    wrapper = tmp_path / "bin" / "cc"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\ncase "$*" in *-shared*) echo call >> {calls};; esac\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    environment = {"PATH": f"{wrapper.parent}:{os.environ['PATH']}", "PARSIMONY_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", LOAD, str(group_prox.SOURCE)]
    for count in (5, 1):
        started = [
            subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]
        assert [process.communicate(timeout=DEADLINE_SECONDS)[0] for process in started] == ["True\n"] * count
    assert calls.read_text() == "call\n"
    assert [path.suffix for path in (tmp_path / "cache" / "kernels").iterdir() if path.suffix != ".lock"] == [".so"]


def test_a_header_counts_as_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARSIMONY_CACHE", str(tmp_path / "cache"))
    source, header = tmp_path / "answer.c", tmp_path / "number.h"
    source.write_text('#include "number.h"\nint answer(void) { return NUMBER; }\n')
    for number in (1, 2):
        header.write_text(f"#define NUMBER {number}\n")
        assert compiler.load_library(source).answer() == number


@pytest.fixture
def _loaded_anew() -> Iterator[None]:
    group_prox.load.cache_clear()
    yield
    group_prox.load.cache_clear()


@pytest.mark.usefixtures("_loaded_anew")
@pytest.mark.parametrize("trouble", ["no compiler", "broken compiler", "no folder"])
def test_without_a_kernel_the_plain_path_serves(trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARSIMONY_CACHE", "/proc/none" if trouble == "no folder" else str(tmp_path / "cache"))
    if trouble != "no folder":
        monkeypatch.setenv("PATH", str(tmp_path))
    if trouble == "broken compiler":
        (tmp_path / "cc").write_text('#!/bin/sh\n[ "$1" = --version ] || { echo no such thing >&2; exit 3; }\n')
        (tmp_path / "cc").chmod(0o755)
    words = {
        "no compiler": "none of the compilers cc, gcc, clang",
        "broken compiler": "no such thing",
        "no folder": "/proc/none",
    }
    assert words[trouble] in str(group_prox.why_unavailable())
    weight, metric = problem((8, 8), 0, 1.0, False)
    expected = in_float64(weight, 1e-3, metric)
    GroupLasso(1e-3 / math.sqrt(8)).prox_([weight], 1.0, [metric])
    torch.testing.assert_close(weight.double(), expected, rtol=1e-5, atol=1e-6)
