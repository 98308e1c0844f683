"""Bilinear enlargement of a window of each image, with a window of its own for each."""

import torch
from torch import Tensor

from mtl.datasets.batches.same_bits import same_bits

CACHED = 2**18  # numbers that are worked on at once on a CPU


def window_positions(side: int, scale: Tensor, place: Tensor) -> Tensor:
    """(N, side): where in the source, in pixels, each pixel of the enlarged window looks.

    scale: (N,), the window's side as a share of the source's. place: (N,) in [0, 1], from the first pixel to the last.
    """
    start = place * (1 - scale) * side
    cell = (torch.arange(side, device=scale.device) + 0.5) * scale[:, None]
    return (start[:, None] + cell - 0.5).clamp(0, side - 1)


def enlarge(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(N, 3, H, W) images read at the rows (N, H) and columns (N, W), in pixels; channels last in memory.

    The numbers of trials on a CPU rest on `by_products`. `by_reading` gives the same in a third of the time,
    bit for bit where the matrix product of the machine's library adds up from the first to the last number and rounds
    each step once (MKL with AVX-512, sides up to 384): so it is taken where it is seen to, and on other devices.
    """
    if images.device.type == "cpu" and not same_bits(_read_noise, _multiply_noise, tuple(images.shape)):
        return by_products(images, rows, columns)
    return by_reading(images, rows, columns)


def by_products(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """As two products with dense matrices, whose rows hold two weights each."""
    height, width = images.shape[2:]
    enlarged = _matrices(rows, height) @ images.contiguous() @ _matrices(columns, width).transpose(2, 3)
    return enlarged.contiguous(memory_format=torch.channels_last)


def by_reading(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """From the two pixels that each position lies between: first down the rows, then along them."""
    count, channels, height, width = images.shape
    lines = images.permute(0, 2, 3, 1).reshape(count, height, width * channels)
    before, after, share_before, share_after = _neighbours(rows, height)
    left, right, share_left, share_right = (x.repeat_interleave(channels, dim=1) for x in _neighbours(columns, width))
    # Along a row the numbers of a pixel lie side by side.
    channel = torch.arange(channels, device=images.device).repeat(width)
    left, right = left * channels + channel, right * channels + channel
    result = torch.empty_like(lines)
    # A megabyte stays in a CPU's cache, which a batch of large images does not; a GPU is given all at once.
    step = max(1, CACHED // (height * width * channels)) if images.device.type == "cpu" else count
    for start in range(0, count, step):
        own = slice(start, start + step)
        source = lines[own]
        down = _lines(source, before[own]).mul_(share_before[own, :, None])
        # `addcmul` rounds once, as the matrix products do.
        down.addcmul_(_lines(source, after[own]), share_after[own, :, None])
        along = down.gather(2, left[own, None].expand_as(down)).mul_(share_left[own, None])
        of_right = down.gather(2, right[own, None].expand_as(down))
        torch.addcmul(along, of_right, share_right[own, None], out=result[own])
    return result.view(count, height, width, channels).permute(0, 3, 1, 2)


def _lines(source: Tensor, chosen: Tensor) -> Tensor:
    """source (N, H, L), chosen (N, H) -> (N, H, L): the lines chosen of each image."""
    count, height, length = source.shape
    first = torch.arange(0, count * height, height, device=source.device)[:, None]
    return source.view(-1, length).index_select(0, (first + chosen).flatten()).view(source.shape)


def _neighbours(positions: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of each position the index of the pixel before it, of the one after it, and the shares of the two."""
    before = positions.floor().long()
    shares = 1 - (positions - before).abs(), 1 - (positions - (before + 1)).abs()
    return before, (before + 1).clamp(max=side - 1), *shares


def _matrices(positions: Tensor, side: int) -> Tensor:
    """(N, 1, side, side): the matrices that interpolate linearly at the positions."""
    return (1 - (positions[:, :, None] - torch.arange(side, device=positions.device)).abs()).clamp(min=0)[:, None]


def _read_noise(noise: Tensor, place: float) -> Tensor:
    return by_reading(noise.contiguous(memory_format=torch.channels_last), *_windows(noise, place))


def _multiply_noise(noise: Tensor, place: float) -> Tensor:
    return by_products(noise.contiguous(memory_format=torch.channels_last), *_windows(noise, place))


def _windows(noise: Tensor, place: float) -> tuple[Tensor, Tensor]:
    count, _, height, width = noise.shape
    scale = torch.linspace(0.6, 0.97, count)
    return window_positions(height, scale, torch.tensor(place)), window_positions(width, scale, torch.tensor(place))
