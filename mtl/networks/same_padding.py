"""timm's "same" padding of layers with stride 1, by numbers that do not depend on the image, so that it can be traced.

timm computes it from each input's size. With stride 1 it is dilation * (kernel - 1) in all whatever the size, the
larger half right and below. ConvNeXt has such layers at output strides below its own.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class PaddedSequential(nn.Sequential):
    """The same layers by the same names; before some of them zeros are added around the map. Shapes as the layers'."""

    def __init__(self, layers: nn.Sequential, pads: dict[str, tuple[int, int, int, int]]) -> None:
        """pads: by a layer's name the columns left and right of the map and the rows above and below it."""
        super().__init__()
        for name, layer in layers.named_children():
            self.add_module(name, layer)
        self._names = [name for name, _ in layers.named_children()]
        for name, pad in pads.items():
            self.add_module(f"pad{name}", nn.ZeroPad2d(pad))

    def forward(self, x: Tensor) -> Tensor:
        for name in self._names:
            if f"pad{name}" in self._modules:
                x = self.get_submodule(f"pad{name}")(x)
            x = self.get_submodule(name)(x)
        return x


def make_traceable(network: nn.Module) -> None:
    """Replace such layers of a network of timm's: average pools, and convolutions within a Sequential."""
    from timm.layers import Conv2dSame
    from timm.layers.pool2d_same import AvgPool2dSame

    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is AvgPool2dSame and layer.stride == (1, 1):
                kernel: Any = layer.kernel_size
                # Zeros count in the mean, as they do in timm's.
                setattr(parent, name, nn.Sequential(nn.ZeroPad2d(_pad(kernel, (1, 1))), nn.AvgPool2d(kernel, 1)))
            if type(layer) is nn.Sequential:
                same = {key: one for key, one in layer.named_children() if type(one) is Conv2dSame}
                pads = {key: _pad(one.kernel_size, one.dilation) for key, one in same.items() if one.stride == (1, 1)}
                if pads:
                    padded = PaddedSequential(layer, pads)
                    for key in pads:
                        setattr(padded, key, _plain(same[key]))
                    setattr(parent, name, padded)


def _pad(kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, int, int, int]:
    rows, columns = (step * (size - 1) for size, step in zip(kernel, dilation, strict=True))
    return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2


def _plain(layer: nn.Conv2d) -> nn.Conv2d:
    """The convolution without its padding, of the same weights."""
    size: Any = layer.kernel_size
    dilation: Any = layer.dilation
    # On the meta device, as its own weights would be drawn from the generator that the network's come from.
    with torch.device("meta"):
        plain = nn.Conv2d(
            layer.in_channels, layer.out_channels, size, dilation=dilation, groups=layer.groups,
            bias=layer.bias is not None,
        )  # fmt: skip
    plain.weight, plain.bias = layer.weight, layer.bias
    return plain
