"""Hand-made chains whose compact sizes can be told with a pencil: the channels that can go are gone, and no others."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl.compaction import certify, compact
from mtl.networks.measurement import count_macs
from tests.support.families import random_state, small_vit

SIZE = (12, 16)


def images(seed: int = 0) -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check(model: nn.Module) -> nn.Module:
    """The compact form, found equal with and without folding, selections, and channels_last."""
    model.double().eval()
    for fold in (True, False):
        for how in ("always", "never"):
            small = compact(model, images(), fold=fold, selections=how, memory_format="channels_last")
            certify(model, small, [images(), images(1)], 1e-11)
    return compact(model, images(), selections="always", memory_format="contiguous")


def zero(weight: Tensor, *channels: int) -> None:
    """Input channels of a layer that is not grouped."""
    with torch.no_grad():
        weight[:, list(channels)] = 0


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")}


class Inverted(nn.Module):
    """Expansion to 8 channels, a depthwise convolution, perhaps squeeze and excite, projection to 4; twice."""

    def __init__(self, squeeze: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.expand, self.norm, self.act = nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8), nn.Hardswish()
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.squeeze = nn.Conv2d(8, 6, 1) if squeeze else None
        self.excite = nn.Conv2d(6, 8, 1) if squeeze else None
        self.project = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.depthwise(self.act(self.norm(self.expand(x))))
        if self.squeeze is not None:
            gate = self.excite(F.relu(self.squeeze(y.mean((2, 3), keepdim=True))))
            y = y * F.hardsigmoid(gate)
        return x + self.project(y)


def test_a_depthwise_chain_loses_what_its_projection_does_not_read_and_what_is_zero() -> None:
    model = Inverted(squeeze=False)
    random_state(model, 0)
    zero(model.project.weight, 1, 5)
    with torch.no_grad():
        model.depthwise.weight[[2, 5]] = 0  # without a bias: channel 2 is 0 as well
    zero(model.expand.weight, 3)
    small = check(model)
    assert shapes(small) == {
        "stem.weight": (4, 3, 3, 3),  # the stream is the result
        "expand.weight": (5, 3, 1, 1),
        "depthwise.weight": (5, 1, 3, 3),
        "project.weight": (4, 5, 1, 1),
    }


def test_squeeze_and_excite_keeps_what_the_squeeze_reads_and_the_gates_of_what_is_read() -> None:
    model = Inverted(squeeze=True)
    random_state(model, 0)
    zero(model.project.weight, 1, 5, 6)
    assert model.squeeze is not None
    assert model.excite is not None
    zero(model.squeeze.weight, 1, 2, 5)
    zero(model.excite.weight, 0, 4)
    with torch.no_grad():
        model.depthwise.weight[7] = 0  # zero times its gate
    found = shapes(check(model))
    assert found["depthwise.weight"] == (5, 1, 3, 3)  # 0, 2, 3, 4, and 6, of which the squeeze reads
    assert found["squeeze.weight"] == (4, 4, 1, 1)  # of 0, 3, 4, 6
    assert found["excite.weight"] == (4, 4, 1, 1)  # for 0, 2, 3, 4
    assert found["project.weight"] == (4, 4, 1, 1)


def test_a_grouped_convolution_loses_groups_and_keeps_as_many_channels_in_each() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 12, 1), nn.SiLU(), nn.Conv2d(12, 12, 3, padding=1, groups=3), nn.Conv2d(12, 2, 1)
    )
    random_state(model, 0)
    zero(model[3].weight, 4, 5, 6, 7)  # all that the second group gives
    zero(model[3].weight, 0, 9)  # one of four in each of the others
    with torch.no_grad():
        model[2].weight[:, 3] = 0  # the last input of each group
    small = check(model)
    assert small.get_submodule("2").groups == 2
    assert shapes(small) == {"0.weight": (6, 3, 1, 1), "2.weight": (6, 3, 3, 3), "3.weight": (2, 6, 1, 1)}


def test_a_grouped_convolution_with_uneven_groups_keeps_the_larger_number() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 2, 1))
    random_state(model, 0)
    zero(model[2].weight, 0, 1, 2)  # one is left of the first group, four of the second
    with torch.no_grad():
        model[1].weight[:4, :3] = 0  # the first reads one, the second three
        model[1].weight[4:, 0] = 0
    assert shapes(check(model)) == {"0.weight": (6, 3, 1, 1), "1.weight": (8, 3, 3, 3), "2.weight": (2, 5, 1, 1)}


def test_a_constant_that_fills_up_a_group_counts_once() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 2, 1))
    random_state(model, 0)
    with torch.no_grad():
        model[0].weight[4] = 0  # the first group reads four, the second three and this constant
    assert shapes(check(model))["1.weight"] == (8, 4, 3, 3)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_transposed_convolutions(groups: int) -> None:
    up = nn.ConvTranspose2d(8, 8, 3, 2, 1, output_padding=1, groups=groups)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU6(), up, nn.BatchNorm2d(8), nn.GELU(), nn.Conv2d(8, 2, 1))
    random_state(model, 0)
    zero(model[5].weight, 0, 4)  # one of each half
    with torch.no_grad():
        up.weight[[1, 5]] = 0  # inputs
        model[0].weight[3] = 0  # a constant, of which a transposed convolution makes different pixels
    small = check(model)
    read = {1: 6, 2: 6, 8: 6}[groups]
    wide = {1: 6, 2: 6, 8: 6}[groups]
    if groups == 8:  # inputs 0, 4 are not read; 1 and 5 give constants, which the last layer's bias takes
        read = wide = 4
    assert small.get_submodule("0").weight.shape[0] == read
    assert small.get_submodule("5").weight.shape[1] == wide


class Next(nn.Module):
    """A ConvNeXt block of 6 channels, with a norm in channels_last and a scale, and what reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 2, 2)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.norm = nn.LayerNorm(6, eps=1e-6)
        self.wide, self.narrow = nn.Linear(6, 10), nn.Linear(10, 6)
        self.gamma = nn.Parameter(torch.ones(6))
        self.last = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.narrow(F.gelu(self.wide(y))) * self.gamma
        return self.last(x + y.permute(0, 3, 1, 2))


def test_a_convnext_block_keeps_its_stream_and_loses_hidden_units_and_what_is_not_read_of_the_norm() -> None:
    model = Next()
    random_state(model, 0)
    zero(model.wide.weight, 0, 2, 4)
    zero(model.narrow.weight, 1, 2, 9)
    zero(model.last.weight, 5)
    with torch.no_grad():
        model.gamma[3] = 0
        model.norm.weight[1] = 0  # the norm gives a constant there, which the next bias takes
    small = check(model)
    assert shapes(small) == {
        "stem.weight": (6, 3, 2, 2),
        "depthwise.weight": (6, 1, 3, 3),
        "norm.weight": (6,),
        "wide.weight": (7, 2),
        "narrow.weight": (5, 7),
        "last.weight": (2, 5, 1, 1),
    }


def test_heads_and_hidden_units_of_a_vit_are_gone() -> None:
    model = small_vit()
    random_state(model, 0)
    block = model.vit.blocks[0]
    zero(block.attn.qkv.weight, 0, 1, 2, 3)
    zero(block.attn.proj.weight, *range(8, 16))  # the second of three heads
    zero(block.mlp.fc2.weight, *range(40))
    zero(model.vit.blocks[1].attn.proj.weight, *range(24))  # all heads
    model.double().eval()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    small = compact(model, x, selections="always", memory_format="contiguous")
    certify(model, small, [x], 1e-11)
    found = shapes(small)
    assert found["vit.blocks.0.attn.qkv.weight"] == (2 * 3 * 8, 20)
    assert found["vit.blocks.0.attn.proj.weight"] == (24, 16)
    assert found["vit.blocks.0.mlp.fc1.weight"] == (96 - 40, 24)
    assert found["vit.blocks.0.mlp.fc2.weight"] == (24, 96 - 40)
    assert not any(name.startswith("vit.blocks.1.attn") for name in found)
    # 17 tokens: two heads' projections, products with keys and values, and the units that are left.
    tokens, first = 17, 16 * 24 * 3 * 256
    heads = 20 * 48 + 2 * 16 * 17 + 16 * 24
    hidden = 2 * 24 * (96 - 40) + 2 * 24 * 96
    assert count_macs(small.float(), (64, 64)) == first + tokens * (heads + hidden) + 16 * 24 * 2


class Torchs(nn.Module):
    """torch's own attention on the tokens of a map, without a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 4, 4)
        self.position = nn.Parameter(torch.randn(1, 12, 12))
        self.norm = nn.LayerNorm(12)
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        n, c, h, w = x.shape
        tokens = x.reshape(n, c, h * w).permute(0, 2, 1) + self.position
        y = self.norm(tokens)
        tokens = tokens + self.attention(y, y, y, need_weights=False)[0]
        return self.head(tokens.mean(1)), tokens.transpose(1, 2).unflatten(2, (h, w))


def test_torchs_attention_loses_heads() -> None:
    model = Torchs()
    random_state(model, 0)
    zero(model.attention.out_proj.weight, 0, 1, 2, 3)
    found = shapes(check(model))
    assert found["attention.in_proj.weight"] == (24, 12)
    assert found["attention.out_proj.weight"] == (12, 8)
    expected = 12 * (12 * 48 + 12 * 24 + 2 * 12 * 8 + 12 * 8) + 12 * 5
    small = compact(model.float(), images().float(), selections="always", memory_format="contiguous")
    assert count_macs(small, SIZE) == expected
    dense = 12 * (12 * 48 + 12 * 36 + 2 * 12 * 12 + 12 * 12) + 12 * 5
    assert count_macs(model, SIZE) == dense


class Gated(nn.Module):
    """Halves of one convolution, one of which gates the other; a norm of groups; a pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.norm, self.last = nn.Conv2d(3, 16, 1), nn.GroupNorm(4, 8), nn.Conv2d(8, 8, 1)
        self.end = nn.Conv2d(2, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.both(x).chunk(2, dim=1)
        x = self.norm(value * gate.sigmoid() * 0.5 + 1)
        return self.end(F.pixel_shuffle(self.last(x), 2))


def test_gated_halves_lose_the_same_channels_and_a_norm_whole_groups() -> None:
    model = Gated()
    random_state(model, 0)
    zero(model.last.weight, 0, 1, 4)  # the first group and half of the third
    zero(model.end.weight, 1)
    assert shapes(check(model)) == {
        "both.weight": (12, 3, 1, 1),
        "mul_1.weight": (6,),  # times 0.5
        "norm.weight": (6,),
        "last.weight": (4, 5, 1, 1),
        "end.weight": (1, 1, 1, 1),
    }


ACTIVATIONS = [
    *(nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Hardswish(), nn.Hardsigmoid(), nn.Sigmoid(), nn.ReLU6(), nn.Tanh()),
    *(nn.LeakyReLU(0.2), nn.ELU(0.5), nn.Softplus(2.0, 10.0), nn.Mish(), nn.SELU(), nn.Hardtanh(-0.5, 2.0)),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_constants_go_through_activations(activation: nn.Module) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), activation, nn.Conv2d(4, 2, 1))
    random_state(model, 0)
    with torch.no_grad():
        model[0].weight[[0, 2]] = 0
    assert shapes(check(model))["2.weight"] == (2, 2, 1, 1)


ODD: dict[str, Callable[[Tensor], Tensor]] = {
    "a map's own square": lambda x: x * x,
    "minus": lambda x: 1 - x / 2,
    "another read of what was overwritten": lambda x: x.relu_() + x,
    "a scale by the number of channels": lambda x: x * x.shape[1] ** -0.5,
    "tokens and back": lambda x: x.flatten(2).transpose(1, 2).transpose(1, 2).unflatten(2, (x.shape[2], x.shape[3])),
    "the first row": lambda x: x[:, :, 0],
    "some channels": lambda x: x[:, 1:3] * x[:, -2:],
    "axes of one": lambda x: x.mean((2, 3))[:, :, None, None] * x + x.mean((2, 3)).unsqueeze(-1).unsqueeze(-1),
    "gates of rows and columns": lambda x: x.mean(2, keepdim=True) * x.mean(3, keepdim=True),
    "a unit that gates": lambda x: F.glu(x, 1),
}


@pytest.mark.parametrize("name", ODD)
def test_other_operations(name: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return ODD[name](self.last(self.first(x)))

    model = Net()
    random_state(model, 0)
    zero(model.last.weight, 1)
    with torch.no_grad():
        model.last.weight[2] = 0
    check(model)


def test_zeros_around_a_map_make_borders_of_a_constant() -> None:
    """Of four channels one is constant and one is zero before the padding: only the second is gone after it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        model[0].weight[:2] = 0
        model[0].bias[:2] = torch.tensor([0.5, 0.0])
    assert shapes(check(model)) == {"0.weight": (3, 3, 1, 1), "2.weight": (2, 3, 1, 1)}
