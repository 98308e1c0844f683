"""Networks of one structure as one batched network: each tensor of theirs becomes a part of one with all of theirs."""

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._C import _functorch
from torch.func import functional_call, vmap
from torch.nn import functional as F

from mtl.networks.model import features_and_outputs

Answer = Mapping[str, Tensor]

# Layers that multiply what they get by random numbers that do not depend on it, by package and name.
MASKS = {*(("torch", name) for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d")), ("timm", "DropPath")}


class Stack:
    """K networks of one structure, whose parameters and buffers are from now on views of tensors (K, ...).

    So one pass of `forward` is a pass of each of them: convolutions become convolutions in groups, and what it changes,
    such as the running means of batch norm, changes in the networks. Their tensors keep their identity and their order
    in memory; an optimizer that holds them steps them as before. `separate` gives a network its own tensors back.

    Attributes:
        parameters: (K, ...) by name; the only tensors that `forward` is differentiated by.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self._networks = [dict(model.named_parameters()) for model in models]
        self._shell = _Shell(models[0])
        self.parameters = {
            name: _joined([one[name] for one in self._networks]).requires_grad_(own.requires_grad)
            for name, own in self._networks[0].items()
        }
        buffers = [dict(model.named_buffers()) for model in models]
        # All of one kind in one piece of memory, so that it takes one copy to be able to undo a pass.
        self._blocks: dict[torch.dtype, Tensor] = {}
        self._buffers = self._join_buffers(buffers)
        counts = (f"{name}.num_batches_tracked" for name, module in models[0].named_modules() if _is_plain_norm(module))
        self._counts = [self._buffers[name] for name in counts]

    def forward(
        self,
        images: Tensor,
        targets: Answer | None,
        outputs_of: Callable[[Callable[[], Answer], Answer | None], Answer],
        randomness: Sequence[AbstractContextManager[None]],
    ) -> Answer:
        """What `outputs_of(network, targets)` gives for each network, which is called once for all: {name: (K, ...)}.

        images: (K, N, 3, H, W). targets: (K, ...) each; without them the networks run in eval mode. network: computes
        one network's outputs of its images. randomness: for each network, within which it draws random numbers.
        Raises torch's errors for what cannot be batched, such as a random layer that is none of `MASKS`.
        """
        train = targets is not None
        self._shell.train(train)
        self._shell.randomness[:] = randomness
        parameters = {f"model.{name}": tensor for name, tensor in self.parameters.items()}
        buffers = {f"model.{name}": tensor for name, tensor in self._buffers.items()}

        def one(numbers: Answer, images: Tensor, targets: Answer) -> Answer:
            def network() -> Answer:
                outputs: Answer = functional_call(self._shell, dict(numbers), (images, train), strict=True)
                return outputs

            return outputs_of(network, targets if train else None)

        found: Answer = vmap(one, randomness="error")({**parameters, **buffers}, images, targets or {})
        if train and self._counts:
            torch._foreach_add_(self._counts, 1)
        return found

    def drop_gradients(self) -> None:
        """Leave the networks without gradients, so that their memory is free for the next ones."""
        for own in self._networks:
            for parameter in own.values():
                parameter.grad = None

    def hand_out_gradients(self) -> None:
        """Give each network its part of the gradients that `parameters` have, and leave these without."""
        for name, stacked in self.parameters.items():
            gradients = [None] * len(self._networks) if stacked.grad is None else stacked.grad.unbind()
            for own, gradient in zip(self._networks, gradients, strict=True):
                own[name].grad = gradient
            stacked.grad = None

    def buffers(self) -> list[Tensor]:
        """A copy of what the floating buffers of all networks hold, one tensor for each type."""
        return [block.clone() for dtype, block in self._blocks.items() if dtype.is_floating_point]

    def before_pass(self) -> Callable[[], None]:
        """Remember what the buffers hold; the result undoes a pass, whether it has ended or failed."""
        before = {dtype: block.clone() for dtype, block in self._blocks.items()}

        def restore() -> None:
            for dtype, block in self._blocks.items():
                block.copy_(before[dtype])
            for stacked in self.parameters.values():
                stacked.grad = None

        return restore

    def _join_buffers(self, buffers: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        names: dict[torch.dtype, list[str]] = {}
        for name, buffer in buffers[0].items():
            names.setdefault(buffer.dtype, []).append(name)
        joined = {}
        for dtype, own in names.items():
            sizes = [buffers[0][name].numel() * len(buffers) for name in own]
            device = buffers[0][own[0]].device
            self._blocks[dtype] = block = torch.empty(sum(sizes), dtype=dtype, device=device)
            for name, part in zip(own, block.split(sizes), strict=True):
                stacked = part.view(len(buffers), *buffers[0][name].shape)
                for index, one in enumerate(buffers):
                    stacked[index].copy_(one[name])
                    one[name].data = stacked[index]
                joined[name] = stacked
        return joined


class _Shell(nn.Module):
    """A network without numbers, through which others' are run."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = _without_numbers(model)
        self.randomness: list[AbstractContextManager[None]] = []
        for parent in list(self.model.modules()):
            for name, module in list(parent.named_children()):
                if type(module) is nn.AdaptiveAvgPool2d and module.output_size in (1, (1, 1)):
                    setattr(parent, name, _Mean())
                elif _is_plain_norm(module):
                    setattr(parent, name, _Norm(cast(nn.BatchNorm2d, module)))
                elif (type(module).__module__.partition(".")[0], type(module).__name__) in MASKS:
                    setattr(parent, name, _OwnMasks(module, self.randomness))

    def forward(self, images: Tensor, train: bool) -> Answer:
        # As `mtl.training.Training.serve` runs it.
        return features_and_outputs(self.model, images)[1] if train else self.model(images)


class _Mean(nn.Module):
    """Adaptive average pooling to one pixel, by the same sums; it has a batching rule, in every order in memory."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(-2, -1), keepdim=True)


class _Norm(nn.Module):
    """Batch norm of all networks' channels as the channels of one, in one operation.

    The rule for batches of `torch.vmap` has three operations for it and six backward, and in bfloat16 four more. That
    of a `torch.autograd.Function` would have one, but takes the host longer than all of these. The networks' counts of
    batches are the stack's.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.momentum = cast(float, norm.momentum)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))

    def forward(self, x: Tensor) -> Tensor:
        numbers = [cast(Tensor, one) for one in (self.running_mean, self.running_var, self.weight, self.bias)]
        whole, dimension = _functorch.get_unwrapped(x), _functorch.maybe_get_bdim(x)
        whole = whole.movedim(dimension, 1)  # (N, K, C, H, W)
        # All are (K, C), as `Stack.forward` has them batched along their first dimension.
        mean, variance, weight, bias = (_functorch.get_unwrapped(one).flatten() for one in numbers)
        flat = whole.flatten(1, 2)
        result = F.batch_norm(flat, mean, variance, weight, bias, self.training, self.momentum, self.eps)
        level = _functorch.maybe_get_level(x)
        return cast(Tensor, _functorch._add_batch_dim(result.unflatten(1, whole.shape[1:3]), 1, level))


def _is_plain_norm(module: nn.Module) -> bool:
    """Whether `_Norm` does what this layer does."""
    return (
        type(module) is nn.BatchNorm2d
        and module.affine
        and module.track_running_stats
        and module.momentum is not None  # else it counts batches
    )


class _OwnMasks(nn.Module):
    """A layer that multiplies by random numbers: each network draws its own, as it would by itself."""

    def __init__(self, layer: nn.Module, randomness: Sequence[AbstractContextManager[None]]) -> None:
        super().__init__()
        self.layer, self.randomness = layer, randomness
        self.in_place = getattr(layer, "inplace", False)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = _Masked.apply(x, self) if self.training else x
        return found


class _Masked(torch.autograd.Function):
    """Only its rule for batches is ever used: torch runs that outside of `vmap`, where each network can draw."""

    @staticmethod
    def forward(x: Tensor, masks: _OwnMasks) -> Tensor:
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, masks: _OwnMasks) -> tuple[Tensor, int]:
        assert in_dims[0] is not None
        x = x.movedim(in_dims[0], 0)
        # A network by itself has its maps in this order in memory, and random numbers go by it.
        order = torch.channels_last if x.ndim == 5 else torch.contiguous_format
        ones = torch.ones(x.shape[1:], dtype=x.dtype, device=x.device).contiguous(memory_format=order)
        drawn = []
        for own in masks.randomness:
            with own, torch.no_grad():
                drawn.append(masks.layer(ones.clone() if masks.in_place else ones))
        return x * torch.stack(drawn), 0


def structure(model: nn.Module) -> Hashable:
    """Equal for networks that may be stacked: of the same modules, and of tensors alike in all but their numbers."""
    modules = tuple((name, type(module), module.extra_repr()) for name, module in model.named_modules())
    parameters = tuple((name, p.requires_grad, *_form(p)) for name, p in model.named_parameters())
    return modules, parameters, tuple((name, *_form(buffer)) for name, buffer in model.named_buffers())


def separate(model: nn.Module) -> None:
    """Give a network that is part of a stack its own tensors back."""
    for tensor in (*model.parameters(), *model.buffers()):
        if _is_part(tensor):
            tensor.data = tensor.data.clone()


def own_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without parts of larger tensors: torch.save writes, and copy.deepcopy copies, the whole of these."""
    return {name: tensor.clone() if _is_part(tensor) else tensor for name, tensor in state.items()}


def _is_part(tensor: Tensor) -> bool:
    return tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size()


def _form(tensor: Tensor) -> tuple[Hashable, ...]:
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """(K, ...) of tensors alike, which become views of it."""
    first = parts[0]
    whole = first.new_empty(0).set_(
        first.new_empty(len(parts) * first.numel()).untyped_storage(),
        0,
        (len(parts), *first.shape),
        (first.numel(), *first.stride()),
    )
    for slot, part in zip(whole.unbind(), parts, strict=True):
        slot.copy_(part.detach())
        part.data = slot
    return whole


def _without_numbers(model: nn.Module) -> nn.Module:
    """A copy on the meta device."""
    memo: dict[int, Tensor] = {}
    for parameter in model.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(model, memo)
