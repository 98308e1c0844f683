"""1 x 1 convolutions with a stride, of few channels: computed without a path of oneDNN that corrupts memory.

oneDNN 3.13 (torch 2.15) on CPUs with AVX2 and without AVX-512 writes past its memory in the weight gradient of a 1 x 1
convolution with a stride and 1 to 7 input channels in channels_last; the forward pass, the input's gradient, 8 and
more channels, contiguous tensors and padded or larger kernels are right. All machines avoid it in the same way, so
that a trial gives the same numbers wherever it runs; with so few channels the cost is negligible.
"""

from torch import Tensor, nn
from torch.nn import functional as F

FEWEST_CHANNELS = 8  # that path of oneDNN rounds the channels that it writes up to a register of AVX2


class StridedPointwise(nn.Conv2d):
    """A 1 x 1 convolution without padding that first takes the pixels that it reads, and then has a stride of 1."""

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.stride
        return F.conv2d(x[:, :, ::rows, ::columns], self.weight, self.bias)


def make_safe(network: nn.Module) -> None:
    """Have every plain convolution of a network as `safe_convolution` gives it."""
    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if type(module) is nn.Conv2d and (safe := safe_convolution(module)) is not module:
                setattr(parent, name, safe)


def safe_convolution(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer itself or, where its weight gradient would not be safe, one of the same parameters and outputs."""
    pointwise = layer.kernel_size == (1, 1) and layer.padding == (0, 0) and layer.groups == 1
    if not pointwise or layer.stride == (1, 1) or layer.in_channels >= FEWEST_CHANNELS:
        return layer
    # On the meta device, as its own weights would be drawn from the generator that the network's come from.
    safe = StridedPointwise(layer.in_channels, layer.out_channels, 1, bias=layer.bias is not None, device="meta")
    safe.stride = layer.stride
    safe.weight, safe.bias = layer.weight, layer.bias
    return safe
