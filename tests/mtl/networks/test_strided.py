"""1 x 1 convolutions with a stride: the contiguous path's numbers at every width, and no memory written past."""

import os
import subprocess
import sys
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from mtl.compaction import build, compact
from mtl.networks import backbones
from mtl.networks.backbones import DilatedResNet
from mtl.networks.model_size import BLOCKS
from mtl.networks.strided import StridedPointwise, safe_convolution
from mtl.training import Training
from tests.support.compactable import randomise, zero_channels, zero_filters
from tests.support.small import TASKS, arrays, config

WIDTHS = [*range(1, 18), 24, 31, 32, 33, 64]
NARROW = (1, 2, 3, 5, 7, 8, 9)
CHILD_SECONDS = 600


def gradients(layer: nn.Module, size: tuple[int, int], memory_format: torch.memory_format) -> list[Tensor]:
    """What a layer gives for images, and the gradients of its input and weight."""
    generator = torch.Generator().manual_seed(0)
    (weight,) = layer.parameters()
    weight.grad = None
    x = torch.randn(2, weight.shape[1], *size, generator=generator).contiguous(memory_format=memory_format)
    output = layer.to(memory_format=memory_format)(x.requires_grad_())
    output.backward(torch.randn(output.shape, generator=generator).contiguous(memory_format=memory_format))
    assert weight.grad is not None
    assert x.grad is not None
    return [output.detach(), x.grad, weight.grad]


def check_as_contiguous(layer: nn.Module) -> None:
    """A layer in channels_last against a plain convolution of its weight in the contiguous format, to 1e-5."""
    (weight,) = layer.parameters()
    filters, channels = weight.shape[:2]
    plain = nn.Conv2d(channels, filters, 1, 2, bias=False)
    with torch.no_grad():
        plain.weight.copy_(weight)
    for size in ((24, 32), (13, 16)):
        expected = gradients(plain, size, torch.contiguous_format)
        for found, wanted in zip(gradients(layer, size, torch.channels_last), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def check_backbones(widths: Iterable[int]) -> None:
    """The one shortcut with a stride, of a backbone of each width."""
    for width in widths:
        with torch.device("meta"):
            shortcut = DilatedResNet("resnet18", width, (1, 1, 1, 1)).layer2[0].downsample[0]
        assert shortcut.stride == (2, 2)
        shortcut.to_empty(device="cpu").reset_parameters()
        check_as_contiguous(shortcut)


def check_compact_networks(widths: Iterable[int]) -> None:
    for width in widths:
        settings = {"in": width, "out": 8, "bias": False, "kernel": (1, 1)}
        settings |= {"stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)}
        network = build(
            [
                {"name": "x", "op": "input", "inputs": [], "settings": {"channels": width}},
                {"name": "layer.0", "op": "conv", "inputs": ["x"], "settings": settings},
                {"name": "output", "op": "output", "inputs": ["layer.0"], "settings": {"structure": "layer.0"}},
            ]
        )
        check_as_contiguous(network)


def check_training() -> None:
    """Two trainings of a narrow network, the second of its compact form, end with finite losses."""
    settings = config(
        tasks=("depth",), backbone_width=4, epochs=1, strength=0.5, lr_schedule="constant", retraining="fine_tune"
    )
    training = Training(settings, [TASKS[1]], arrays(), torch.device("cpu"))
    while not training.done:
        training.run_epoch()
    training.test()


def test_every_width_has_the_contiguous_paths_numbers() -> None:
    torch.manual_seed(0)
    check_backbones(WIDTHS)
    check_compact_networks(WIDTHS)


def test_on_a_cpu_without_avx512_no_memory_is_written_past() -> None:
    """In a process whose allocator looks at what lies behind each block (where it is glibc's)."""
    code = f"from {__name__} import *; check_backbones(NARROW); check_compact_networks(NARROW); check_training()"
    isa = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "1"}
    malloc = {"LD_PRELOAD": "libc_malloc_debug.so.0", "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **isa, **malloc},
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("name", BLOCKS)
def test_no_backbone_and_no_compact_network_has_a_layer_that_is_not_safe(name: str) -> None:
    for width in (1, 2, 4, 7):
        backbone = DilatedResNet(name, width, (1, 1, 1, 1))
        randomise(backbone, width, dead_scales=0)
        zero_channels(backbone, 0.5, width)
        zero_filters(backbone, 0.2, width)
        small = compact(
            backbone, torch.zeros(1, 3, 32, 32), fold=False, selections="always", memory_format="channels_last"
        )
        for network in (backbone, small):
            layers = [module for module in network.modules() if type(module) is nn.Conv2d]
            assert all(safe_convolution(layer) is layer for layer in layers)


def test_wide_layers_and_others_stay_as_they_are() -> None:
    for layer in (
        nn.Conv2d(8, 4, 1, stride=2),
        nn.Conv2d(3, 4, 1),
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.Conv2d(3, 4, 1, stride=2, padding=1),
        nn.Conv2d(3, 3, 1, stride=2, groups=3),
    ):
        assert safe_convolution(layer) is layer
    assert type(DilatedResNet("resnet18", 8).layer2[0].downsample[0]) is nn.Conv2d
    layer = nn.Conv2d(7, 4, 1, stride=(1, 3))
    safe = safe_convolution(layer)
    assert isinstance(safe, StridedPointwise)
    x = torch.randn(2, 7, 5, 8)
    torch.testing.assert_close(safe(x), layer(x))


def test_the_weights_of_a_seed_stay_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    safe = DilatedResNet("resnet18", 4)
    monkeypatch.setattr(backbones, "safe_convolution", lambda layer: layer)
    torch.manual_seed(3)
    plain = DilatedResNet("resnet18", 4)
    assert list(safe.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(value, safe.state_dict()[name]) for name, value in plain.state_dict().items())
