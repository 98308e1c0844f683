"""The proximal step in Triton where there is no device: interpreted, compiled for devices elsewhere, and missing."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mtl.penalties import GroupLasso
from mtl.proximal import triton_kernel
from mtl.proximal.blocks import AdamMetric
from mtl.proximal.triton_kernel import tile_for

pytest.importorskip("triton")

ROOT = Path(__file__).parents[3]
SECONDS = 600


@pytest.mark.parametrize("tests", ["tests/mtl/proximal/test_triton.py", "tests/mtl/test_optimizer.py"])
def test_in_tritons_interpreter(tests: str) -> None:
    """In a process of their own, with the optimizer's steps on CPU taken by the interpreter."""
    # The solver's problems are float64, which the kernel does not take.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", tests, "-k", "not convex_solver"]
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=SECONDS
    )
    assert result.returncode == 0, result.stdout[-5000:]


COMPILE = """
import sys
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from mtl.proximal.group_prox_triton import compiled_or_interpreted
pointers = {"layers": "*i64", "tiles": "*i64", "root_sizes": "*fp32", "corrections": "*fp64", "step_strength": "*fp32"}
numbers = {"eps": "fp32", "element_share": "fp32", "max_steps": "i32", "tolerance": "fp32"}
names = ("adaptive", "sparse", "neighbours", "tile_elements", "tile_groups", "resident")
variants = (True, True, True, 256, 2, True), (True, False, False, 256, 1, False), (False, False, True, 256, 2, True)
for values in variants:
    constants = dict(zip(names, values))
    source = ASTSource(compiled_or_interpreted(), pointers | numbers | dict.fromkeys(names, "constexpr"), constants)
    made = compile(source, target=GPUTarget("cuda", int(sys.argv[1]), 32), options={"enable_fp_fusion": True})
    assert len(made.asm["cubin"]) > 1000
"""


@pytest.mark.parametrize("capability", ["80", "90"])
def test_compiles_for_devices_that_are_not_here(capability: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", COMPILE, capability], env=environment, cwd=ROOT, check=True, timeout=SECONDS)


def test_tiles_hold_their_groups() -> None:
    for inner in (1, 2, 9, 49, 3000):
        for size in (inner, 5 * inner, 300 * inner, 4608 * inner):
            tile = tile_for(size, inner)
            assert tile.resident == (size <= tile.elements)
            assert tile.neighbours == (inner == 1)
            assert tile.warps in (8, 16)


@pytest.fixture
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that has not launched anything."""
    cached = triton_kernel._kernel
    cached.cache_clear()
    monkeypatch.setattr(triton_kernel, "_failures", {})
    monkeypatch.setattr(triton_kernel, "_tried", set())
    yield
    cached.cache_clear()


class Refused:
    """A kernel for which the device is too old."""

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        raise RuntimeError("ptxas fatal: Value 'sm_30' is not defined\n")


@pytest.mark.usefixtures("_forgotten")
@pytest.mark.parametrize("trouble", ["no triton", "old device"])
def test_without_it_the_plain_path_serves_and_says_why_once(trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_kernel, "serves", lambda device: True)  # as if the weights were on CUDA
    if trouble == "no triton":
        monkeypatch.setitem(sys.modules, "mtl.proximal.group_prox_triton", None)
    else:
        monkeypatch.setattr(triton_kernel, "_kernel", lambda in_python: Refused())
    torch.manual_seed(0)
    weight, moment = torch.randn(8, 8, 3, 3), torch.rand(8, 8, 3, 3)
    wide = weight.double()
    strength = 1.0 / math.sqrt(weight[:, 0].numel())
    GroupLasso(strength).prox_([wide], 1.0, [AdamMetric(moment.double(), 0.01, 1e-8)])
    words = "triton is not installed" if trouble == "no triton" else "ptxas fatal"
    with pytest.warns(UserWarning, match=rf"the proximal step on cpu takes the plain path.*{words}") as warned:
        _twice(GroupLasso(strength), weight, AdamMetric(moment, 0.01, 1e-8))
    assert len(warned) == 1
    assert words in str(triton_kernel.why_unavailable(torch.device("cpu")))
    torch.testing.assert_close(weight.double(), wide, rtol=1e-5, atol=1e-6)


def _twice(penalty: GroupLasso, weight: torch.Tensor, metric: AdamMetric) -> None:
    for tried in (weight.clone(), weight):
        penalty.prox_([tried], 1.0, [metric])
