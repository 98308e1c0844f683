"""Compact networks of timm's families give what the networks give, whatever is zero."""

import copy
import functools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mtl.compaction import build, certify, compact, load_compact, save_compact
from mtl.compaction.compact import MemoryFormat, Selections, fold_compact
from mtl.errors import BadInput
from mtl.networks.export import write_export
from mtl.networks.measurement import count_macs
from tests.support.families import Features, Vision, random_state, small_network, zero_groups

FAMILIES = ["mobilenetv3", "efficientnet", "lite", "convnext", "convnextv2", "regnetx", "regnety", "resnet", "vit"]


def images(seed: int = 0, count: int = 2) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@functools.cache
def made(family: str) -> nn.Module:
    return small_network(family).double().eval()


@functools.cache
def zeroed(family: str) -> nn.Module:
    """With half of each layer's groups zero, in float32."""
    model = copy.deepcopy(made(family))
    random_state(model, 3)
    zero_groups(model, 0.5, 3)
    return model.float()


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    share=st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    fold=st.booleans(),
    selections=st.sampled_from(["always", "never"]),
    memory_format=st.sampled_from(["contiguous", "channels_last"]),
)
def test_any_pattern_gives_the_same_outputs(
    family: str, seed: int, share: float, fold: bool, selections: Selections, memory_format: MemoryFormat
) -> None:
    model = made(family)
    random_state(model, seed)
    zero_groups(model, share, seed)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small = compact(model, images(seed), fold=fold, selections=selections, memory_format=memory_format)
    certify(model, small, [images(seed), images(seed + 1, 3)], 1e-10)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.dtype == torch.float64 for p in small.parameters())


@pytest.mark.parametrize("family", ["mobilenetv3", "convnextv2", "regnety", "resnet", "vit"])
def test_half_zero_is_kept_in_files_and_folded(family: str, tmp_path: Path) -> None:
    model, x = zeroed(family), images().float()
    small = compact(model, x, selections="always", memory_format="channels_last")
    certify(model, small, [x], 1e-5)
    assert count_macs(small, (64, 64)) < 0.75 * count_macs(model, (64, 64))
    save_compact(tmp_path / "compact.pt", small)
    loaded, _ = load_compact(tmp_path / "compact.pt")
    assert torch.equal(loaded(x)["map"], small(x)["map"])
    fresh = build(small.meta["plan"])
    assert {n: v.shape for n, v in fresh.state_dict().items()} == {n: v.shape for n, v in small.state_dict().items()}
    unfolded = compact(model, x, fold=False, selections="always", memory_format="contiguous")
    certify(model, fold_compact(unfolded, x), [x], 1e-5)
    # Fine-tuned: no operation in place may spoil what a derivative needs.
    twin = copy.deepcopy(model).train()
    gradients = []
    for network in (twin.eval(), unfolded):
        own = x.clone().requires_grad_()
        network(own)["map"].square().sum().backward()
        gradients.append(own.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-4 * float(gradients[0].abs().max()))


@pytest.mark.parametrize("family", ["mobilenet", "convnext", "vit"])
@pytest.mark.parametrize("export_format", ["onnx", "torch"])
def test_exported(family: str, export_format: str, tmp_path: Path) -> None:
    x = images(5, 3).float()
    # Its first stages alone: export takes long.
    model = zeroed(family) if family != "mobilenet" else Features("mobilenetv3_small_050", out_indices=(2,)).eval()
    zero_groups(model, 0.5, 3)
    small = compact(model, x, selections="always", memory_format="channels_last")
    suffix = {"onnx": "onnx", "torch": "pt2"}[export_format]
    exported = write_export(export_format, small, x, tmp_path / f"model.{suffix}", {})
    for count in (1, 3):
        torch.testing.assert_close(exported(x[:count])["map"], model(x[:count])["map"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("tf_efficientnet_lite0", r"net\.conv_stem: Conv2dSame"),
        ("edgenext_xx_small", "reshape"),
        ("mobilevit_xxs", r"cannot be traced in net\."),
    ],
)
def test_what_is_not_known_is_refused_by_name(name: str, named: str) -> None:
    model = Features(name)
    with pytest.raises(BadInput, match=named) as error:
        compact(model, images().float(), selections="never", memory_format="contiguous")
    assert "\n" not in str(error.value)


def test_attention_of_another_kind_is_refused_by_name() -> None:
    model = Vision("vit_tiny_patch16_224", img_size=64, depth=1, embed_dim=24, qk_norm=True)
    with pytest.raises(BadInput, match=r"vit\.blocks\.0\.attn: Attention; allowed") as error:
        compact(model, images().float())
    assert "\n" not in str(error.value)
