"""Whether a fast way to compute something gives, on this machine, the very bits of the plain way."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

PLACES = (0.0, 0.5, 1.0)


def same_bits(
    fast: Callable[[Tensor, float], Tensor], plain: Callable[[Tensor, float], Tensor], shape: tuple[int, ...]
) -> bool:
    """Whether the two agree in every bit on images of noise of this shape.

    A matrix product of the same numbers rounds differently from one library, processor and size to the next. A trial's
    numbers, though, may only change with its id: so the fast way is taken only where it is seen to change nothing.
    Found out once for each shape and number of threads, which takes as long as three batches.

    fast, plain: of the images and a number in [0, 1], such as where a window lies. Functions of a module, as they are
    what is remembered.
    """
    return _agree(fast, plain, shape, torch.get_num_threads())


@functools.lru_cache(maxsize=256)
def _agree(
    fast: Callable[[Tensor, float], Tensor],
    plain: Callable[[Tensor, float], Tensor],
    shape: tuple[int, ...],
    threads: int,
) -> bool:
    # A generator of its own: to ask must not change what anybody else draws.
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for place in PLACES:
            noise = torch.rand(shape, generator=generator)
            if not torch.equal(fast(noise, place), plain(noise, place)):
                return False
    return True
