"""The modules of compact networks that torch does not have."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_RUNS = 8  # up to this many runs, copying each takes less time than gathering all


def along(numbers: Tensor, axis: int, dims: int) -> Tensor:
    """(C,) as a tensor that broadcasts along an axis of a value."""
    return numbers.view(*[1] * axis, -1, *[1] * (dims - axis - 1))


class Shift(nn.Module):
    """Adds a number to each channel: what is left of a branch that is constant."""

    def __init__(self, channels: int, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + along(self.bias, self.axis, x.ndim)


class Scale(nn.Module):
    """Multiplies each channel by a number."""

    def __init__(self, channels: int, axis: int = 1) -> None:
        super().__init__()
        self.axis = axis
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * along(self.weight, self.axis, x.ndim)


class Embed(nn.Module):
    """Adds a tensor (1, ...), such as an embedding of positions."""

    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(1, *shape) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.value


class Prepend(nn.Module):
    """Puts learned tokens before the tokens of (N, L, C), such as a class token."""

    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(1, tokens, channels) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.value.expand(x.shape[0], -1, -1), x], dim=1)


class ResponseNorm(nn.Module):
    """Global response normalisation (Woo et al. 2023) of a map (N, C, H, W) or (N, H, W, C).

    x + bias + weight * x * n, where n is the norm of a channel over its mean over all channels.
    """

    def __init__(self, channels: int, eps: float, axis: int = 1) -> None:
        super().__init__()
        self.eps, self.axis = eps, axis
        self.weight = nn.Parameter(torch.zeros(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        image = [axis for axis in (1, 2, 3) if axis != self.axis]
        norm = torch.linalg.vector_norm(x, dim=image, keepdim=True)
        norm = norm / (norm.mean(dim=self.axis, keepdim=True) + self.eps)
        weight, bias = along(self.weight, self.axis, 4), along(self.bias, self.axis, 4)
        # The norm's factor is computed for each channel, not for each pixel.
        return torch.addcmul(bias, x, 1 + weight * norm)


class Attend(nn.Module):
    """softmax(scale * Q K^T) V of (N, L, 3 * heads * size): all queries, then keys, then values, each head after head.

    The result is (N, L, heads * size).
    """

    def __init__(self, heads: int, size: int, scale: float) -> None:
        super().__init__()
        self.heads, self.size, self.scale = heads, size, scale

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, _ = x.shape
        q, k, v = x.reshape(n, tokens, 3, self.heads, self.size).permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return attended.transpose(1, 2).reshape(n, tokens, self.heads * self.size)

    def extra_repr(self) -> str:
        return f"{self.heads} heads of {self.size}, scale {self.scale:g}"


class Select(nn.Module):
    """Some channels of a value, by runs of their positions, which are no part of the state dict.

    One run is a view. In channels_last, few runs are copied one by one, and more are gathered in rows of pixels:
    index_select, which goes by planes, takes 5 to 30 times as long there, and its result is contiguous.
    """

    index: Tensor

    def __init__(self, runs: list[list[int]], layout: str, axis: int = 1) -> None:
        super().__init__()
        self.runs, self.layout, self.axis = [(start, stop) for start, stop in runs], layout, axis
        # On the CPU even where the weights are on the meta device, as they are before a file is read.
        index = torch.cat([torch.arange(start, stop, device="cpu") for start, stop in runs])
        self.register_buffer("index", index, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if len(self.runs) == 1:
            start, stop = self.runs[0]
            return x.narrow(self.axis, start, stop - start)
        last = self.axis == x.ndim - 1 > 1
        if not last and (self.layout == "contiguous" or x.ndim != 4):
            return torch.index_select(x, self.axis, self.index)
        if len(self.runs) <= MOST_RUNS:
            return torch.cat([x.narrow(self.axis, start, stop - start) for start, stop in self.runs], dim=self.axis)
        rows = x if last else x.permute(0, 2, 3, 1)
        flat = rows.reshape(-1, rows.shape[-1])
        gathered = torch.gather(flat, 1, self.index.expand(flat.shape[0], -1))
        gathered = gathered.view(*rows.shape[:-1], -1)
        return gathered if last else gathered.permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        return f"{len(self.index)} channels in {len(self.runs)} runs, {self.layout}"
