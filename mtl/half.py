"""Autocast for batched networks: `torch.autocast` does not reach convolutions within `torch.vmap`.

There a convolution is taken apart before autocast sees it, and would be computed in float32.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# Those of torch.autocast's lists that networks call: what is computed in the shorter type, and on CUDA in float32.
SHORTER = {
    *(torch.conv1d, torch.conv2d, torch.conv3d),
    *(torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
    *(F.linear, F.scaled_dot_product_attention, torch.addmm, torch.baddbmm),
    *(torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.__rmatmul__),
    *(torch.mm, torch.Tensor.mm, torch.bmm, torch.Tensor.bmm),
}
LONGER = {
    *(torch.layer_norm, F.layer_norm, torch.group_norm, F.group_norm),
    *(torch.softmax, torch.Tensor.softmax, torch.log_softmax, torch.Tensor.log_softmax),
    *(torch.exp, torch.Tensor.exp, torch.pow, torch.Tensor.pow, torch.Tensor.__pow__, torch.rsqrt, torch.Tensor.rsqrt),
}
# Computed in float32 and given in bfloat16, as their kernels do; their rule for batches refuses two types at once.
NORMS = {F.batch_norm, torch.batch_norm, F.instance_norm, torch.instance_norm}


class Autocast(TorchFunctionMode):
    """Within it a network computes in bfloat16 what it would under `torch.autocast(device.type, torch.bfloat16)`."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._longer = LONGER if device.type == "cuda" else set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in NORMS and args[0].dtype == torch.bfloat16 and _functorch.is_batchedtensor(args[0]):
            return func(args[0].float(), *args[1:], **kwargs).to(torch.bfloat16)
        dtype = torch.bfloat16 if func in SHORTER else torch.float32 if func in self._longer else None
        if dtype is None:
            return func(*args, **kwargs)
        return func(*(_cast(one, dtype) for one in args), **{name: _cast(one, dtype) for name, one in kwargs.items()})


def _cast(value: Any, dtype: torch.dtype) -> Any:
    # As autocast, which leaves float64 alone.
    if isinstance(value, Tensor) and value.is_floating_point() and value.dtype not in (dtype, torch.float64):
        return value.to(dtype)
    return value
